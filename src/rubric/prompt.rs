use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::neutral::neutralise;
use super::task::{ROLES, Task, TaskFile, View};
use crate::tokenizer::{Message, Role};

/// What can be wrong with task files, or with a request for a prompt.
#[derive(Debug, Error)]
pub enum RubricError {
    /// There is no task of that name.
    #[error("no judging task is named `{task}`: there are {known}")]
    UnknownTask {
        /// The name asked for.
        task: String,
        /// The names there are.
        known: String,
    },
    /// A conversation of several turns met a layout that would run them together.
    #[error(
        "task `{task}`: its layout.turn has no `{{role}}`, so it can show one turn only, and there are {turns}"
    )]
    RolesNeeded {
        /// The task.
        task: String,
        /// Number of turns in the conversation.
        turns: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder holds no task file.
    #[error("{path} holds no .toml file: put one there for each task")]
    NoTasks {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not TOML, or has a missing or unknown field.
    #[error("task file {file}: {source}")]
    Toml {
        /// The file, or the name that was given with the text.
        file: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A file says something that cannot be.
    #[error("task file {file}: {reason}")]
    Unsound {
        /// The file, or the name that was given with the text.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Judging tasks by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RubricSet {
    tasks: BTreeMap<String, Task>,
}

impl RubricSet {
    /// The tasks that come with patarm: chat, code, math, safety.
    pub fn builtin() -> Self {
        let files = [
            ("chat", include_str!("tasks/chat.toml")),
            ("code", include_str!("tasks/code.toml")),
            ("math", include_str!("tasks/math.toml")),
            ("safety", include_str!("tasks/safety.toml")),
        ];
        let sets =
            files.map(|(name, text)| Self::parse(name, text).expect("built-in tasks are tested to be sound"));
        sets.into_iter().fold(Self::default(), Self::replaced_by)
    }

    /// The one task `name` from the text of a task file.
    ///
    /// # Errors
    /// Where the text is not TOML, has a missing or unknown field, or its criteria or layouts are unsound.
    pub fn parse(name: &str, toml: &str) -> Result<Self, RubricError> {
        Self::parse_file(name, toml, name)
    }

    fn parse_file(name: &str, toml: &str, file: &str) -> Result<Self, RubricError> {
        let read = |source| RubricError::Toml { file: file.into(), source: Box::new(source) };
        let unsound = |reason| RubricError::Unsound { file: file.into(), reason };
        let task = toml::from_str::<TaskFile>(toml).map_err(read)?.check().map_err(unsound)?;
        Ok(Self { tasks: BTreeMap::from([(name.to_owned(), task)]) })
    }

    /// The one task of a file; it is named as the file is, less `.toml`.
    ///
    /// # Errors
    /// Where the file cannot be read, and as [`RubricSet::parse`].
    pub fn from_file(path: &Path) -> Result<Self, RubricError> {
        let text = std::fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse_file(&name, &text, &path.display().to_string())
    }

    /// One task from each `.toml` file of a folder, named as the file is.
    ///
    /// # Errors
    /// Where the folder cannot be read or holds no such file, and as [`RubricSet::from_file`].
    pub fn from_dir(path: &Path) -> Result<Self, RubricError> {
        let mut set = Self::default();
        for entry in std::fs::read_dir(path).map_err(|source| unreadable(path, source))? {
            let file = entry.map_err(|source| unreadable(path, source))?.path();
            if file.extension().is_some_and(|extension| extension == "toml") {
                set = set.replaced_by(Self::from_file(&file)?);
            }
        }
        if set.tasks.is_empty() { Err(RubricError::NoTasks { path: path.into() }) } else { Ok(set) }
    }

    /// These tasks, with those of `other` added; where both have a task of one name, `other`'s stands.
    pub fn replaced_by(mut self, other: Self) -> Self {
        self.tasks.extend(other.tasks);
        self
    }

    /// Names of the tasks, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// The task of that name.
    ///
    /// # Errors
    /// [`RubricError::UnknownTask`]
    pub fn task(&self, name: &str) -> Result<&Task, RubricError> {
        self.tasks.get(name).ok_or_else(|| RubricError::UnknownTask {
            task: name.into(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The judge's prompt for one response: a system turn where the layout has one, then a user turn. All that does not
    /// hang on the response stands before it. Tags in the conversation and the response are made harmless: a backslash
    /// after the `<` of anything that reads as one of the layout's or the verdict's tags.
    ///
    /// # Errors
    /// Where there is no such task, or where its layout cannot show several turns and there are some.
    pub fn judge_prompt(
        &self,
        task: &str,
        conversation: &[Message],
        response: &str,
    ) -> Result<Vec<Message>, RubricError> {
        let rubric = self.task(task)?;
        prompt((task, rubric), &rubric.alone, conversation, &[("response", response)])
    }

    /// The judge's prompt for two responses side by side, in this order; otherwise as [`RubricSet::judge_prompt`].
    ///
    /// # Errors
    /// As [`RubricSet::judge_prompt`].
    pub fn pair_prompt(
        &self,
        task: &str,
        conversation: &[Message],
        [first, second]: [&str; 2],
    ) -> Result<Vec<Message>, RubricError> {
        let rubric = self.task(task)?;
        prompt((task, rubric), &rubric.pair, conversation, &[("first", first), ("second", second)])
    }
}

fn prompt(
    (task, rubric): (&str, &Task),
    view: &View,
    conversation: &[Message],
    responses: &[(&str, &str)],
) -> Result<Vec<Message>, RubricError> {
    if conversation.len() > 1 && !rubric.turn.slots().contains(&"role") {
        return Err(RubricError::RolesNeeded { task: task.into(), turns: conversation.len() });
    }
    let criteria: Vec<_> = rubric.criteria.iter().map(|c| format!("{}: {}", c.name, c.text)).collect();
    let (criteria, conversation) = (criteria.join("\n"), show(rubric, view, conversation));
    let responses: Vec<(&str, String)> =
        responses.iter().map(|(slot, text)| (*slot, neutralise(text, &view.tags))).collect();
    let response = |slot: &str| responses.iter().find(|(name, _)| *name == slot);
    let value = |slot: &str| match slot {
        "task" => task,
        "criteria" => criteria.as_str(),
        "instructions" => rubric.instructions.as_str(),
        "grammar" => view.grammar.as_str(),
        "conversation" => conversation.as_str(),
        slot => response(slot).map_or("", |(_, text)| text.as_str()),
    };
    let system = rubric.system.iter().map(|layout| Message::new(Role::System, layout.fill(value)));
    Ok(system.chain([Message::new(Role::User, view.user.fill(value))]).collect())
}

fn unreadable(path: &Path, source: std::io::Error) -> RubricError {
    RubricError::Unreadable { path: path.into(), source }
}

/// The conversation as text, one turn after the other.
fn show(rubric: &Task, view: &View, conversation: &[Message]) -> String {
    let turns = conversation.iter().map(|message| {
        let content = neutralise(&message.content, &view.tags);
        let [system, user, assistant, tool] = ROLES;
        let role = match message.role {
            Role::System => system,
            Role::User => user,
            Role::Assistant => assistant,
            Role::Tool => tool,
        };
        rubric.turn.fill(|slot| if slot == "role" { role } else { &content })
    });
    turns.collect::<Vec<_>>().join("\n")
}
