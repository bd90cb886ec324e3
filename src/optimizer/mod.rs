//! From gradients to weights: AdamW, clipping, schedules.
