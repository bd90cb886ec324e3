//! GSPO (arXiv 2507.18071): a sequence is clipped as a whole, by its mean log-ratio. The paper clips at 3e-4 and 4e-4: the mean
//! of a sequence moves less than its tokens. Followed where TRL and verl differ: the mean over sequences of the paper (TRL's
//! `loss_type = grpo` with sequence ratios; verl's default is the mean over tokens), no clamp on the log-ratio (TRL).

use super::{Variant, sequence_mean};
use crate::ops::grpo_loss::Ratio;

pub(super) const VARIANT: Variant =
    Variant { ratio: Ratio::Sequence, weights: |lengths, _| sequence_mean(lengths) };
