//! From scores to rewards: preference-aware rewards (PAR) over the judgements of a pair, and the format reward.
//!
//! Nothing here sees a tensor, and no absolute label appears: a reward says how a judgement's score stands against the
//! mean score of the *other* response.

mod config;
mod judgement;
mod overlong;
mod par;
mod stats;

pub use crate::rubric::Score;
pub use config::{CutOff, FormatReward, Margin, ParConfig, ParConfigError};
pub use judgement::{Judgement, read, read_pair};
pub use overlong::SoftOverlong;
pub use par::{Outcome, PairRewards, Reward, Standing, par, standing};
pub use stats::{RewardStats, ScoreCounts};
