// The network of guided-diffusion: encoder, middle, decoder with skip connections, conditioned on the timestep.
#pragma once

#include <vector>

#include "runtime/memory.h"
#include "unet/config.h"
#include "unet/layers.h"
#include "unet/trunk.h"

namespace trislot {

// What the network sees beside its options.
struct UNetInput {
  at::Tensor x;        // [N, C, ...]
  at::Tensor t;        // [N] timesteps of the process that was trained, float32 (may be fractional)
  at::Tensor y;        // [N] int64 classes, for class-conditional networks only
  at::Tensor low_res;  // [N, C, h, w], for super-resolution only
};

class UNet {
 public:
  UNet(const UNetConfig& config, at::Device device, uint64_t seed);

  // The same network over other weights, which it shares rather than copies.
  UNet(const UNetConfig& config, std::vector<at::Tensor> weights);

  // -> [N, out_channels, ...] in float32
  at::Tensor forward(const UNetInput& input, const ForwardContext& context) const;

  const UNetConfig& config() const { return config_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  std::vector<at::Tensor> weights() const;
  at::Device device() const { return parameters_.front().tensor.device(); }

 private:
  UNet(const UNetConfig& config, ParameterList list);
  UNet(const UNetConfig& config, ParameterList& list, BlockBuilder build);

  at::Tensor output(const at::Tensor& h) const;
  at::Tensor turned_back(const at::Tensor& output, const UNetInput& input) const;

  TrimsMemory trims_memory_;
  UNetConfig config_;
  Trunk trunk_;
  std::vector<Block> output_blocks_;
  GroupNorm out_norm_;
  Conv out_conv_;
  at::Tensor target_angle_;  // [target_angles], or undefined
  std::vector<Parameter> parameters_;
};

}  // namespace trislot
