// Self-attention over all positions of a feature map.
#pragma once

#include <string>

#include "unet/config.h"
#include "unet/layers.h"

namespace trislot {

// x: [N, C, ...] -> the same shape
struct Attention {
  Attention(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t channels,
            int64_t head_count);
  at::Tensor operator()(const at::Tensor& x) const;
  std::vector<at::Tensor> parameters() const;

  GroupNorm norm;
  Conv qkv, proj_out;
  int64_t head_count;
  bool type_major;  // channel order of qkv: q, k, v of all heads (new order), or head by head (legacy)
};

}  // namespace trislot
