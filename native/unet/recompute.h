// Activation checkpointing, which C++ LibTorch does not have: a block's activations are not kept for the backward pass,
// the block is run again instead.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace trislot {

using Tensors = std::vector<at::Tensor>;

// Runs `block` on `inputs`. Every tensor that the block reads and that needs a gradient must be among `inputs` or
// `parameters`. The block must draw its randomness from keys, as dropout does here, so that a second run repeats it.
at::Tensor recomputed(const std::function<at::Tensor(const Tensors& inputs)>& block, const Tensors& inputs,
                      const Tensors& parameters);

}  // namespace trislot
