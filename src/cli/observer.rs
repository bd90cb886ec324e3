use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::output::{Output, say};
use super::profiling::Window;
use super::signals::Signals;
use crate::report::Row;
use crate::trainer::{Evaluated, Observer, Progress};

/// Shows a run on standard error; nothing where that is no terminal but the evaluations.
pub(super) struct Terminal {
    bar: ProgressBar,
    signals: Signals,
    /// Where supervised steps go, a line each.
    lines: Option<Output>,
    /// What a profiler collects.
    window: Option<Window>,
}

impl Terminal {
    /// A bar of `steps` steps, over a run that these signals end.
    pub(super) fn new(steps: u64, signals: Signals) -> Self {
        let bar = ProgressBar::new(steps);
        let style = "{spinner} {pos}/{len} {bar:30} {elapsed_precise} left {eta} {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, signals, lines: None, window: None }
    }

    /// Writes each step's loss, entropy and number of tokens to `lines` as well.
    pub(super) fn with_lines(self, lines: Output) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// Tells a profiler where the steps of `window` begin and end.
    pub(super) fn with_window(self, window: Option<Window>) -> Self {
        Self { window, ..self }
    }

    /// A reader of lines who went away costs the run nothing.
    fn line(&mut self, row: &Row) {
        let value = |name: &str| row.values.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let line = json!({
            "step": row.step, "loss": value("loss"), "entropy": value("entropy"), "tokens": value("tokens").map(|n| n as u64)
        });
        let Some(out) = &mut self.lines else { return };
        if let Err(error) = out.line(&line).and_then(|()| out.flush()) {
            self.lines = None;
            self.say(&format!("{error}: the run goes on without it"));
        }
    }

    /// The run has loaded.
    pub(super) fn begin(&self) {
        self.signals.begin();
    }

    fn say(&self, text: &str) {
        if self.bar.is_hidden() { say(text) } else { self.bar.println(text) }
    }
}

impl Observer for Terminal {
    fn begins(&mut self, number: u64) {
        self.window.iter().for_each(|window| window.begins(number));
    }

    fn stepped(&mut self, progress: &Progress, row: &Row) {
        self.window.iter().for_each(|window| window.ends(progress.step));
        self.line(row);
        let value = |name: &str| row.value(name);
        let shown = match row.phase.as_str() {
            "rl" => [
                ("reward", value("reward")),
                ("spread", value("score/spread")),
                ("entropy", value("entropy")),
            ],
            _ => [("loss", value("loss")), ("entropy", value("entropy")), ("grad", value("grad_norm"))],
        };
        let shown: Vec<String> =
            shown.into_iter().filter_map(|(name, v)| v.map(|v| format!("{name} {v:.3}"))).collect();
        self.bar.set_message(format!("{} {}", row.phase, shown.join(" ")));
        self.bar.set_position(progress.step);
    }

    fn evaluated(&mut self, pairs: &'static str, evaluated: &Evaluated) {
        let percent = |a: Option<crate::report::Estimate>| a.map_or(f64::NAN, |a| 100.0 * a.value);
        let tasks: Vec<String> =
            evaluated.tasks.iter().map(|(name, s)| format!("{name} {:.0}", percent(s.accuracy))).collect();
        let overall = &evaluated.overall;
        self.say(&format!(
            "step {:>5}  {pairs:<10}  accuracy {:.1} %  ({})  ties {:.0} %  failures {:.1} %",
            evaluated.step,
            percent(overall.accuracy),
            tasks.join(", "),
            100.0 * overall.tie_rate.unwrap_or(f64::NAN),
            100.0 * overall.failure_rate.unwrap_or(f64::NAN),
        ));
    }

    fn notice(&mut self, text: &str) {
        self.say(text);
    }

    fn wait(&mut self, seconds: f64) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while !self.wants_stop() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn wants_stop(&self) -> bool {
        self.signals.ask_for_an_end()
    }
}
