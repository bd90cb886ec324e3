//! Signs that reinforcement learning goes wrong while every step succeeds. Each alarm says so once, and again only after it was
//! quiet in between.

use serde::{Deserialize, Serialize};

use super::TrainError;
use super::progress::Evaluated;
use crate::report::Row;

/// Limits of a run's alarms. Each compares the mean of the last `window` steps with a limit or with the first `window` steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// Steps of a window, at least 1. Default 10.
    pub window: usize,
    /// Share of scores at either end of the scale above which they are saturated, 0 to 1; 1 never is. Default 0.9.
    pub saturation: f64,
    /// Mean length of a judgement over that of the first window above which it grows, above 1. Default 2.
    pub length: f64,
    /// Share of judgements cut off at the token limit above which they are too long, 0 to 1; 1 never is. Default 0.3.
    pub cut_off: f64,
    /// Mean entropy of a token over that of the first window below which it has collapsed, 0 to 1; 0 never has. Default 0.05.
    pub entropy: f64,
    /// Whether a reward that rises while validation accuracy falls is told: the best accuracy so far lies above the newest one's
    /// 95 % interval, and the reward is higher than it was then. Default true.
    pub divergence: bool,
    /// What an alarm does: `tell` (default), or `pause`: the run saves a checkpoint and ends, and `--resume` goes on.
    pub action: AlarmAction,
}

/// What an alarm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmAction {
    /// It is told and recorded.
    #[default]
    Tell,
    /// The run also ends, with a checkpoint.
    Pause,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Scores stand at the ends of the scale.
    Saturation,
    /// Judgements grow.
    Length,
    /// Judgements meet the token limit.
    CutOff,
    /// The policy hardly varies any more.
    Entropy,
    /// The reward rises while held-out accuracy falls.
    Divergence,
}

/// One alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Step after which it was raised.
    pub step: u64,
    /// What it is about.
    pub kind: AlarmKind,
    /// The numbers, in a sentence.
    pub text: String,
}

/// What the alarms know of a run: part of its progress, so that a resumed run raises the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// All that was raised.
    pub raised: Vec<Alarm>,
    /// Mean length and entropy of the first window.
    first: Option<[f64; 2]>,
    /// The newest steps, the oldest first.
    recent: Vec<Seen>,
    /// The best validation accuracy so far, and the mean reward of the window before it.
    best: Option<[f64; 2]>,
    /// What is over its limit at present.
    over: Vec<AlarmKind>,
}

/// The numbers of one step that alarms look at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    reward: f64,
    /// None where no judgement had a score: JSON has no NaN.
    saturation: Option<f64>,
    length: f64,
    cut_off: f64,
    entropy: f64,
}

impl Seen {
    fn of(row: &Row) -> Option<Self> {
        let number = |name: &str| row.value(name).filter(|value| value.is_finite());
        Some(Self {
            reward: number("reward")?,
            saturation: number("score/saturation"),
            length: number("completions/mean_length")?,
            cut_off: number("completions/clipped_ratio")?,
            entropy: number("entropy")?,
        })
    }
}

impl AlarmConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        let share = |x: f64| ((0.0..=1.0).contains(&x), "0 to 1");
        let settings = [
            ("alarms.window", self.window as f64, (self.window > 0, "at least 1")),
            ("alarms.saturation", self.saturation, share(self.saturation)),
            ("alarms.length", self.length, (self.length > 1.0, "above 1")),
            ("alarms.cut_off", self.cut_off, share(self.cut_off)),
            ("alarms.entropy", self.entropy, share(self.entropy)),
        ];
        match settings.into_iter().find(|(_, _, (holds, _))| !holds) {
            None => Ok(()),
            Some((setting, value, (_, range))) => Err(TrainError::Config {
                setting: setting.into(),
                reason: format!("{value}: it must be {range}"),
            }),
        }
    }
}

impl Watch {
    /// Looks at a step's row, and gives what it raised.
    pub(super) fn step(&mut self, config: &AlarmConfig, row: &Row) -> Vec<Alarm> {
        let Some(seen) = Seen::of(row) else { return Vec::new() };
        self.recent.push(seen);
        if self.recent.len() < config.window {
            return Vec::new();
        }
        self.recent.drain(..self.recent.len() - config.window);
        let (length, entropy) = (self.mean(|seen| seen.length), self.mean(|seen| seen.entropy));
        let [first_length, first_entropy] = *self.first.get_or_insert([length, entropy]);
        let scored: Vec<f64> = self.recent.iter().filter_map(|seen| seen.saturation).collect();
        let saturation = scored.iter().sum::<f64>() / scored.len().max(1) as f64;
        let cut_off = self.mean(|seen| seen.cut_off);
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let found = [
            (AlarmKind::Saturation, saturation > config.saturation, {
                format!("{} of the scores stand at either end of the scale", percent(saturation))
            }),
            (AlarmKind::Length, length > config.length * first_length, {
                format!("judgements have {length:.0} tokens, and had {first_length:.0} at first")
            }),
            (AlarmKind::CutOff, cut_off > config.cut_off, {
                format!("{} of the judgements are cut off at the token limit", percent(cut_off))
            }),
            (AlarmKind::Entropy, entropy < config.entropy * first_entropy, {
                format!("a token's entropy is {entropy:.4} nats, and was {first_entropy:.4} at first")
            }),
        ];
        let raised =
            found.into_iter().filter_map(|(kind, over, text)| self.raise(row.step, kind, over, text));
        raised.collect()
    }

    /// Looks at a validation, and gives what it raised.
    pub(super) fn evaluated(&mut self, config: &AlarmConfig, evaluated: &Evaluated) -> Option<Alarm> {
        let accuracy = evaluated.overall.accuracy?;
        if !config.divergence || self.recent.is_empty() {
            return None;
        }
        let reward = self.mean(|seen| seen.reward);
        let [best, reward_then] = match self.best {
            Some(best) if best[0] >= accuracy.value => best,
            _ => *self.best.insert([accuracy.value, reward]),
        };
        let over = accuracy.high < best && reward > reward_then;
        let text = format!(
            "the reward rose from {reward_then:.3} to {reward:.3} while validation accuracy fell from {:.1} % to {:.1} % \
             (95 % interval up to {:.1} %)",
            100.0 * best,
            100.0 * accuracy.value,
            100.0 * accuracy.high
        );
        self.raise(evaluated.step, AlarmKind::Divergence, over, text)
    }

    fn mean(&self, of: impl Fn(&Seen) -> f64) -> f64 {
        self.recent.iter().map(of).sum::<f64>() / self.recent.len() as f64
    }

    fn raise(&mut self, step: u64, kind: AlarmKind, over: bool, text: String) -> Option<Alarm> {
        let known = self.over.contains(&kind);
        match (over, known) {
            (true, false) => self.over.push(kind),
            (false, true) => self.over.retain(|other| *other != kind),
            _ => {}
        }
        (over && !known).then(|| {
            let alarm = Alarm { step, kind, text };
            self.raised.push(alarm.clone());
            alarm
        })
    }
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            window: 10,
            saturation: 0.9,
            length: 2.0,
            cut_off: 0.3,
            entropy: 0.05,
            divergence: true,
            action: AlarmAction::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Summary;
    use crate::report::wilson;

    /// Saturation, length, cut-off share, entropy, reward.
    fn row(step: u64, [saturation, length, cut_off, entropy, reward]: [f64; 5]) -> Row {
        Row::new(step, "rl", 0.0)
            .with("reward", reward)
            .with("score/saturation", saturation)
            .with("completions/mean_length", length)
            .with("completions/clipped_ratio", cut_off)
            .with("entropy", entropy)
    }

    const SOUND: [f64; 5] = [0.1, 30.0, 0.0, 0.8, 0.5];

    fn raised(numbers: [f64; 5]) -> Vec<AlarmKind> {
        let (config, mut watch) = (AlarmConfig { window: 3, ..AlarmConfig::default() }, Watch::default());
        let steps = (1..=3).map(|step| row(step, SOUND)).chain((4..=9).map(|step| row(step, numbers)));
        let told: Vec<_> = steps.flat_map(|row| watch.step(&config, &row)).map(|alarm| alarm.kind).collect();
        assert_eq!(watch.raised.len(), told.len());
        told
    }

    #[test]
    fn each_sign_raises_its_own_alarm_once_and_a_sound_run_none() {
        let [saturation, length, cut_off, entropy, reward] = SOUND;
        assert_eq!(raised(SOUND), []);
        assert_eq!(raised([0.95, length, cut_off, entropy, reward]), [AlarmKind::Saturation]);
        assert_eq!(raised([saturation, 61.0, cut_off, entropy, reward]), [AlarmKind::Length]);
        assert_eq!(raised([saturation, length, 0.4, entropy, reward]), [AlarmKind::CutOff]);
        assert_eq!(raised([saturation, length, cut_off, 0.03, reward]), [AlarmKind::Entropy]);
        assert_eq!(raised([f64::NAN, length, cut_off, entropy, reward]), [], "no score, no saturation");
    }

    #[test]
    fn an_alarm_that_fell_silent_speaks_again() {
        let (config, mut watch) = (AlarmConfig { window: 1, ..AlarmConfig::default() }, Watch::default());
        let saturations = [0.1, 0.95, 0.99, 0.2, 0.95];
        let steps =
            (1..).zip(saturations).map(|(step, saturation)| row(step, [saturation, 30.0, 0.0, 0.8, 0.5]));
        let told: Vec<_> = steps.flat_map(|row| watch.step(&config, &row)).map(|alarm| alarm.step).collect();
        assert_eq!(told, [2, 5]);
    }

    #[test]
    fn what_was_seen_outlives_a_checkpoint() {
        let (config, mut watch) = (AlarmConfig { window: 2, ..AlarmConfig::default() }, Watch::default());
        (1..=2).for_each(|step| drop(watch.step(&config, &row(step, SOUND))));
        let mut resumed: Watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        assert_eq!(resumed, watch);
        let grown = [0.1, 100.0, 0.0, 0.8, 0.5];
        assert_eq!(resumed.step(&config, &row(3, grown)), watch.step(&config, &row(3, grown)));
        assert_eq!(resumed.raised[0].kind, AlarmKind::Length);
    }

    #[test]
    fn a_reward_that_rises_while_accuracy_falls_is_told_and_noise_is_not() {
        let evaluated = |step, right: f64| Evaluated {
            step,
            overall: Summary { accuracy: Some(wilson(right, 200).unwrap()), ..Summary::default() },
            tasks: Vec::new(),
            histogram: [[0; 10]; 2],
        };
        let told = |accuracies: [f64; 2], rewards: [f64; 2]| {
            let (config, mut watch) = (AlarmConfig { window: 1, ..AlarmConfig::default() }, Watch::default());
            let mut last = None;
            for ((step, right), reward) in (1..).zip(accuracies).zip(rewards) {
                watch.step(&config, &row(step, [0.1, 30.0, 0.0, 0.8, reward]));
                last = watch.evaluated(&config, &evaluated(step, right));
            }
            last.map(|alarm| alarm.kind)
        };
        assert_eq!(told([150.0, 110.0], [0.4, 0.6]), Some(AlarmKind::Divergence));
        assert_eq!(told([150.0, 145.0], [0.4, 0.6]), None, "within the interval");
        assert_eq!(told([150.0, 110.0], [0.6, 0.4]), None, "the reward fell as well");
        assert_eq!(told([110.0, 150.0], [0.4, 0.6]), None, "both rose");
    }
}
