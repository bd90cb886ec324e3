use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

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

/// Built-in settings, then the file's, then the dotted ones; unknown keys are errors.
pub(super) fn merge<C: Serialize + DeserializeOwned>(
    defaults: &C,
    layers: &[(&str, &str)],
    file: Option<&Path>,
    overrides: &Overrides,
) -> Result<C> {
    let mut table = Table::try_from(defaults).context("built-in settings")?;
    for (name, text) in layers {
        lay_over(&mut table, text.parse::<Table>().with_context(|| format!("{name}: not TOML"))?);
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?;
        lay_over(&mut table, text.parse::<Table>().with_context(|| format!("{}: not TOML", path.display()))?);
    }
    for (name, value) in overrides {
        set(&mut table, name, value)?;
    }
    table.try_into().context("settings")
}

fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
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
    place.insert(last.to_owned(), value);
    Ok(())
}
