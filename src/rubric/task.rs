use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::template::Template;
use super::verdict::TAGS;

/// A primary criterion of a task, the same for every conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Name, unique within the task; no colon or line break.
    pub name: String,
    /// What earns marks.
    pub text: String,
}

/// A judging task: its criteria, its instructions, and how its prompt is laid out. All slots are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub(super) criteria: Vec<Criterion>,
    pub(super) instructions: String,
    pub(super) system: Option<Layout>,
    pub(super) turn: Layout,
    pub(super) alone: View,
    pub(super) pair: View,
    pub(super) template: Template,
}

/// How responses are shown to the judge: one alone, or two side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) user: Layout,
    pub(super) grammar: String,
    /// Names that content must not be able to use as tags.
    pub(super) tags: Vec<String>,
}

impl Task {
    /// The primary criteria.
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }
}

/// A task file. All text is trusted: it is the user's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    criteria: Vec<Criterion>,
    #[serde(default)]
    instructions: String,
    #[serde(default)]
    layout: LayoutFile,
    template: Option<Template>,
}

/// The `[layout]` of a task file; what is absent is taken from `layout.toml`, except for the system turn.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutFile {
    system: Option<String>,
    user: Option<String>,
    turn: Option<String>,
    grammar: Option<String>,
    pair: Option<String>,
    pair_grammar: Option<String>,
}

const SYSTEM_SLOTS: [&str; 4] = ["task", "criteria", "instructions", "grammar"];
const USER_SLOTS: [&str; 6] = ["task", "criteria", "instructions", "grammar", "conversation", "response"];
const PAIR_SLOTS: [&str; 7] =
    ["task", "criteria", "instructions", "grammar", "conversation", "first", "second"];
const TURN_SLOTS: [&str; 2] = ["role", "content"];
pub(super) const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

impl TaskFile {
    /// Checks the file's layouts and criteria; the error is a sentence.
    pub(super) fn check(self) -> Result<Task, String> {
        let standard: LayoutFile = toml::from_str(include_str!("layout.toml")).map_err(|e| e.to_string())?;
        let pick = |own: Option<String>, standard: Option<String>| own.or(standard).unwrap_or_default();
        let user = pick(self.layout.user, standard.user);
        let user = Layout::parse(&user, &USER_SLOTS).map_err(|e| format!("layout.user: {e}"))?;
        let pair = pick(self.layout.pair, standard.pair);
        let pair = Layout::parse(&pair, &PAIR_SLOTS).map_err(|e| format!("layout.pair: {e}"))?;
        let turn = pick(self.layout.turn, standard.turn);
        let turn = Layout::parse(&turn, &TURN_SLOTS).map_err(|e| format!("layout.turn: {e}"))?;
        let system = self.layout.system.map(|text| Layout::parse(&text, &SYSTEM_SLOTS)).transpose();
        let system = system.map_err(|e| format!("layout.system: {e}"))?;
        check_criteria(&self.criteria)?;
        check_user("layout.user", &user, &["response"])?;
        check_user("layout.pair", &pair, &["first", "second"])?;
        check_turn(&turn)?;
        let template = self.template.map_or_else(Template::standard, Ok)?;
        template.check()?;
        let view = |user: Layout, grammar| {
            let tags = tag_names(system.iter().chain([&user, &turn]), &turn);
            View { user, grammar, tags }
        };
        Ok(Task {
            criteria: self.criteria,
            instructions: self.instructions.trim_end().to_owned(),
            alone: view(user, pick(self.layout.grammar, standard.grammar)),
            pair: view(pair, pick(self.layout.pair_grammar, standard.pair_grammar)),
            system,
            turn,
            template,
        })
    }
}

fn check_criteria(criteria: &[Criterion]) -> Result<(), String> {
    if criteria.is_empty() {
        return Err("a task needs at least one criterion".into());
    }
    for (index, Criterion { name, text }) in criteria.iter().enumerate() {
        if name.trim() != name || name.is_empty() || name.contains([':', '\n', '\r', '<']) {
            return Err(format!(
                "criterion name `{name}`: give a name without colon, `<`, line break or outer blanks"
            ));
        }
        if text.trim().is_empty() {
            return Err(format!("criterion `{name}` has no text"));
        }
        if criteria[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("criterion `{name}` stands twice"));
        }
    }
    Ok(())
}

/// One conversation, then each of `responses` once: they come last of all slots, in this order.
fn check_user(name: &str, user: &Layout, responses: &[&'static str]) -> Result<(), String> {
    let slots = user.slots();
    for once in ["conversation"].iter().chain(responses) {
        if slots.iter().filter(|slot| *slot == once).count() != 1 {
            return Err(format!("{name}: `{{{once}}}` must stand exactly once"));
        }
    }
    if slots.ends_with(responses) {
        return Ok(());
    }
    let last: Vec<_> = responses.iter().map(|slot| format!("`{{{slot}}}`")).collect();
    let slots = if last.len() == 1 { "the last slot" } else { "the last slots, in this order" };
    Err(format!("{name}: {} must be {slots}, so that all before is shared", last.join(" and ")))
}

/// The content of a turn once; roles only as tags, which content cannot forge.
fn check_turn(turn: &Layout) -> Result<(), String> {
    if turn.slots().iter().filter(|slot| **slot == "content").count() != 1 {
        return Err("layout.turn: `{content}` must stand exactly once".into());
    }
    if !turn.only_as_tag("role") {
        return Err(
            "layout.turn: write `<{role}>` and `</{role}>`: a role that is no tag could be forged".into()
        );
    }
    Ok(())
}

fn tag_names<'a>(layouts: impl Iterator<Item = &'a Layout>, turn: &Layout) -> Vec<String> {
    let verdict = TAGS.iter().map(|tag| tag.trim_matches(['<', '/', '>']).to_owned());
    let mut names: std::collections::BTreeSet<_> = verdict.chain(["think".to_owned()]).collect();
    layouts.for_each(|layout| names.extend(layout.tag_names()));
    if turn.slots().contains(&"role") {
        names.extend(ROLES.map(String::from));
    }
    names.into_iter().collect()
}
