//! From rewards to the loss: advantages, packing, loss variants.
