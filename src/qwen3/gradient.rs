use super::{ParamId, Params};
use crate::tensor::ViewMut;

/// Where gradients go. The backward pass asks for each parameter's buffer, adds to it, and says when nothing more will come
/// in this pass; parameters finish one at a time in an order that never changes.
pub trait GradientSink {
    /// What the backward pass adds this parameter's gradient to: accumulator dtype, the parameter's dims. None of a parameter
    /// that does not learn: its gradient is not computed.
    fn buffer(&mut self, id: ParamId) -> Option<ViewMut<'_>>;
    /// This parameter's gradient is complete for this pass.
    fn finished(&mut self, id: ParamId);
}

/// Sums gradients over all passes of an optimizer step; what has no place there does not learn.
#[derive(Debug)]
pub struct Accumulate<'a>(pub &'a mut Params);

impl GradientSink for Accumulate<'_> {
    fn buffer(&mut self, id: ParamId) -> Option<ViewMut<'_>> {
        self.0.find_mut(id)
    }

    fn finished(&mut self, _: ParamId) {}
}
