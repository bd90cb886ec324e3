//! From verdicts to rewards: scores, PAR over a pair's judgements, the format reward.
