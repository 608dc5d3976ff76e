// The blocks over the fast kernels: the same mathematics as their plain forms, with gradients written out. What a block
// keeps for the backward pass is its input and, without recompute, the tensors between its convolutions; activations
// are computed again, which costs less than to fetch them.
#pragma once

#include "kernels/kernels.h"
#include "unet/attention.h"
#include "unet/blocks.h"
#include "unet/layers.h"

namespace trislot::fast {

// emb_activated: SiLU of the embedding, [N, E].
at::Tensor res_block(const ResBlock& block, const Parts& x, const at::Tensor& emb_activated,
                     const ForwardContext& context, bool recompute);

at::Tensor attention(const Attention& block, const at::Tensor& x, bool recompute);

// A 3x3 convolution of stride 1 or 2.
at::Tensor conv(const Conv& layer, const at::Tensor& x);

// conv(SiLU(norm(x))): what the network ends with.
at::Tensor norm_conv(const GroupNorm& norm, const Conv& layer, const at::Tensor& x);

}  // namespace trislot::fast
