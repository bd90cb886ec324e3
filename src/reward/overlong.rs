use serde::{Deserialize, Serialize};

use super::{Outcome, PairRewards, Reward};

/// What long judgements lose (arXiv 2503.14476, equation 13; TRL's `get_soft_overlong_punishment`): nothing up to `limit - cache`
/// tokens, from there on evenly more up to `most` at `limit`, and that beyond. A masked judgement has nothing to lose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoftOverlong {
    /// Tokens over which the loss rises, at most `limit`. Default 0: nothing is lost.
    pub cache: usize,
    /// Tokens at which it is whole. Default 0: the most that a judgement can have.
    pub limit: usize,
    /// The whole loss, at least 0. Default 1 (DAPO, TRL).
    pub most: f64,
}

impl Default for SoftOverlong {
    fn default() -> Self {
        Self { cache: 0, limit: 0, most: 1.0 }
    }
}

impl SoftOverlong {
    /// What a judgement of so many tokens, its end-of-sequence token included, loses.
    pub fn penalty(&self, tokens: usize) -> f64 {
        let free = self.limit.saturating_sub(self.cache);
        match tokens {
            _ if self.cache == 0 || tokens <= free => 0.0,
            _ if tokens <= self.limit => self.most * ((tokens - free) as f64 / self.cache as f64),
            _ => self.most,
        }
    }
}

impl PairRewards {
    /// The same less what long judgements lose; `tokens` are the lengths of all, the chosen response's first.
    #[must_use]
    pub fn less_overlong(mut self, overlong: &SoftOverlong, tokens: &[usize]) -> Self {
        for (outcome, tokens) in self.chosen.iter_mut().chain(&mut self.rejected).zip(tokens) {
            if let Outcome::Rewarded(Reward(reward)) = outcome {
                *reward -= overlong.penalty(*tokens);
            }
        }
        self
    }
}
