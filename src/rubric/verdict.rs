use serde::{Deserialize, Serialize};

use super::{Score, VerdictError};

/// White space of the grammar: space, tab, carriage return, line feed.
pub(super) const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];
/// The six tags in their order.
pub(super) const TAGS: [&str; 6] = ["<rubric>", "</rubric>", "<eval>", "</eval>", "<score>", "</score>"];
const THINK: [&str; 2] = ["<think>", "</think>"];
const CRITERION: &str = "name: what earns marks (weight)";
const REMARK: &str = "name: remark";

/// How the text came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model stopped by itself.
    Stopped,
    /// The token limit was reached.
    CutOff,
}

/// A criterion that the judge wrote for this very conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedCriterion {
    /// Name, without a colon.
    pub name: String,
    /// What earns marks.
    pub text: String,
    /// Weight, above 0 and finite; no scale is prescribed.
    pub weight: f64,
}

/// What the judge says on one criterion, primary or generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Name of the criterion as the judge wrote it.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A judgement that keeps to the output grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The generated rubric; at least one criterion.
    pub rubric: Vec<GeneratedCriterion>,
    /// One remark a line; at least one.
    pub eval: Vec<Remark>,
    /// The score.
    pub score: Score,
}

impl Verdict {
    /// Reads a judgement strictly:
    ///
    /// ```text
    /// <think> anything </think>              once at most, first
    /// <rubric>
    /// name: what earns marks (weight)        one line or more; weight is a decimal number above 0
    /// </rubric>
    /// <eval>
    /// name: remark                           one line or more
    /// </eval>
    /// <score>7.5</score>                     1 to 10, at most one decimal, no sign, no leading zero
    /// ```
    ///
    /// White space (space, tab, carriage return, line feed) is free between the parts, before the first, after the last,
    /// around a part's lines and around the score; blank lines do not count. Names hold no colon. Every tag is written
    /// exactly as above and stands once, in this order; a tag quoted within a line counts as that tag. Nothing else may
    /// stand outside the parts. Where a prompt already opened the thinking, the caller puts `<think>` in front of `text`.
    ///
    /// # Errors
    /// The first of: silence; a tag doubled, out of order, cut off or missing; text outside the parts; a bad score; a part
    /// without lines; a line of the wrong form.
    pub fn parse(text: &str, ending: Ending) -> Result<Self, VerdictError> {
        let (score, rubric, eval) = read(text, ending, Score::parse)?;
        Ok(Self { rubric, eval, score })
    }

    /// Names of criteria, of `primary` and of the generated rubric, on which there is no remark.
    pub fn without_remark<'a>(&'a self, primary: &'a [super::Criterion]) -> Vec<&'a str> {
        let generated = self.rubric.iter().map(|criterion| criterion.name.as_str());
        let names = primary.iter().map(|criterion| criterion.name.as_str()).chain(generated);
        names.filter(|name| !self.eval.iter().any(|remark| remark.name == *name)).collect()
    }
}

/// A judgement of two responses side by side that keeps to the output grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairVerdict {
    /// The generated rubric; at least one criterion.
    pub rubric: Vec<GeneratedCriterion>,
    /// One remark a line; at least one.
    pub eval: Vec<Remark>,
    /// The scores of the responses in the order in which the prompt showed them.
    pub scores: [Score; 2],
}

impl PairVerdict {
    /// Reads a judgement of two responses as strictly as [`Verdict::parse`] reads one of one: the grammar is the same but for
    /// the last part, `<score>7.5, 4</score>`: the first response's score, a comma, the second's. White space is free around
    /// both.
    ///
    /// # Errors
    /// As [`Verdict::parse`]; [`VerdictError::ScoreCount`] where there are not two.
    pub fn parse(text: &str, ending: Ending) -> Result<Self, VerdictError> {
        let (scores, rubric, eval) = read(text, ending, two_scores)?;
        Ok(Self { rubric, eval, scores })
    }
}

fn two_scores(text: &str) -> Result<[Score; 2], VerdictError> {
    let both = text.split_once(',').filter(|(_, second)| !second.contains(','));
    let missing = || VerdictError::ScoreCount { text: text.chars().take(40).collect() };
    let (first, second) = both.ok_or_else(missing)?;
    Ok([Score::parse(first.trim_matches(WHITE))?, Score::parse(second.trim_matches(WHITE))?])
}

/// The last part read by `score`, then the lines of the first two.
#[allow(clippy::type_complexity)] // the three parts of the grammar, in the order in which they can fail
fn read<S>(
    text: &str,
    ending: Ending,
    score: impl Fn(&str) -> Result<S, VerdictError>,
) -> Result<(S, Vec<GeneratedCriterion>, Vec<Remark>), VerdictError> {
    let [rubric, eval, scored] = parts(after_thinking(text, ending)?, ending)?;
    let score = score(scored.trim_matches(WHITE))?;
    let rubric = lines(rubric, TAGS[0], CRITERION, criterion)?;
    Ok((score, rubric, lines(eval, TAGS[2], REMARK, remark)?))
}

/// The text after the thinking block, if it has one.
fn after_thinking(text: &str, ending: Ending) -> Result<&str, VerdictError> {
    let text = text.trim_matches(WHITE);
    if text.is_empty() && ending == Ending::Stopped {
        return Err(VerdictError::Silent);
    }
    let rest = match text.strip_prefix(THINK[0]) {
        None => text,
        Some(thinking) => match thinking.split_once(THINK[1]) {
            Some((_, rest)) => rest,
            None => return Err(absent(THINK[1], ending)),
        },
    };
    match THINK.into_iter().find(|tag| rest.contains(tag)) {
        Some(tag) => Err(VerdictError::WrongOrder { tag }),
        None => Ok(rest),
    }
}

fn absent(tag: &'static str, ending: Ending) -> VerdictError {
    match ending {
        Ending::Stopped => VerdictError::MissingTag { tag },
        Ending::CutOff => VerdictError::CutOff { awaited: tag },
    }
}

/// The contents of the three parts, once all six tags are in place and nothing stands outside.
fn parts(text: &str, ending: Ending) -> Result<[&str; 3], VerdictError> {
    let at = positions(text, ending)?;
    let end = |tag: usize| at[tag] + TAGS[tag].len();
    let outside = [(0, at[0], 0), (end(1), at[2], 2), (end(3), at[4], 4), (end(5), text.len(), 5)];
    for (from, to, tag) in outside {
        let stray = text[from..to].trim_matches(WHITE);
        if !stray.is_empty() {
            return Err(VerdictError::StrayText { tag: TAGS[tag], text: stray.chars().take(40).collect() });
        }
    }
    Ok([&text[end(0)..at[1]], &text[end(2)..at[3]], &text[end(4)..at[5]]])
}

/// Byte positions of the six tags.
fn positions(text: &str, ending: Ending) -> Result<[usize; 6], VerdictError> {
    let mut found = [None; 6];
    for (tag, place) in TAGS.into_iter().zip(&mut found) {
        let mut matches = text.match_indices(tag).map(|(at, _)| at);
        *place = matches.next();
        if matches.next().is_some() {
            return Err(VerdictError::Doubled { tag });
        }
    }
    let mut last = 0;
    for (tag, place) in TAGS.into_iter().zip(found) {
        if place.is_some_and(|at| at < last) {
            return Err(VerdictError::WrongOrder { tag });
        }
        last = place.unwrap_or(last);
    }
    let Some(first_absent) = found.iter().position(Option::is_none) else {
        return Ok(found.map(|place| place.expect("no tag is absent")));
    };
    let later = found[first_absent..].iter().any(Option::is_some);
    Err(absent(TAGS[first_absent], if later { Ending::Stopped } else { ending }))
}

fn lines<T>(
    part: &str,
    tag: &'static str,
    form: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, VerdictError> {
    let filled = part.split('\n').map(|line| line.trim_matches(WHITE)).filter(|line| !line.is_empty());
    let read = filled
        .enumerate()
        .map(|(index, line)| read(line).ok_or(VerdictError::BadLine { tag, line: index + 1, form }));
    let lines = read.collect::<Result<Vec<_>, _>>()?;
    if lines.is_empty() { Err(VerdictError::EmptyPart { tag }) } else { Ok(lines) }
}

fn remark(line: &str) -> Option<Remark> {
    let (name, text) = line.split_once(':')?;
    let (name, text) = (name.trim_matches(WHITE), text.trim_matches(WHITE));
    (!name.is_empty() && !text.is_empty()).then(|| Remark { name: name.into(), text: text.into() })
}

fn criterion(line: &str) -> Option<GeneratedCriterion> {
    let Remark { name, text } = remark(line)?;
    let (text, weight) = text.strip_suffix(')')?.rsplit_once('(')?;
    let (text, weight) = (text.trim_matches(WHITE), weight.trim_matches(WHITE));
    let decimal = weight.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let weight: f64 = weight.parse().ok().filter(|_| decimal)?;
    let sound = !text.is_empty() && weight > 0.0 && weight.is_finite();
    sound.then(|| GeneratedCriterion { name, text: text.into(), weight })
}
