//! Estimates of KL(policy || reference) from one drawn token, with d = ln p(reference) - ln p(policy): each its value, and its
//! slope where it stands in the loss.

use serde::{Deserialize, Serialize};

use crate::device::Float;

/// Which estimate of the KL divergence (J. Schulman, "Approximating KL Divergence"). Followed where TRL and verl differ: k3 is
/// not clamped (TRL; verl clamps d at +-20 and the estimate at 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kl {
    /// -d: without bias, and of either sign. As a loss its slope is 1 whatever the reference says, with mean 0 over the
    /// policy's own tokens: there it teaches nothing.
    K1,
    /// d² / 2: its slope -d is, on average over the policy's own tokens, the slope of the divergence.
    K2,
    /// e^d - d - 1: without bias, never negative.
    #[default]
    K3,
}

impl Kl {
    /// The estimate, nats.
    pub fn estimate<A: Float>(self, d: A) -> A {
        match self {
            Self::K1 => -d,
            Self::K2 => A::from_f64(0.5) * d * d,
            Self::K3 => d.exp() - d - A::ONE,
        }
    }

    /// Its derivative by ln p(policy).
    pub(super) fn slope<A: Float>(self, d: A) -> A {
        match self {
            Self::K1 => A::ONE,
            Self::K2 => -d,
            Self::K3 => A::ONE - d.exp(),
        }
    }
}
