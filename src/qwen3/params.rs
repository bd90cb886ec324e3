use super::{Config, Family};
use crate::dims;
use crate::tensor::{Arena, ArenaError, DType, Dims, Tensor, View, ViewMut};

/// One of a layer's weights; [`Family::layer`] says which of them a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum LayerParam {
    InputNorm,
    Q,
    QBias,
    K,
    KBias,
    V,
    VBias,
    QNorm,
    KNorm,
    O,
    PostNorm,
    Gate,
    Up,
    Down,
}

use LayerParam::{Down, Gate, InputNorm, K, KBias, KNorm, O, PostNorm, Q, QBias, QNorm, Up, V, VBias};

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
        let layer = config.family.layer();
        let layers = (0..config.layers).flat_map(|l| layer.iter().map(move |p| Self::Layer(l, *p)));
        let head = (!config.tied).then_some(Self::Head);
        std::iter::once(Self::Embedding).chain(layers).chain([Self::Norm]).chain(head)
    }

    /// Name in a Hugging Face folder.
    pub fn name(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".into(),
            Self::Norm => "model.norm.weight".into(),
            Self::Head => "lm_head.weight".into(),
            Self::Layer(l, p) => format!("model.layers.{l}.{}", p.name()),
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

    /// Whether this is a norm's gain.
    pub fn is_gain(self) -> bool {
        matches!(self, Self::Norm | Self::Layer(_, InputNorm | QNorm | KNorm | PostNorm))
    }

    /// Whether this is added to a product.
    pub fn is_bias(self) -> bool {
        matches!(self, Self::Layer(_, QBias | KBias | VBias))
    }

    /// Whether this is a gain or a bias: kept in the accumulator's dtype, and not decayed.
    pub fn is_vector(self) -> bool {
        self.is_gain() || self.is_bias()
    }
}

impl LayerParam {
    fn name(self) -> &'static str {
        match self {
            InputNorm => "input_layernorm.weight",
            Q => "self_attn.q_proj.weight",
            QBias => "self_attn.q_proj.bias",
            K => "self_attn.k_proj.weight",
            KBias => "self_attn.k_proj.bias",
            V => "self_attn.v_proj.weight",
            VBias => "self_attn.v_proj.bias",
            QNorm => "self_attn.q_norm.weight",
            KNorm => "self_attn.k_norm.weight",
            O => "self_attn.o_proj.weight",
            PostNorm => "post_attention_layernorm.weight",
            Gate => "mlp.gate_proj.weight",
            Up => "mlp.up_proj.weight",
            Down => "mlp.down_proj.weight",
        }
    }

    fn dims(self, c: &Config) -> Dims {
        match self {
            InputNorm | PostNorm => dims![C: c.hidden],
            QNorm | KNorm => dims![D: c.head_dim],
            Q => dims![H: c.query_width(), C: c.hidden],
            QBias => dims![H: c.query_width()],
            K | V => dims![KVH: c.kv_width(), C: c.hidden],
            KBias | VBias => dims![KVH: c.kv_width()],
            O => dims![C: c.hidden, H: c.query_width()],
            Gate | Up => dims![F: c.feed_forward, C: c.hidden],
            Down => dims![C: c.hidden, F: c.feed_forward],
        }
    }
}

/// One tensor for every weight: the weights themselves, their gradients, or an optimizer's moments.
#[derive(Debug)]
pub struct Params {
    family: Family,
    layers: usize,
    tied: bool,
    tensors: Vec<(ParamId, Tensor)>,
}

impl Params {
    /// Weights: `dtype` for matrices, its accumulator for gains and biases.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn weights(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        Self::build(config, |id| if id.is_vector() { dtype.accumulator() } else { dtype }, arena)
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
        let tensors = tensors.collect::<Result<_, _>>()?;
        Ok(Self { family: config.family, layers: config.layers, tied: config.tied, tensors })
    }

    /// Place of a weight in the fixed order.
    fn index(&self, id: ParamId) -> usize {
        let layer = self.family.layer();
        match id {
            ParamId::Embedding => 0,
            ParamId::Layer(l, p) => {
                let place = layer.iter().position(|q| *q == p);
                1 + l * layer.len() + place.expect("only weights that the family has are asked for")
            }
            ParamId::Norm => 1 + self.layers * layer.len(),
            ParamId::Head => 2 + self.layers * layer.len(),
        }
    }

    /// One weight.
    pub fn get(&self, id: ParamId) -> View<'_> {
        self.tensors[self.index(id)].1.view()
    }

    /// One weight, for writing.
    pub fn get_mut(&mut self, id: ParamId) -> ViewMut<'_> {
        let index = self.index(id);
        self.tensors[index].1.view_mut()
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
