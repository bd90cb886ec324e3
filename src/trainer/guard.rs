use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::optimizer::{Measure, Update};

/// Which steps are too far out to learn from, and how many unreadable judgements are too many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Standard deviations from the mean of the last updates beyond which a loss (either way) or a gradient norm (upwards) is out
    /// of line; at least 0. Default 0: nobody looks.
    pub z: f64,
    /// Updates that are looked back on, at least 2; while there are fewer, nothing is out of line. Default 50.
    pub window: usize,
    /// What becomes of an update that is out of line: `skip` (default: it is left out) or `clip` (its gradient's norm is cut to
    /// the limit).
    pub outliers: Outliers,
    /// Share of a step's judgements that may be without a verdict, 0 to 1. Default 1: all of them.
    pub unread_limit: f64,
    /// Steps in a row over that limit after which the run ends, at least 1. Default 1.
    pub unread_steps: u32,
}

/// What becomes of an update that is out of line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outliers {
    /// It is left out: weights and moments stay as they are.
    #[default]
    Skip,
    /// Its gradient's norm is cut to the limit; a loss out of line is only counted.
    Clip,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { z: 0.0, window: 50, outliers: Outliers::Skip, unread_limit: 1.0, unread_steps: 1 }
    }
}

impl GuardConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |setting: &str, reason: &str| {
            Err(TrainError::Config { setting: setting.into(), reason: reason.into() })
        };
        match () {
            () if !(self.z >= 0.0 && self.z.is_finite()) => refuse("guard.z", "it must be at least 0"),
            () if self.window < 2 => refuse("guard.window", "it must be at least 2"),
            () if !(0.0..=1.0).contains(&self.unread_limit) => {
                refuse("guard.unread_limit", "it must be a share, 0 to 1")
            }
            () => Ok(()),
        }
    }
}

/// What the last updates were like, and how often something was amiss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    losses: VecDeque<f64>,
    norms: VecDeque<f64>,
    /// Updates out of line so far.
    pub outliers: u64,
    /// Steps in a row with too many judgements without a verdict.
    pub unread: u32,
}

/// Between which bounds the next update's loss and gradient norm are in line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    loss: [f64; 2],
    norm: f64,
    outliers: Outliers,
}

impl Gate {
    /// Every finite number passes.
    pub const OPEN: Self =
        Self { loss: [f64::NEG_INFINITY, f64::INFINITY], norm: f64::INFINITY, outliers: Outliers::Skip };

    /// Why an update of this loss is left out, if it is.
    pub(super) fn refuses_loss(&self, loss: f64) -> Option<Update> {
        let [low, high] = self.loss;
        let limit = if loss < low { low } else { high };
        let refused = !loss.is_finite() || self.is_loss_outlying(loss) && self.outliers == Outliers::Skip;
        refused.then_some(Update::LeftOut { what: Measure::Loss, value: loss, limit })
    }

    /// The gradient norm above which an update is left out; infinite where none is.
    pub(super) fn most_norm(&self) -> f64 {
        if self.outliers == Outliers::Skip { self.norm } else { f64::INFINITY }
    }

    /// The norm that gradients are cut to: the optimizer's own (0: none), or the limit where that is lower.
    pub(super) fn max_norm(&self, max_norm: f64) -> f64 {
        match (self.outliers, max_norm) {
            (Outliers::Skip, _) => max_norm,
            (Outliers::Clip, 0.0) if self.norm.is_infinite() => 0.0,
            (Outliers::Clip, 0.0) => self.norm,
            (Outliers::Clip, max_norm) => max_norm.min(self.norm),
        }
    }

    fn is_loss_outlying(&self, loss: f64) -> bool {
        loss < self.loss[0] || loss > self.loss[1]
    }
}

impl Seen {
    /// The bounds for the next update.
    pub(super) fn gate(&self, config: &GuardConfig) -> Gate {
        let bounds = |values: &VecDeque<f64>| bounds(values, config);
        let ([low, high], [_, norm]) = (bounds(&self.losses), bounds(&self.norms));
        Gate { loss: [low, high], norm, outliers: config.outliers }
    }

    /// Takes an update's loss and norm into account; what is said of one that was out of line. Such a number counts as its limit:
    /// one of them does not blind the next, and a lasting change is followed.
    pub(super) fn heed(
        &mut self,
        config: &GuardConfig,
        (loss, gate): (f64, Gate),
        update: &Update,
    ) -> Option<String> {
        let norm = match update {
            Update::Applied { norm, .. } => Some(*norm),
            Update::LeftOut { what: Measure::GradientNorm, value, .. } => Some(*value),
            Update::LeftOut { .. } | Update::Skipped { .. } => None,
        };
        if config.z == 0.0 || !loss.is_finite() {
            return None;
        }
        let amiss = [
            ("loss", loss, gate.is_loss_outlying(loss)),
            ("gradient norm", norm.unwrap_or(0.0), norm.is_some_and(|norm| norm > gate.norm)),
        ];
        push(&mut self.losses, loss.clamp(gate.loss[0], gate.loss[1]), config.window);
        norm.into_iter().for_each(|norm| push(&mut self.norms, norm.min(gate.norm), config.window));
        let amiss: Vec<String> = amiss
            .iter()
            .filter(|(_, _, out)| *out)
            .map(|(name, value, _)| format!("{name} {value:.4e}"))
            .collect();
        self.outliers += u64::from(!amiss.is_empty());
        let done = if matches!(update, Update::Applied { .. }) {
            "the update is clipped"
        } else {
            "the update is left out"
        };
        let far =
            format!("more than {} standard deviations from the last {} updates", config.z, config.window);
        (!amiss.is_empty()).then(|| format!("{}: {far}; {done}", amiss.join(", ")))
    }

    /// Forgets what updates were like: another objective begins.
    pub(super) fn begin_anew(&mut self) {
        (self.losses, self.norms) = Default::default();
    }

    /// Counts steps whose share of judgements without a verdict is over the limit.
    ///
    /// # Errors
    /// `Unreadable` when there were too many in a row.
    pub(super) fn judgements(
        &mut self,
        config: &GuardConfig,
        (step, rate): (u64, f64),
    ) -> Result<(), TrainError> {
        self.unread = if rate > config.unread_limit { self.unread + 1 } else { 0 };
        match self.unread >= config.unread_steps.max(1) {
            true => {
                Err(TrainError::Unreadable { step, rate, limit: config.unread_limit, times: self.unread })
            }
            false => Ok(()),
        }
    }
}

fn push(values: &mut VecDeque<f64>, value: f64, window: usize) {
    values.push_back(value);
    while values.len() > window {
        values.pop_front();
    }
}

/// Mean and z standard deviations either way; everything where there is no window to speak of.
fn bounds(values: &VecDeque<f64>, config: &GuardConfig) -> [f64; 2] {
    if config.z == 0.0 || values.len() < config.window {
        return [f64::NEG_INFINITY, f64::INFINITY];
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    // Numbers that are all but equal differ by rounding: that is not out of line.
    let reach = config.z * deviation.max(mean.abs() * 1e-6);
    [mean - reach, mean + reach]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: GuardConfig =
        GuardConfig { z: 3.0, window: 4, outliers: Outliers::Skip, unread_limit: 0.5, unread_steps: 2 };

    fn applied(norm: f64) -> Update {
        Update::Applied { norm, factor: 1.0, lr: 0.1 }
    }

    fn seen(config: &GuardConfig) -> Seen {
        let mut seen = Seen::default();
        for (loss, norm) in [(1.0, 5.0), (2.0, 6.0), (3.0, 7.0), (2.0, 6.0)] {
            let gate = seen.gate(config);
            assert_eq!(gate, Gate { outliers: config.outliers, ..Gate::OPEN }, "fewer than the window");
            assert_eq!(seen.heed(config, (loss, gate), &applied(norm)), None);
        }
        seen
    }

    #[test]
    fn bounds_are_those_of_the_textbook() {
        let gate = seen(&CONFIG).gate(&CONFIG);
        let deviation = (2.0f64 / 3.0).sqrt(); // of 1, 2, 3, 2 with n - 1
        assert!((gate.loss[0] - (2.0 - 3.0 * deviation)).abs() < 1e-12);
        assert!((gate.loss[1] - (2.0 + 3.0 * deviation)).abs() < 1e-12);
        assert!((gate.norm - (6.0 + 3.0 * deviation)).abs() < 1e-12);
        assert!(gate.refuses_loss(4.4).is_none() && gate.most_norm() >= 0.0);
        assert!(gate.refuses_loss(4.5).is_some() && gate.refuses_loss(-0.5).is_some());
        assert!(gate.most_norm() < 8.5);
    }

    #[test]
    fn a_loss_that_is_not_finite_never_passes() {
        for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for gate in [Gate::OPEN, Gate { outliers: Outliers::Clip, ..Gate::OPEN }] {
                assert!(gate.refuses_loss(loss).is_some(), "{loss}");
            }
        }
    }

    #[test]
    fn one_outlier_counts_as_its_limit_and_does_not_blind_the_next() {
        let mut seen = seen(&CONFIG);
        let gate = seen.gate(&CONFIG);
        let update = gate.refuses_loss(1e9).expect("far out");
        let said = seen.heed(&CONFIG, (1e9, gate), &update).expect("it is said");
        assert!(said.contains("loss 1.0000e9") && said.contains("left out"), "{said}");
        assert_eq!(seen.outliers, 1);
        assert!(seen.gate(&CONFIG).refuses_loss(1e9).is_some());
        assert!(seen.gate(&CONFIG).loss[1] > gate.loss[1], "a lasting change is followed");
    }

    #[test]
    fn a_clip_cuts_to_the_limit_and_never_raises_the_optimizers_own() {
        let config = GuardConfig { outliers: Outliers::Clip, ..CONFIG };
        let gate = seen(&config).gate(&config);
        assert!(gate.refuses_loss(1e9).is_none() && gate.most_norm() == f64::INFINITY);
        assert_eq!(
            [gate.max_norm(0.0), gate.max_norm(1.0), gate.max_norm(99.0)],
            [gate.norm, 1.0, gate.norm]
        );
        assert_eq!(Gate { outliers: Outliers::Clip, ..Gate::OPEN }.max_norm(0.0), 0.0);
        let mut seen = seen(&config);
        let said = seen.heed(&config, (2.0, gate), &applied(100.0)).expect("it is said");
        assert!(said.contains("gradient norm") && said.contains("clipped"), "{said}");
    }

    #[test]
    fn unreadable_steps_count_in_a_row_only() {
        let mut seen = Seen::default();
        for rate in [0.6, 0.5, 0.6] {
            seen.judgements(&CONFIG, (1, rate)).expect("never two in a row");
        }
        assert!(matches!(seen.judgements(&CONFIG, (4, 0.6)), Err(TrainError::Unreadable { times: 2, .. })));
    }
}
