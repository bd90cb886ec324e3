use super::verdict::{TAGS, WHITE};

/// A set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// Space, tab, carriage return, line feed.
    White,
    /// An ASCII digit within these bounds.
    Digit(char, char),
    /// What a name is made of: no control character, `<` or `:`.
    Name,
    /// What the rest of a line is made of: no control character and no `<`.
    Line,
    /// As `Name`, but no white space.
    NameStart,
    /// As `Line`, but no white space.
    LineStart,
}

impl Characters {
    /// Whether the set holds `character`.
    pub fn contains(self, character: char) -> bool {
        let line = !character.is_control() && character != '<';
        match self {
            Self::White => WHITE.contains(&character),
            Self::Digit(first, last) => (first..=last).contains(&character),
            Self::Line => line,
            Self::Name => line && character != ':',
            Self::LineStart => line && !character.is_whitespace(),
            Self::NameStart => line && character != ':' && !character.is_whitespace(),
        }
    }
}

/// A rule of a regular grammar, for decoding that is held to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Exactly this text.
    Literal(&'static str),
    /// One character of a set.
    One(Characters),
    /// All of these, in order.
    Sequence(Vec<Rule>),
    /// Any one of these.
    Choice(Vec<Rule>),
    /// The rule at least `least` times, without an upper bound.
    AtLeast {
        /// Smallest number of repetitions.
        least: usize,
        /// What is repeated.
        rule: Box<Rule>,
    },
}

/// The output grammar without thinking, as a rule. Each sentence of it is a text that [`super::Verdict::parse`] accepts;
/// it is a little narrower than the parser: lines hold no `<`, parts are parted by one line feed or nothing,
/// and weights stay below 100.
pub fn verdict_rule() -> Rule {
    judgement(score())
}

/// The same for two responses side by side: each sentence is a text that [`super::PairVerdict::parse`] accepts.
pub fn pair_verdict_rule() -> Rule {
    judgement(sequence(vec![score(), Rule::Literal(", "), score()]))
}

fn digit(from: char, to: char) -> Rule {
    Rule::One(Characters::Digit(from, to))
}

fn tenth() -> Rule {
    Rule::Choice(vec![Rule::Literal(""), sequence(vec![Rule::Literal("."), digit('0', '9')])])
}

fn score() -> Rule {
    let ten = sequence(vec![Rule::Literal("10"), Rule::Choice(vec![Rule::Literal(""), Rule::Literal(".0")])]);
    Rule::Choice(vec![ten, sequence(vec![digit('1', '9'), tenth()])])
}

/// The three parts, with `scored` in the last.
fn judgement(scored: Rule) -> Rule {
    let name = || sequence(vec![Rule::One(Characters::NameStart), any(Rule::One(Characters::Name))]);
    let text = || sequence(vec![Rule::One(Characters::LineStart), any(Rule::One(Characters::Line))]);
    let second = Rule::Choice(vec![Rule::Literal(""), digit('0', '9')]);
    let weight = sequence(vec![digit('1', '9'), second, tenth()]);
    let remark = sequence(vec![name(), Rule::Literal(": "), text()]);
    let criterion =
        sequence(vec![name(), Rule::Literal(": "), text(), Rule::Literal(" ("), weight, Rule::Literal(")")]);
    let part = |index: usize, body: Rule| {
        sequence(vec![Rule::Literal(TAGS[index]), gap(), body, gap(), Rule::Literal(TAGS[index + 1])])
    };
    sequence(vec![
        part(0, separated(criterion)),
        gap(),
        part(2, separated(remark)),
        gap(),
        Rule::Literal(TAGS[4]),
        scored,
        Rule::Literal(TAGS[5]),
    ])
}

fn sequence(rules: Vec<Rule>) -> Rule {
    Rule::Sequence(rules)
}

fn any(rule: Rule) -> Rule {
    Rule::AtLeast { least: 0, rule: Box::new(rule) }
}

/// Nothing or one line feed.
fn gap() -> Rule {
    Rule::Choice(vec![Rule::Literal(""), Rule::Literal("\n")])
}

/// One line or more, a line feed between each two.
fn separated(line: Rule) -> Rule {
    let next = sequence(vec![Rule::Literal("\n"), line.clone()]);
    sequence(vec![line, any(next)])
}
