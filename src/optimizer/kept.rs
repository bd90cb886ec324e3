use serde::{Deserialize, Serialize};

/// How weights become bf16 after an update. Wider weights are never rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightRounding {
    /// To the nearest, of a master copy in f32 that keeps steps too small for bf16: 4 bytes a parameter more.
    #[default]
    Nearest,
    /// Up or down with the probabilities that keep small steps in the mean (Zamirai et al., arXiv 2010.06192), without a master
    /// copy. The numbers drawn depend on the run's seed, the update, the parameter and the element, and on nothing else.
    Stochastic,
}

/// What an optimizer keeps from update to update, of all parameters alike: it settles what memory they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How weights become bf16.
    pub rounding: WeightRounding,
    /// Seed of the run, for what is drawn.
    pub seed: u64,
}
