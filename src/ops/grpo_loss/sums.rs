/// Sums over an update's targets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// The loss.
    pub loss: f64,
    /// Its policy term.
    pub policy: f64,
    /// Its KL term, coefficient included.
    pub kl: f64,
    /// Its entropy term, coefficient and sign included.
    pub entropy: f64,
    /// Number of targets with a policy weight; the sums below are over these.
    pub tokens: u64,
    /// Targets clipped at 1 - low (with a negative advantage).
    pub clipped_low: u64,
    /// Targets clipped at 1 + high (with a positive advantage).
    pub clipped_high: u64,
    /// Targets clipped at the dual clip (with a negative advantage).
    pub clipped_dual: u64,
    /// Sum of the ratios.
    pub ratio: f64,
    /// Sum of the KL estimates, no weights.
    pub kl_estimate: f64,
    /// Sum of the entropies, no weights, nats.
    pub token_entropy: f64,
    /// Largest |logp - behaviour|: 0 when the step is on-policy to the bit.
    pub largest_gap: f64,
}

impl std::iter::Sum for LossSums {
    fn sum<I: Iterator<Item = Self>>(updates: I) -> Self {
        updates.fold(Self::default(), |all, more| Self {
            loss: all.loss + more.loss,
            policy: all.policy + more.policy,
            kl: all.kl + more.kl,
            entropy: all.entropy + more.entropy,
            tokens: all.tokens + more.tokens,
            clipped_low: all.clipped_low + more.clipped_low,
            clipped_high: all.clipped_high + more.clipped_high,
            clipped_dual: all.clipped_dual + more.clipped_dual,
            ratio: all.ratio + more.ratio,
            kl_estimate: all.kl_estimate + more.kl_estimate,
            token_entropy: all.token_entropy + more.token_entropy,
            largest_gap: all.largest_gap.max(more.largest_gap),
        })
    }
}
