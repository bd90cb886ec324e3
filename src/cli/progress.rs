use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::say;

/// Shows how far judging has come on standard error, nothing where that is no terminal, and says the rates at the end.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// Judgements and tokens of the batches that are done.
    done: [u64; 2],
}

impl Progress {
    /// Of so many judgements.
    pub(super) fn new(judgements: usize) -> Self {
        let bar = ProgressBar::new(judgements as u64);
        let style = "{spinner} {pos}/{len} judgements {bar:30} {elapsed_precise} left {eta} {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, began: Instant::now(), done: [0; 2] }
    }

    /// Judgements that have ended in this batch, and tokens drawn.
    pub(super) fn heard(&self, judgements: usize, tokens: usize) -> ControlFlow<()> {
        self.bar.set_position(self.done[0] + judgements as u64);
        let rate = (self.done[1] + tokens as u64) as f64 / self.seconds();
        self.bar.set_message(format!("{rate:.0} tokens a second"));
        ControlFlow::Continue(())
    }

    /// A batch of so many judgements and tokens is done.
    pub(super) fn batch(&mut self, judgements: usize, tokens: u64) {
        self.done = [self.done[0] + judgements as u64, self.done[1] + tokens];
    }

    /// Everything is done.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
        let (seconds, [judgements, tokens]) = (self.seconds(), self.done);
        if judgements == 0 {
            return;
        }
        let [each, rate] = [judgements, tokens].map(|count| count as f64 / seconds);
        let each = if each < 1.0 {
            format!("{:.1} s a judgement", each.recip())
        } else {
            format!("{each:.1} judgements a second")
        };
        say(&format!("{judgements} judgements in {seconds:.1} s: {each}, {rate:.1} tokens a second"));
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
