use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::events::EventFile;
use super::json_lines::JsonLines;
use super::names::MetricNames;

/// The numbers of one step. Steps count up through all phases of a run and never start again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Step, counted through all phases of the run.
    pub step: u64,
    /// Which part of the run it belongs to, such as `sft` or `rl`.
    pub phase: String,
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    /// Name and value, each name once. A value that is not finite is kept as that: it is what one looks for.
    #[serde(flatten, with = "values")]
    pub values: Vec<(String, f64)>,
}

impl Row {
    /// An empty row of `phase` at `step`, written at `time` (seconds since 1970-01-01 UTC).
    pub fn new(step: u64, phase: impl Into<String>, time: f64) -> Self {
        Self { step, phase: phase.into(), time, values: Vec::new() }
    }

    /// The row with one more number.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.values.push((name.into(), value));
        self
    }

    /// The number of that name, where the row has one.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// A text that belongs to a step: the configuration, a judgement. Shown where a sink can show text.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Step it belongs to.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    /// Name under which it is found, such as `config`.
    pub tag: String,
    /// The text; Markdown where the sink renders it.
    pub text: String,
}

/// Whether a run begins, or goes on after the step its checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new run: what the files held is gone.
    Fresh,
    /// Rows of later steps were written by a process that died: they go, so that no step stands twice.
    After(u64),
}

/// Who writes: it names the event file.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process began, seconds since 1970-01-01 UTC.
    pub time: f64,
}

/// The metrics could not be opened. While a run goes on, a failing sink is no error but a [`Notice`].
#[derive(Debug, thiserror::Error)]
#[error("metrics file {path}: {source}; make the run folder writable or name another one")]
pub struct MetricsError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Something that takes rows.
pub trait Sink {
    /// Takes one row, whole or not at all.
    ///
    /// # Errors
    /// What the system said; the sink stays usable.
    fn row(&mut self, row: &Row) -> io::Result<()>;

    /// Takes a text, where the sink shows texts.
    ///
    /// # Errors
    /// What the system said; the sink stays usable.
    fn note(&mut self, _note: &Note) -> io::Result<()> {
        Ok(())
    }
}

/// What changed about a sink: said once when it begins to fail and once when it works again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// From now on what is written to the sink is lost; the run goes on.
    #[error("{sink} cannot be written ({reason}): training goes on without it and keeps trying")]
    Degraded {
        /// The sink's name.
        sink: String,
        /// What the system said.
        reason: String,
    },
    /// The sink works again, with a gap.
    #[error("{sink} is written again; {lost} rows are missing")]
    Recovered {
        /// The sink's name.
        sink: String,
        /// Rows and notes that were lost.
        lost: u64,
    },
}

struct Guarded {
    name: String,
    sink: Box<dyn Sink + Send>,
    lost: u64,
}

impl Guarded {
    fn attempt(&mut self, write: impl FnOnce(&mut dyn Sink) -> io::Result<()>) -> Option<Notice> {
        let sink = self.name.clone();
        match write(self.sink.as_mut()) {
            Ok(()) if self.lost == 0 => None,
            Ok(()) => Some(Notice::Recovered { sink, lost: std::mem::take(&mut self.lost) }),
            Err(reason) => {
                self.lost += 1;
                (self.lost == 1).then(|| Notice::Degraded { sink, reason: reason.to_string() })
            }
        }
    }
}

/// The event file, under other names.
struct Renamed<S> {
    names: MetricNames,
    events: S,
}

impl<S: Sink> Sink for Renamed<S> {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.events.row(&self.names.rename(row))
    }

    fn note(&mut self, note: &Note) -> io::Result<()> {
        self.events.note(note)
    }
}

/// Opens a sink's file.
type Opening<S> = Box<dyn Fn(&Path) -> io::Result<S> + Send>;

/// A sink that is opened when it can be.
struct Late<S> {
    path: PathBuf,
    open: Opening<S>,
    sink: Option<S>,
}

impl<S: Sink> Late<S> {
    fn open(
        path: PathBuf,
        start: Start,
        open: impl Fn(&Path) -> io::Result<S> + Send + 'static,
    ) -> Result<Self, MetricsError> {
        match open(&path) {
            Err(source) if start == Start::Fresh => Err(MetricsError { path, source }),
            opened => Ok(Self { path, open: Box::new(open), sink: opened.ok() }),
        }
    }

    fn sink(&mut self) -> io::Result<&mut S> {
        if self.sink.is_none() {
            self.sink = Some((self.open)(&self.path)?);
        }
        Ok(self.sink.as_mut().expect("it was opened just now"))
    }
}

impl<S: Sink> Sink for Late<S> {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.sink()?.row(row)
    }

    fn note(&mut self, note: &Note) -> io::Result<()> {
        self.sink()?.note(note)
    }
}

/// All sinks of a run. A failing sink never stops the run.
#[derive(Default)]
pub struct MetricsLog {
    sinks: Vec<Guarded>,
}

impl MetricsLog {
    /// The sinks of a run folder: `metrics.jsonl`, and a TensorBoard event file below `tensorboard/`, which uses `names`. A run
    /// that goes on does so without a sink that cannot be opened, and keeps trying.
    ///
    /// # Errors
    /// Where a file of a new run cannot be made: better known before the run than after it.
    pub fn open(
        folder: &Path,
        origin: &Origin,
        start: Start,
        names: MetricNames,
    ) -> Result<Self, MetricsError> {
        let lines =
            Late::open(folder.join("metrics.jsonl"), start, move |path| JsonLines::open(path, start))?;
        let origin = origin.clone();
        let create = move |path: &Path| EventFile::create(path, &origin, start);
        let events = Late::open(folder.join("tensorboard"), start, create)?;
        let mut log = Self::default();
        log.add("metrics.jsonl", lines);
        log.add("TensorBoard event file", Renamed { names, events });
        Ok(log)
    }

    /// One more sink, under a name people know it by.
    pub fn add(&mut self, name: impl Into<String>, sink: impl Sink + Send + 'static) {
        self.sinks.push(Guarded { name: name.into(), sink: Box::new(sink), lost: 0 });
    }

    /// Hands a row to every sink. What comes back is for the person at the terminal, and mostly empty.
    pub fn row(&mut self, row: &Row) -> Vec<Notice> {
        self.sinks.iter_mut().filter_map(|guarded| guarded.attempt(|sink| sink.row(row))).collect()
    }

    /// Hands a text to every sink that shows texts.
    pub fn note(&mut self, note: &Note) -> Vec<Notice> {
        self.sinks.iter_mut().filter_map(|guarded| guarded.attempt(|sink| sink.note(note))).collect()
    }

    /// Sinks that fail at present.
    pub fn degraded(&self) -> Vec<&str> {
        self.sinks.iter().filter(|guarded| guarded.lost > 0).map(|guarded| guarded.name.as_str()).collect()
    }
}

/// Values as keys of the row's own object. JSON has no NaN and no infinity: they are the strings of their names.
mod values {
    use serde::de::{Deserializer, Error, MapAccess, Visitor};
    use serde::ser::{SerializeMap, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(values: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(values.len()))?;
        for (name, value) in values {
            if value.is_finite() {
                map.serialize_entry(name, value)?;
            } else {
                map.serialize_entry(name, &value.to_string())?;
            }
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
        from.deserialize_map(Values)
    }

    struct Values;

    impl<'de> Visitor<'de> for Values {
        type Value = Vec<(String, f64)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of numbers")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                let number = match &value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) if ["NaN", "inf", "-inf"].contains(&text.as_str()) => {
                        text.parse().ok()
                    }
                    _ => None,
                };
                let wrong = || A::Error::custom(format!("`{name}` is {value}, not a number"));
                found.push((name.clone(), number.ok_or_else(wrong)?));
            }
            Ok(found)
        }
    }
}
