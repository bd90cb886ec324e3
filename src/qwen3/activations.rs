use super::Config;
use super::batch::Indices;
use crate::dims;
use crate::tensor::{Arena, ArenaError, Axis, DType, Tensor, View};

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Every activation of every layer.
    All,
    /// Each layer's input; the backward pass runs the layer again.
    Inputs,
    /// Nothing: prefill, decode, scoring.
    Nothing,
}

/// Buffers of one forward (and backward) pass over at most `capacity` packed tokens.
#[derive(Debug)]
pub struct Activations {
    /// Most tokens that fit.
    pub capacity: usize,
    pub(super) keep: Keep,
    pub(super) indices: Indices,
    /// The residual stream before each layer and after the last: L + 1 with [`Keep::All`] and [`Keep::Inputs`], else 2.
    pub(super) residual: Vec<Tensor>,
    /// L sets with [`Keep::All`], else one that all layers share.
    pub(super) layers: Vec<LayerActivations>,
    /// The normed output, input of the head: [N, C].
    pub(super) hidden: Tensor,
    pub(super) hidden_rstd: Tensor,
    /// An input of a matrix brought down to the adapter's rank: [N, R]; used anew by every matrix.
    pub(super) low: Option<Tensor>,
}

/// What one layer computes: [N, ...] each.
#[derive(Debug)]
pub(super) struct LayerActivations {
    pub(super) input_rstd: Tensor,
    pub(super) input_normed: Tensor,
    /// Where the family norms queries and keys per head.
    pub(super) raw: Option<RawHeads>,
    pub(super) q: Tensor,
    pub(super) k: Tensor,
    pub(super) v: Tensor,
    pub(super) attended: Tensor,
    pub(super) lse: Tensor,
    pub(super) middle: Tensor,
    pub(super) post_rstd: Tensor,
    pub(super) post_normed: Tensor,
    pub(super) gate: Tensor,
    pub(super) up: Tensor,
    pub(super) product: Tensor,
}

/// Queries and keys before their norms.
#[derive(Debug)]
pub(super) struct RawHeads {
    pub(super) q: Tensor,
    pub(super) k: Tensor,
    pub(super) q_rstd: Tensor,
    pub(super) k_rstd: Tensor,
}

impl Activations {
    /// Carves the buffers for `capacity` tokens.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(
        config: &Config,
        dtype: DType,
        keep: Keep,
        capacity: usize,
        arena: &mut Arena,
    ) -> Result<Self, ArenaError> {
        let (sets, residuals) = match keep {
            Keep::All => (config.layers, config.layers + 1),
            Keep::Inputs => (1, config.layers + 1),
            Keep::Nothing => (1, 2),
        };
        let stream = dims![N: capacity, C: config.hidden];
        let residual = (0..residuals).map(|_| arena.tensor(dtype, stream)).collect::<Result<_, _>>()?;
        let layers = (0..sets).map(|_| LayerActivations::new(config, dtype, capacity, arena));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self {
            capacity,
            keep,
            indices: Indices::new(capacity, arena)?,
            residual,
            layers,
            hidden: arena.tensor(dtype, stream)?,
            hidden_rstd: arena.tensor(dtype.accumulator(), dims![N: capacity])?,
            low: low(config, dtype, capacity, arena)?,
        })
    }

    /// Normed output of the last pass for its first `n` tokens: [N, C].
    pub fn hidden(&self, n: usize) -> View<'_> {
        self.hidden.rows(0..n)
    }

    /// Index of the layer's set of buffers.
    pub(super) fn set(&self, layer: usize) -> usize {
        layer % self.layers.len()
    }

    /// Index of the residual stream before `layer`.
    pub(super) fn stage(&self, layer: usize) -> usize {
        layer % self.residual.len()
    }
}

/// [N, R], where the configuration has an adapter.
fn low(c: &Config, dtype: DType, n: usize, arena: &mut Arena) -> Result<Option<Tensor>, ArenaError> {
    c.adapter.as_ref().map(|low| arena.tensor(dtype, dims![N: n, R: low.rank()])).transpose()
}

impl LayerActivations {
    fn new(c: &Config, dtype: DType, n: usize, arena: &mut Arena) -> Result<Self, ArenaError> {
        let mut stored = |axis, size| arena.tensor(dtype, c.dims_per_token(axis, size, n));
        let (input_normed, post_normed, middle) =
            (stored(Axis::C, c.hidden)?, stored(Axis::C, c.hidden)?, stored(Axis::C, c.hidden)?);
        let [gate, up, product] = [(); 3].map(|()| stored(Axis::F, c.feed_forward));
        let mut heads = |heads| arena.tensor(dtype, dims![N: n, H: heads, D: c.head_dim]);
        let [q, attended] = [(); 2].map(|()| heads(c.heads));
        let [k, v] = [(); 2].map(|()| heads(c.kv_heads));
        let raw = c.family.norms_heads().then(|| RawHeads::new(c, dtype, n, arena)).transpose()?;
        let mut sums = |size| arena.tensor(dtype.accumulator(), dims![N: n, H: size]);
        Ok(Self {
            input_rstd: sums(1)?,
            post_rstd: sums(1)?,
            lse: sums(c.heads)?,
            input_normed,
            raw,
            q: q?,
            k: k?,
            v: v?,
            attended: attended?,
            middle,
            post_normed,
            gate: gate?,
            up: up?,
            product: product?,
        })
    }
}

impl RawHeads {
    fn new(c: &Config, dtype: DType, n: usize, arena: &mut Arena) -> Result<Self, ArenaError> {
        Ok(Self {
            q: arena.tensor(dtype, dims![N: n, H: c.heads, D: c.head_dim])?,
            k: arena.tensor(dtype, dims![N: n, KVH: c.kv_heads, D: c.head_dim])?,
            q_rstd: arena.tensor(dtype.accumulator(), dims![N: n, H: c.heads])?,
            k_rstd: arena.tensor(dtype.accumulator(), dims![N: n, KVH: c.kv_heads])?,
        })
    }
}

/// Gradients that flow through one backward pass.
#[derive(Debug)]
pub struct BackwardBuffers {
    /// Of the residual stream, [N, C].
    pub(super) stream: Tensor,
    /// Of a normed input, [N, C].
    pub(super) normed: Tensor,
    /// Of the feed-forward product, [N, F].
    pub(super) product: Tensor,
    /// Of attention's output, [N, H, D].
    pub(super) attended: Tensor,
    pub(super) q: Tensor,
    pub(super) k: Tensor,
    pub(super) v: Tensor,
    /// Between an adapter's factors, [N, R].
    pub(super) low: Option<Tensor>,
}

impl BackwardBuffers {
    /// Carves the buffers for `capacity` tokens.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn new(c: &Config, dtype: DType, capacity: usize, arena: &mut Arena) -> Result<Self, ArenaError> {
        let n = capacity;
        let low = low(c, dtype, n, arena)?;
        let mut stored = |dims| arena.tensor(dtype, dims);
        let (query, key) =
            (dims![N: n, H: c.heads, D: c.head_dim], dims![N: n, KVH: c.kv_heads, D: c.head_dim]);
        Ok(Self {
            stream: stored(dims![N: n, C: c.hidden])?,
            normed: stored(dims![N: n, C: c.hidden])?,
            product: stored(dims![N: n, F: c.feed_forward])?,
            attended: stored(query)?,
            q: stored(query)?,
            k: stored(key)?,
            v: stored(key)?,
            low,
        })
    }
}
