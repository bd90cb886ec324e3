use std::collections::HashMap;

use super::{Config, Factor};
use crate::device::DeviceError;
use crate::dims;
use crate::tensor::{Arena, ArenaError, Axis, DType, Dims, Tensor, View, ViewMut};

/// One of a layer's weights; [`Family::layer`](super::Family::layer) says which of them a model has.
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
    /// A factor of what an adapter adds to matrix `.1` of layer `.0`.
    Low(usize, LayerParam, Factor),
}

impl ParamId {
    /// Every weight of a model without its adapter, in the fixed order of files, gradients and updates.
    pub fn all(config: &Config) -> impl Iterator<Item = Self> + use<> {
        let layer = config.family.layer();
        let layers = (0..config.layers).flat_map(|l| layer.iter().map(move |p| Self::Layer(l, *p)));
        let head = (!config.tied).then_some(Self::Head);
        std::iter::once(Self::Embedding).chain(layers).chain([Self::Norm]).chain(head)
    }

    /// Name in a Hugging Face folder; of a factor, in peft's.
    pub fn name(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".into(),
            Self::Norm => "model.norm.weight".into(),
            Self::Head => "lm_head.weight".into(),
            Self::Layer(l, p) => format!("model.layers.{l}.{}", p.name()),
            Self::Low(l, p, factor) => {
                let letter = if matches!(factor, Factor::A(_)) { 'A' } else { 'B' };
                let matrix = p.name().trim_end_matches(".weight");
                format!("base_model.model.model.layers.{l}.{matrix}.lora_{letter}.weight")
            }
        }
    }

    /// Shape.
    pub fn dims(self, c: &Config) -> Dims {
        match self {
            Self::Embedding | Self::Head => dims![V: c.vocabulary, C: c.hidden],
            Self::Norm => dims![C: c.hidden],
            Self::Layer(_, p) => p.dims(c),
            Self::Low(_, p, factor) => match (factor, p.dims(c).axes()) {
                (Factor::A(r), [.., input]) => Dims::new(&[(Axis::R, r), *input]),
                (Factor::B(r), [output, ..]) => Dims::new(&[*output, (Axis::R, r)]),
                (_, []) => unreachable!("a matrix has dimensions"),
            },
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

    /// Name of the module that holds it, as peft's `target_modules` have it.
    pub(super) fn module(self) -> &'static str {
        self.name().split('.').rev().nth(1).unwrap_or_default()
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
    tensors: Vec<(ParamId, Tensor)>,
    /// Where each stands.
    places: HashMap<ParamId, usize>,
}

impl Params {
    /// Weights: `dtype` for matrices, its accumulator for gains and biases.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn weights(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        let stored = |id: ParamId| if id.is_vector() { dtype.accumulator() } else { dtype };
        Self::build(ParamId::all(config).map(|id| (id, stored(id), id.dims(config))), arena)
    }

    /// Gradients or moments of a model's weights: `dtype` throughout.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn uniform(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        Self::build(ParamId::all(config).map(|id| (id, dtype, id.dims(config))), arena)
    }

    /// The factors of the configuration's adapter, where it has one.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn factors(config: &Config, dtype: DType, arena: &mut Arena) -> Result<Option<Self>, ArenaError> {
        let of = |id: ParamId| (id, dtype, id.dims(config));
        config.adapter.as_ref().map(|low| Self::build(low.factors(config).map(of), arena)).transpose()
    }

    /// As many tensors of the same shapes, `dtype` throughout: gradients or moments of these.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn like(&self, dtype: DType, arena: &mut Arena) -> Result<Self, ArenaError> {
        self.beside(arena, |_, _, dims| Some((dtype, dims)))
    }

    /// A tensor beside each for which `of`, given dtype and dims, says others.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn beside(
        &self,
        arena: &mut Arena,
        of: impl Fn(ParamId, DType, Dims) -> Option<(DType, Dims)>,
    ) -> Result<Self, ArenaError> {
        let all = self.iter().filter_map(|(id, tensor)| {
            let (dtype, dims) = of(id, tensor.dtype(), tensor.dims())?;
            Some((id, dtype, dims))
        });
        Self::build(all, arena)
    }

    /// As many tensors of the same shapes and dtypes: another state of these.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn twin(&self, arena: &mut Arena) -> Result<Self, ArenaError> {
        Self::build(self.iter().map(|(id, tensor)| (id, tensor.dtype(), tensor.dims())), arena)
    }

    fn build(
        all: impl Iterator<Item = (ParamId, DType, Dims)>,
        arena: &mut Arena,
    ) -> Result<Self, ArenaError> {
        let tensors = all.map(|(id, dtype, dims)| Ok((id, arena.tensor(dtype, dims)?)));
        let tensors = tensors.collect::<Result<Vec<_>, ArenaError>>()?;
        let places = tensors.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        Ok(Self { tensors, places })
    }

    /// One weight, if it is among these.
    pub fn find(&self, id: ParamId) -> Option<View<'_>> {
        Some(self.tensors[*self.places.get(&id)?].1.view())
    }

    /// One weight, if it is among these, for writing.
    pub fn find_mut(&mut self, id: ParamId) -> Option<ViewMut<'_>> {
        Some(self.tensors[*self.places.get(&id)?].1.view_mut())
    }

    /// One weight.
    pub fn get(&self, id: ParamId) -> View<'_> {
        self.find(id).expect("only weights that the family has are asked for")
    }

    /// One weight, for writing.
    pub fn get_mut(&mut self, id: ParamId) -> ViewMut<'_> {
        self.find_mut(id).expect("only weights that the family has are asked for")
    }

    /// The matrix of the head: [V, C].
    pub fn head_id(&self) -> ParamId {
        if self.places.contains_key(&ParamId::Head) { ParamId::Head } else { ParamId::Embedding }
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
    ///
    /// # Errors
    /// When the device refuses.
    pub fn zero(&mut self) -> Result<(), DeviceError> {
        self.iter_mut().try_for_each(|(_, tensor)| tensor.zero())
    }

    /// Elements of all tensors.
    pub fn count(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.dims().count()).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.bytes()).sum()
    }
}
