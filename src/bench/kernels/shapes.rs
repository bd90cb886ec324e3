use serde::Serialize;

use crate::qwen3::Config;
use crate::tensor::DType;

/// On which shapes operators are measured.
#[derive(Clone, Debug, Serialize)]
pub struct KernelShapes {
    /// The model whose layers they are.
    #[serde(skip)]
    pub config: Config,
    /// Storage of weights and activations.
    pub dtype: DType,
    /// Tokens of the forward products.
    pub products: Vec<usize>,
    /// Tokens of the backward products.
    pub backward: Vec<usize>,
    /// Lengths of one causal sequence.
    pub attention: Vec<usize>,
    /// Sequences drawn at once, and keys that each sees.
    pub decode: Vec<[usize; 2]>,
    /// Targets of the head.
    pub head: Vec<usize>,
    /// Rows of the head's tile.
    pub tile: usize,
    /// Rows of logits that are computed and drawn from.
    pub drawn: Vec<usize>,
    /// Tokens of the operators that work element by element.
    pub tokens: usize,
    /// Parameters of an update.
    pub parameters: usize,
}

impl KernelShapes {
    /// For a GPU.
    pub fn gpu(config: Config) -> Self {
        let parameters = 2 * config.hidden * config.feed_forward;
        Self {
            config,
            dtype: DType::BF16,
            products: vec![1, 16, 64, 256, 1024, 4096, 16_384],
            backward: vec![1024, 4096, 16_384],
            attention: vec![4096, 8192, 16_384],
            decode: vec![[1, 16_384], [64, 1024], [256, 640], [256, 1536]],
            head: vec![8192, 16_384],
            tile: 512,
            drawn: vec![1, 64, 256],
            tokens: 16_384,
            parameters,
        }
    }

    /// For a CPU, which is a thousand times slower.
    pub fn cpu(config: Config) -> Self {
        let parameters = config.hidden * config.feed_forward;
        Self {
            config,
            dtype: DType::BF16,
            products: vec![1, 16, 64],
            backward: vec![64],
            attention: vec![256],
            decode: vec![[1, 1024], [8, 256]],
            head: vec![32],
            tile: 32,
            drawn: vec![1, 8],
            tokens: 256,
            parameters,
        }
    }
}
