// Equation: products with a weight, y = x wᵀ; backward dx = dy w and dw = dyᵀ x.
//
// Shapes: x, dx [N, K], w, dw [M, K], y, dy [N, M]; bf16, dw f32, y and dx bf16 or f32. K and M multiples of 8.
// Traffic: 2 (N K + M K) + N M elements' bytes for y, and N M more to read y where it is added to; alike for the others.
// Launch: grid (tiles, 1 or leaves), block and dynamic shared memory of the table; argument: one product::Args.
//   variant   tile of c          threads  shared bytes
//   large     128 x 128          256      98304
//   wgmma     128 x 128          256      131072  sm_90a: the large forward on warpgroup tensor cores
//   medium    64 x 64            128      65536
//   few64     64 of M x 64 of N  128      65536   weights on the mma's M, split over leaves so that all SMs stream
//   few16     64 of M x 16 of N  128      61440   the same
// Writes: y, dx (=, +=), dw (+=). Sums ascend in mma steps of 16 inside leaves from zero: of 1024 over K for y and over M
// for dx; of the given token ranges for dw, none empty. Leaf sums are added ascending from zero, then once to the old
// value; for dw each is added to the old value in turn. No bit depends on N, on the variant, or on the split.
// Source: the definition of a linear layer.
#include "product.cuh"

namespace product {
using Large = Shape<128, 128, 2, 4, 3>;
using Wgmma = Shape<128, 128, 8, 1, 4, Core::Warpgroup>;
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
} // namespace product

#define PRODUCT_KERNEL(name, shape, ...)                                                                               \
  KERNEL(product::shape::THREADS, name)(const product::Args args) {                                                 \
    using namespace product;                                                                                           \
    __VA_ARGS__::run(args);                                                                                            \
  }                                                                                                                    \
  EXPORT_KERNEL(product::shape::THREADS, name)

PRODUCT_KERNEL(product_forward_bf16_large, Large, Forward<Large, bf16>);
PRODUCT_KERNEL(product_forward_bf16_wgmma, Wgmma, Forward<Wgmma, bf16>);
PRODUCT_KERNEL(product_forward_bf16_medium, Medium, Forward<Medium, bf16>);
PRODUCT_KERNEL(product_forward_bf16_few64, Few64, ForwardFew<Few64, bf16>);
PRODUCT_KERNEL(product_forward_bf16_few16, Few16, ForwardFew<Few16, bf16>);
PRODUCT_KERNEL(product_forward_f32_large, Large, Forward<Large, float>);
PRODUCT_KERNEL(product_forward_f32_wgmma, Wgmma, Forward<Wgmma, float>);
PRODUCT_KERNEL(product_forward_f32_medium, Medium, Forward<Medium, float>);
PRODUCT_KERNEL(product_forward_f32_few64, Few64, ForwardFew<Few64, float>);
PRODUCT_KERNEL(product_forward_f32_few16, Few16, ForwardFew<Few16, float>);
PRODUCT_KERNEL(product_backward_input_bf16_large, Large, BackwardInput<Large, bf16>);
PRODUCT_KERNEL(product_backward_input_bf16_medium, Medium, BackwardInput<Medium, bf16>);
PRODUCT_KERNEL(product_backward_input_f32_large, Large, BackwardInput<Large, float>);
PRODUCT_KERNEL(product_backward_input_f32_medium, Medium, BackwardInput<Medium, float>);
PRODUCT_KERNEL(product_backward_weight_f32_large, Large, BackwardWeight<Large>);
PRODUCT_KERNEL(product_backward_weight_f32_medium, Medium, BackwardWeight<Medium>);
