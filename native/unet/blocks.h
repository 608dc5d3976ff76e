// Residual block, up- and down-sampling (guided-diffusion's, parameter for parameter).
#pragma once

#include <optional>
#include <string>

#include "unet/config.h"
#include "unet/layers.h"

namespace trislot {

enum class Resize { None, Up, Down };

// Nearest neighbour x 2, or mean of 2 x 2; three-dimensional tensors keep their outermost dimension.
at::Tensor resize(const at::Tensor& x, Resize direction);

// Resizes with or without a convolution of its own.
struct Resample {
  Resample(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t channels, Resize direction);
  at::Tensor operator()(const at::Tensor& x) const;

  // What the convolution reads: the enlarged image, or x itself, which it halves by its stride.
  at::Tensor conv_input(const at::Tensor& x) const;

  Resize direction;
  std::optional<Conv> conv;
};

// x: [N, C_in, ...], emb: SiLU of the embedding, [N, E] -> [N, C_out, ...]
struct ResBlock {
  ResBlock(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t in, int64_t out,
           uint32_t layer, Resize direction = Resize::None);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& emb, const ForwardContext& context) const;
  std::vector<at::Tensor> parameters() const;

  GroupNorm in_norm, out_norm;
  Conv in_conv, out_conv;
  Linear emb_proj;
  std::optional<Conv> skip;
  Resize direction;
  bool scale_shift;
  double dropout;
  uint32_t layer;  // position among the residual blocks, keys the dropout mask
};

}  // namespace trislot
