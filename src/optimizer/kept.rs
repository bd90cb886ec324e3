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

/// How the two moments of a matrix are kept. Those of gains and biases, which are few, are always in the dtype of sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moments {
    /// In the dtype of sums: 8 bytes a parameter.
    #[default]
    #[serde(rename = "f32")]
    Wide,
    /// In codes of 8 bits with a scale for each block of 256 ([`codes`](crate::ops::adamw::codes)): 2.03 bytes a parameter.
    #[serde(rename = "8-bit")]
    EightBit,
}

/// What an optimizer keeps from update to update, of all parameters alike: it settles what memory they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How weights become bf16.
    pub rounding: WeightRounding,
    /// How moments are kept.
    pub moments: Moments,
    /// Seed of the run, for what is drawn.
    pub seed: u64,
}
