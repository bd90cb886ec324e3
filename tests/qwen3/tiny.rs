//! The shape of a Qwen3 that the CPU's checks of CUDA kernels run through in seconds: nothing in it is a whole tile.

use patarm::qwen3::{Config, Family};

/// Tokens of its vocabulary.
pub(crate) const VOCABULARY: usize = 104;

/// Two layers; H D differs from C, and two query heads share a key head.
pub(crate) fn config(tied: bool) -> Config {
    Config {
        family: Family::Qwen3,
        vocabulary: VOCABULARY,
        hidden: 48,
        feed_forward: 80,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        norm_eps: 1e-6,
        rope_theta: 1e4,
        tied,
        positions: 1024,
        adapter: None,
        other: serde_json::Map::new(),
    }
}
