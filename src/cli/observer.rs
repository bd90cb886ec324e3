use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::say;
use super::signals::Signals;
use crate::report::Row;
use crate::trainer::{Evaluated, Observer, Progress};

/// Shows a run on standard error; nothing where that is no terminal but the evaluations.
pub(super) struct Terminal {
    bar: ProgressBar,
    signals: Signals,
}

impl Terminal {
    /// A bar of `steps` steps, over a run that these signals end.
    pub(super) fn new(steps: u64, signals: Signals) -> Self {
        let bar = ProgressBar::new(steps);
        let style = "{spinner} {pos}/{len} {bar:30} {elapsed_precise} left {eta} {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, signals }
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
    fn stepped(&mut self, progress: &Progress, row: &Row) {
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
