use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine to the floor, which it reaches at the last step.
    Cosine,
}

/// The learning rate's factor per step: rising linearly over the warm-up, then by shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// After the warm-up. Default constant.
    pub shape: Shape,
    /// Steps until the full learning rate. Default 0.
    pub warmup_steps: u64,
    /// Last step of the cosine. 0, the default: the run's own number of steps.
    pub total_steps: u64,
    /// Lowest factor of the cosine, 0 to 1. Default 0.
    pub floor: f64,
}

impl Schedule {
    /// Factor of the learning rate at `step`, counted from 1. Unlike transformers', which counts from 0, no step is spent at a
    /// rate of 0, and the warm-up's last step has the full rate.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
                let wave = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
                self.floor + (1.0 - self.floor) * wave
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_linearly_to_the_full_rate() {
        let schedule = Schedule { warmup_steps: 4, ..Schedule::default() };
        let factors: Vec<f64> = (1..=6).map(|step| schedule.factor(step)).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn cosine_falls_from_one_to_its_floor_and_stays() {
        let schedule = Schedule { shape: Shape::Cosine, warmup_steps: 2, total_steps: 10, floor: 0.1 };
        assert_eq!(schedule.factor(2), 1.0);
        assert!((schedule.factor(6) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(10) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.factor(10), schedule.factor(99));
        assert!((2..10).all(|step| schedule.factor(step) > schedule.factor(step + 1)));
    }
}
