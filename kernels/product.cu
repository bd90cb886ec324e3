// Equation: products with a weight, y = x wᵀ; backward dx = dy w and dw = dyᵀ x.
//
// Shapes: x, dx [N, K], w, dw [M, K], y, dy [N, M]; bf16, dw f32, y and dx bf16 or f32. K and M multiples of 8.
// Traffic: 2 (N K + M K) + N M elements' bytes for y, and N M more to read y where it is added to; alike for the others.
// Launch: block and dynamic shared memory of the table. Everywhere: grid (tiles, 1 or leaves); argument: one product::Args.
//   variant   tile of c          threads  shared bytes
//   large     128 x 128          256      98304
//   medium    64 x 64            128      65536
//   few64     64 of M x 64 of N  128      65536   weights on the mma's M, split over leaves so that all SMs stream
//   few16     64 of M x 16 of N  128      61440   the same
// On sm_90a, by warpgroup_product.cuh: any number of blocks, one an SM; arguments: product::Args, tensor maps of a and b with
// boxes of 64 x the tile's side for an operand stored along the depth, of 64 x 64 for one stored across it, both swizzled over
// 128 bytes. Given `partial`, the tiles are split over leaves.
//   variant       tile of c          threads  shared bytes
//   large_wgmma   128 x 192          384      204800  the most whose sums and totals two warpgroups can hold
//   medium_wgmma  128 x 128          384      196608
//   small_wgmma   64 x 64            256      196608
//   few_wgmma     64 of M x 16 of N  256      204800  weights on wgmma's M; 160 KiB of them on their way to an SM
// Writes: y, dx (=, +=), dw (+=). Sums ascend in mma steps of 16 inside leaves from zero: of 1024 over K for y and over M
// for dx; of the given token ranges for dw, none empty. Leaf sums are added ascending from zero, then once to the old
// value; for dw each is added to the old value in turn. No bit depends on N, on the variant, or on the split; between the
// variants for sm_90a and the others that rests on wgmma adding as mma.sync does, so a device uses but one kind.
// Source: the definition of a linear layer.
#include "warpgroup_product.cuh"

namespace product {
using Large = Shape<128, 128, 2, 4, 3>;
using Medium = Shape<64, 64, 2, 2, 4>;
using Few64 = Shape<64, 64, 2, 2, 4>;
using Few16 = Shape<64, 16, 4, 1, 6>;

template <class S, class Out, Output O = Output::Straight>
using Forward = Body<S, Stored::Along, Stored::Along, LeavesAre::Equal, Out, O>;
template <class S, class Out> using ForwardFew = Forward<S, Out, Output::Turned>;
template <class S, class Out>
using BackwardInput = Body<S, Stored::Along, Stored::Across, LeavesAre::Equal, Out, Output::Straight>;
template <class S>
using BackwardWeight = Body<S, Stored::Across, Stored::Across, LeavesAre::Given, float, Output::Straight>;

template <class S, class Out, Output O = Output::Straight>
using GroupForward = GroupProduct<S, Stored::Along, Stored::Along, LeavesAre::Equal, Out, O>;
template <class S, class Out>
using GroupBackwardInput = GroupProduct<S, Stored::Along, Stored::Across, LeavesAre::Equal, Out, Output::Straight>;
template <class S>
using GroupBackwardWeight = GroupProduct<S, Stored::Across, Stored::Across, LeavesAre::Given, float, Output::Straight>;
} // namespace product

#define PRODUCT_KERNEL(name, shape, ...)                                                                               \
  KERNEL(product::shape::THREADS, name)(const product::Args args) {                                                 \
    using namespace product;                                                                                           \
    __VA_ARGS__::run(args);                                                                                            \
  }                                                                                                                    \
  EXPORT_KERNEL(product::shape::THREADS, name)

PRODUCT_KERNEL(product_forward_bf16_large, Large, Forward<Large, bf16>);
PRODUCT_KERNEL(product_forward_bf16_medium, Medium, Forward<Medium, bf16>);
PRODUCT_KERNEL(product_forward_bf16_few64, Few64, ForwardFew<Few64, bf16>);
PRODUCT_KERNEL(product_forward_bf16_few16, Few16, ForwardFew<Few16, bf16>);
PRODUCT_KERNEL(product_forward_f32_large, Large, Forward<Large, float>);
PRODUCT_KERNEL(product_forward_f32_medium, Medium, Forward<Medium, float>);
PRODUCT_KERNEL(product_forward_f32_few64, Few64, ForwardFew<Few64, float>);
PRODUCT_KERNEL(product_forward_f32_few16, Few16, ForwardFew<Few16, float>);
PRODUCT_KERNEL(product_backward_input_bf16_large, Large, BackwardInput<Large, bf16>);
PRODUCT_KERNEL(product_backward_input_bf16_medium, Medium, BackwardInput<Medium, bf16>);
PRODUCT_KERNEL(product_backward_input_f32_large, Large, BackwardInput<Large, float>);
PRODUCT_KERNEL(product_backward_input_f32_medium, Medium, BackwardInput<Medium, float>);
PRODUCT_KERNEL(product_backward_weight_f32_large, Large, BackwardWeight<Large>);
PRODUCT_KERNEL(product_backward_weight_f32_medium, Medium, BackwardWeight<Medium>);

#define WARPGROUP_KERNEL(name, shape, ...)                                                                             \
  KERNEL(product::shape::THREADS, name)                                                                               \
  (const product::Args args, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b) {              \
    using namespace product;                                                                                           \
    __VA_ARGS__::run(args, &a, &b);                                                                                    \
  }                                                                                                                    \
  EXPORT_KERNEL(product::shape::THREADS, name)

WARPGROUP_KERNEL(product_forward_bf16_large_wgmma, LargeGroups, GroupForward<LargeGroups, bf16>);
WARPGROUP_KERNEL(product_forward_bf16_medium_wgmma, MediumGroups, GroupForward<MediumGroups, bf16>);
WARPGROUP_KERNEL(product_forward_bf16_small_wgmma, SmallGroups, GroupForward<SmallGroups, bf16>);
WARPGROUP_KERNEL(product_forward_bf16_few_wgmma, FewGroups, GroupForward<FewGroups, bf16, Output::Turned>);
WARPGROUP_KERNEL(product_forward_f32_large_wgmma, LargeGroups, GroupForward<LargeGroups, float>);
WARPGROUP_KERNEL(product_forward_f32_medium_wgmma, MediumGroups, GroupForward<MediumGroups, float>);
WARPGROUP_KERNEL(product_forward_f32_small_wgmma, SmallGroups, GroupForward<SmallGroups, float>);
WARPGROUP_KERNEL(product_forward_f32_few_wgmma, FewGroups, GroupForward<FewGroups, float, Output::Turned>);
WARPGROUP_KERNEL(product_backward_input_bf16_large_wgmma, LargeGroups, GroupBackwardInput<LargeGroups, bf16>);
WARPGROUP_KERNEL(product_backward_input_bf16_medium_wgmma, MediumGroups, GroupBackwardInput<MediumGroups, bf16>);
WARPGROUP_KERNEL(product_backward_input_bf16_small_wgmma, SmallGroups, GroupBackwardInput<SmallGroups, bf16>);
WARPGROUP_KERNEL(product_backward_input_f32_large_wgmma, LargeGroups, GroupBackwardInput<LargeGroups, float>);
WARPGROUP_KERNEL(product_backward_input_f32_medium_wgmma, MediumGroups, GroupBackwardInput<MediumGroups, float>);
WARPGROUP_KERNEL(product_backward_input_f32_small_wgmma, SmallGroups, GroupBackwardInput<SmallGroups, float>);
WARPGROUP_KERNEL(product_backward_weight_f32_large_wgmma, LargeGroups, GroupBackwardWeight<LargeGroups>);
WARPGROUP_KERNEL(product_backward_weight_f32_medium_wgmma, MediumGroups, GroupBackwardWeight<MediumGroups>);
WARPGROUP_KERNEL(product_backward_weight_f32_small_wgmma, SmallGroups, GroupBackwardWeight<SmallGroups>);
