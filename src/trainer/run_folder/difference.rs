use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::trainer::TrainConfig;

/// What may differ between a checkpoint and the run that goes on from it: `data`, `world`, `program`, or a setting's dotted
/// name; the name of a group of settings stands for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(pub Vec<String>);

impl Allowed {
    fn covers(&self, key: &str) -> bool {
        let covers = |name: &String| {
            key.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.0.iter().any(covers)
    }
}

/// Something that is not as it was when the run was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) key: String,
    pub(super) was: String,
    pub(super) now: String,
}

impl Difference {
    /// Of two values under one key; none where they are equal or the old one was never written down.
    pub(super) fn of(key: &str, was: Option<&str>, now: &str) -> Option<Self> {
        let was = was.filter(|was| *was != now)?;
        Some(Self { key: key.into(), was: was.into(), now: now.into() })
    }

    /// Key by key. Settings that the old text does not name had what follows from the others, or their defaults.
    pub(super) fn between(old: &str, new: &TrainConfig) -> Result<Vec<Self>, toml::de::Error> {
        let old = match toml::from_str::<TrainConfig>(old) {
            Ok(old) => Table::try_from(old.resolved()).unwrap_or_default(),
            Err(_) => old.parse()?, // a setting that this version does not know is a difference as well
        };
        let (old, new) = (flat(&old), flat(&Table::try_from(new).unwrap_or_default()));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let value = |table: &BTreeMap<String, String>, key: &String| {
            table.get(key).cloned().unwrap_or_else(|| "(not set)".into())
        };
        let both = keys.into_iter().map(|key| (key, value(&old, key), value(&new, key)));
        let differing = both.filter(|(_, was, now)| was != now);
        Ok(differing.map(|(key, was, now)| Self { key: key.clone(), was, now }).collect())
    }
}

/// What is not allowed to differ, as a person reads it; none where all of it is.
pub(super) fn refusal(found: &[Difference], allowed: &Allowed) -> Option<String> {
    let refused: Vec<&Difference> = found.iter().filter(|d| !allowed.covers(&d.key)).collect();
    let lines = refused.iter().map(|d| format!("  {}: {} -> {}", d.key, d.was, d.now));
    let keys: Vec<&str> = refused.iter().map(|d| d.key.as_str()).collect();
    let text = format!(
        "{}\nto go on all the same: --allow {}",
        lines.collect::<Vec<_>>().join("\n"),
        keys.join(",")
    );
    (!refused.is_empty()).then_some(text)
}

/// Dotted names and values.
fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(below) => {
                all.extend(flat(below).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)))
            }
            value => drop(all.insert(key.clone(), value.to_string())),
        }
    }
    all
}
