use super::Config;
use crate::dims;
use crate::tensor::{Arena, ArenaError, DType, Dims, Tensor, View, ViewMut};

/// One of a layer's weights, in the order in which the forward pass meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum LayerParam {
    InputNorm,
    Q,
    K,
    V,
    QNorm,
    KNorm,
    O,
    PostNorm,
    Gate,
    Up,
    Down,
}

use LayerParam::{Down, Gate, InputNorm, K, KNorm, O, PostNorm, Q, QNorm, Up, V};

const LAYER: [LayerParam; 11] = [InputNorm, Q, K, V, QNorm, KNorm, O, PostNorm, Gate, Up, Down];

/// Name of one weight tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamId {
    /// [V, C]; also the head where tied.
    Embedding,
    /// A weight of layer `.0`.
    Layer(usize, LayerParam),
    /// [C], the norm before the head.
    Norm,
    /// [V, C], where not tied.
    Head,
}

impl ParamId {
    /// Every weight of a model, in the fixed order of files, gradients and updates.
    pub fn all(config: &Config) -> impl Iterator<Item = Self> + use<> {
        let layers = (0..config.layers).flat_map(|l| LAYER.into_iter().map(move |p| Self::Layer(l, p)));
        let head = (!config.tied).then_some(Self::Head);
        std::iter::once(Self::Embedding).chain(layers).chain([Self::Norm]).chain(head)
    }

    fn index(self, layers: usize) -> usize {
        match self {
            Self::Embedding => 0,
            Self::Layer(l, p) => 1 + l * LAYER.len() + p as usize,
            Self::Norm => 1 + layers * LAYER.len(),
            Self::Head => 2 + layers * LAYER.len(),
        }
    }

    /// Name in a Hugging Face folder.
    pub fn name(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".into(),
            Self::Norm => "model.norm.weight".into(),
            Self::Head => "lm_head.weight".into(),
            Self::Layer(l, p) => format!("model.layers.{l}.{}.weight", p.name()),
        }
    }

    /// Shape.
    pub fn dims(self, c: &Config) -> Dims {
        match self {
            Self::Embedding | Self::Head => dims![V: c.vocabulary, C: c.hidden],
            Self::Norm => dims![C: c.hidden],
            Self::Layer(_, p) => p.dims(c),
        }
    }

    /// Whether this is a norm's gain: kept in the accumulator's dtype, and not decayed.
    pub fn is_gain(self) -> bool {
        matches!(self, Self::Norm | Self::Layer(_, InputNorm | QNorm | KNorm | PostNorm))
    }
}

impl LayerParam {
    fn name(self) -> &'static str {
        match self {
            InputNorm => "input_layernorm",
            Q => "self_attn.q_proj",
            K => "self_attn.k_proj",
            V => "self_attn.v_proj",
            QNorm => "self_attn.q_norm",
            KNorm => "self_attn.k_norm",
            O => "self_attn.o_proj",
            PostNorm => "post_attention_layernorm",
            Gate => "mlp.gate_proj",
            Up => "mlp.up_proj",
            Down => "mlp.down_proj",
        }
    }

    fn dims(self, c: &Config) -> Dims {
        match self {
            InputNorm | PostNorm => dims![C: c.hidden],
            QNorm | KNorm => dims![D: c.head_dim],
            Q => dims![H: c.query_width(), C: c.hidden],
            K | V => dims![KVH: c.kv_width(), C: c.hidden],
            O => dims![C: c.hidden, H: c.query_width()],
            Gate | Up => dims![F: c.feed_forward, C: c.hidden],
            Down => dims![C: c.hidden, F: c.feed_forward],
        }
    }
}

/// One tensor for every weight: the weights themselves, their gradients, or an optimizer's moments.
#[derive(Debug)]
pub struct Params {
    layers: usize,
    tied: bool,
    tensors: Vec<(ParamId, Tensor)>,
}

impl Params {
    /// Weights: `dtype` for matrices, its accumulator for gains.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn weights(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        Self::build(config, |id| if id.is_gain() { dtype.accumulator() } else { dtype }, arena)
    }

    /// Gradients or moments: `dtype` throughout.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn uniform(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        Self::build(config, |_| dtype, arena)
    }

    fn build(
        config: &Config,
        dtype: impl Fn(ParamId) -> DType,
        arena: &mut Arena,
    ) -> Result<Self, ArenaError> {
        let tensors = ParamId::all(config).map(|id| Ok((id, arena.tensor(dtype(id), id.dims(config))?)));
        Ok(Self { layers: config.layers, tied: config.tied, tensors: tensors.collect::<Result<_, _>>()? })
    }

    /// One weight.
    pub fn get(&self, id: ParamId) -> View<'_> {
        self.tensors[id.index(self.layers)].1.view()
    }

    /// One weight, for writing.
    pub fn get_mut(&mut self, id: ParamId) -> ViewMut<'_> {
        self.tensors[id.index(self.layers)].1.view_mut()
    }

    /// The matrix of the head: [V, C].
    pub fn head_id(&self) -> ParamId {
        if self.tied { ParamId::Embedding } else { ParamId::Head }
    }

    /// All, in the fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Tensor)> {
        self.tensors.iter().map(|(id, tensor)| (*id, tensor))
    }

    /// All, in the fixed order, for writing.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParamId, &mut Tensor)> {
        self.tensors.iter_mut().map(|(id, tensor)| (*id, tensor))
    }

    /// Sets everything to 0.
    pub fn zero(&mut self) {
        self.iter_mut().for_each(|(_, tensor)| tensor.zero());
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.bytes()).sum()
    }
}
