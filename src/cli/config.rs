use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Table, Value};

use crate::trainer::TrainConfig;

/// Dotted settings as typed: `--rl.steps 20` or `--rl.steps=20`.
pub(super) type Overrides = Vec<(String, String)>;

/// Takes dotted settings out of the command line; clap parses the rest.
pub(super) fn split_overrides(args: Vec<OsString>) -> (Vec<OsString>, Overrides) {
    let (mut rest, mut overrides) = (Vec::new(), Overrides::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg
            .to_str()
            .and_then(|a| a.strip_prefix("--"))
            .filter(|a| a.split('=').next().is_some_and(|n| n.contains('.')));
        match name.map(|name| {
            name.split_once('=').map_or((name.to_owned(), None), |(n, v)| (n.to_owned(), Some(v.to_owned())))
        }) {
            Some((name, Some(value))) => overrides.push((name, value)),
            Some((name, None)) => {
                let value = args.next().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
                overrides.push((name, value));
            }
            None => rest.push(arg),
        }
    }
    (rest, overrides)
}

/// Settings that cannot be used: all of them, a line each, with their places.
#[derive(Debug, thiserror::Error)]
#[error("{} of the settings cannot be used:\n{}", .0.len(), .0.join("\n"))]
pub(super) struct Unusable(Vec<String>);

/// Built-in settings, `layers`, then the file's, then the dotted ones, all checked.
///
/// # Errors
/// `Unusable`: unknown keys, wrong types, values out of range, sizes that do not divide.
pub(super) fn merge(
    layers: &[(&str, &str)],
    file: Option<&Path>,
    overrides: &Overrides,
) -> Result<TrainConfig> {
    let mut merged = Merged::new(layers)?;
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?
        }
        None => String::new(),
    };
    let name = file.map(|path| path.display().to_string()).unwrap_or_default();
    // A kind comes before what belongs to it.
    let mut flags: Vec<_> = overrides.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    flags.sort_by_key(|(name, _)| !name.ends_with(".kind"));
    if !merged.takes(&text, &flags) {
        merged.diagnose_file(&name, &text);
        merged.diagnose_flags(&flags);
    }
    let places = Places { name, text: &text, flags: flags.iter().map(|(name, _)| *name).collect() };
    merged.checked(&places)
}

/// Settings as they come together.
struct Merged {
    defaults: Table,
    table: Table,
    wrong: Vec<String>,
}

impl Merged {
    fn new(layers: &[(&str, &str)]) -> Result<Self> {
        let defaults = Table::try_from(TrainConfig::default()).context("built-in settings")?;
        let mut table = defaults.clone();
        for (name, text) in layers {
            lay_over(&mut table, text.parse::<Table>().with_context(|| format!("{name}: not TOML"))?);
        }
        Ok(Self { defaults, table, wrong: Vec::new() })
    }

    /// Takes everything, if names and types are right; else nothing.
    fn takes(&mut self, text: &str, flags: &[(&str, &str)]) -> bool {
        let mut table = self.table.clone();
        let Ok(file) = text.parse::<Table>() else { return false };
        lay_over(&mut table, file);
        let set = flags.iter().try_for_each(|(name, value)| set(&mut table, name, value));
        let sound = set.is_ok() && table.clone().try_into::<TrainConfig>().is_ok();
        if sound {
            self.table = table;
        }
        sound
    }

    /// Takes what can be taken of a file. What is refused is told with its line and taken out, until nothing is refused.
    fn diagnose_file(&mut self, name: &str, text: &str) {
        let (mut parsed, faults) = DeTable::parse_recoverable(text);
        let place = |span: Option<Range<usize>>| {
            let line = span.map(|span| format!(":{}", line_of(text, span.start)));
            format!("  {name}{}", line.unwrap_or_default())
        };
        self.wrong.extend(faults.iter().map(|fault| format!("{}: {}", place(fault.span()), fault.message())));
        while let Err(refused) = TrainConfig::deserialize(Deserializer::from(parsed.clone())) {
            // Alone a file may lack what lies below it; that is no fault.
            if !refused.message().starts_with("missing field") {
                self.wrong.push(format!("{}: {}", place(refused.span()), refused.message()));
            }
            if !refused.span().is_some_and(|span| take_out(parsed.get_mut(), span.start)) {
                return;
            }
        }
        if let Ok(table) = Table::deserialize(Deserializer::from(parsed)) {
            lay_over(&mut self.table, table);
        }
    }

    /// Takes the flags that can be taken, and tells the others by name.
    fn diagnose_flags(&mut self, flags: &[(&str, &str)]) {
        for (name, value) in flags {
            let mut table = self.table.clone();
            let set = set(&mut table, name, value).map_err(|error| error.to_string());
            let taken = set.and_then(|()| {
                table.clone().try_into::<TrainConfig>().map_err(|error| error.message().to_owned())
            });
            match taken {
                Ok(_) => self.table = table,
                Err(refused) => self.wrong.push(format!("  --{name}: {refused}")),
            }
        }
    }

    /// The settings, where all of them are within their ranges and fit each other. One that does not is told and takes its
    /// default, until all do.
    fn checked(mut self, places: &Places<'_>) -> Result<TrainConfig> {
        let mut told: Vec<String> = Vec::new();
        loop {
            let config: TrainConfig = match self.table.clone().try_into() {
                Ok(config) => config,
                Err(_) if !self.wrong.is_empty() => return Err(Unusable(self.wrong).into()),
                Err(error) => return Err(Unusable(vec![format!("  {}", error.message())]).into()),
            };
            let Err(refused) = config.clone().resolved().check() else {
                return if self.wrong.is_empty() { Ok(config) } else { Err(Unusable(self.wrong).into()) };
            };
            let name = refused.setting().unwrap_or_default();
            self.wrong.push(format!("  {}{refused}", places.of(&name)));
            if told.contains(&name) || !reset(&mut self.table, &self.defaults, &name) {
                return Err(Unusable(self.wrong).into());
            }
            told.push(name);
        }
    }
}

/// Where settings were given.
struct Places<'a> {
    name: String,
    text: &'a str,
    flags: Vec<&'a str>,
}

impl Places<'_> {
    /// The place of a setting or of the first of its group, as a beginning of a line; nothing for one that nobody gave.
    fn of(&self, setting: &str) -> String {
        let covers = |name: &str| {
            name.strip_prefix(setting).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if let Some(flag) = self.flags.iter().find(|flag| covers(flag)) {
            return format!("--{flag}: ");
        }
        let mut lines = Vec::new();
        walk(DeTable::parse_recoverable(self.text).0.get_ref(), "", &mut |name, at| {
            lines.extend(covers(name).then(|| line_of(self.text, at)));
        });
        lines.into_iter().min().map_or(String::new(), |line| format!("{}:{line}: ", self.name))
    }
}

/// Every setting's dotted name and the byte that its key begins at.
fn walk(table: &DeTable<'_>, above: &str, visit: &mut dyn FnMut(&str, usize)) {
    for (key, value) in table {
        let name =
            if above.is_empty() { key.get_ref().to_string() } else { format!("{above}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(below) => walk(below, &name, visit),
            _ => visit(&name, key.span().start),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// Removes the innermost entry that the byte `at` belongs to.
fn take_out(table: &mut DeTable<'_>, at: usize) -> bool {
    let mut whole = None;
    for (key, value) in table.iter_mut() {
        if let (false, DeValue::Table(below)) = (key.span().contains(&at), value.get_mut())
            && take_out(below, at)
        {
            return true;
        }
        if key.span().contains(&at) || value.span().contains(&at) {
            whole = Some(key.clone());
        }
    }
    whole.is_some_and(|key| table.remove(&key).is_some())
}

/// Gives a setting its default.
fn reset(table: &mut Table, defaults: &Table, name: &str) -> bool {
    match name.split_once('.') {
        Some((group, rest)) => match (table.get_mut(group), defaults.get(group)) {
            (Some(Value::Table(below)), Some(Value::Table(defaults))) => reset(below, defaults, rest),
            _ => false,
        },
        None => match defaults.get(name) {
            Some(default) => table.insert(name.to_owned(), default.clone()).is_some(),
            None => table.remove(name).is_some(),
        },
    }
}

/// Key by key. A table of another `kind` takes the place of the one below: what belongs to that one is unknown to it.
fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if is_of_one_kind(below, &above) => {
                lay_over(below, above);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn is_of_one_kind(below: &Table, above: &Table) -> bool {
    above.get("kind").is_none_or(|kind| below.get("kind") == Some(kind))
}

fn set(table: &mut Table, name: &str, value: &str) -> Result<()> {
    let parsed = format!("x = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let (path, last) = name.rsplit_once('.').context("a dotted setting has a dot")?;
    let mut place = table;
    for part in path.split('.') {
        let below = place.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        match below {
            Value::Table(below) => place = below,
            _ => bail!("--{name}: `{part}` is a single setting, not a group"),
        }
    }
    // A whole number where a fraction is expected is a fraction.
    let value = match (place.get(last), value) {
        (Some(Value::Float(_)), Value::Integer(whole)) => Value::Float(whole as f64),
        (_, value) => value,
    };
    if last == "kind" && place.get(last) != Some(&value) {
        place.clear();
    }
    place.insert(last.to_owned(), value);
    Ok(())
}
