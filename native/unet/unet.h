// The network of guided-diffusion: encoder, middle, decoder with skip connections, conditioned on the timestep.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/memory.h"
#include "unet/attention.h"
#include "unet/blocks.h"
#include "unet/config.h"
#include "unet/layers.h"

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
  using Layer = std::variant<Conv, ResBlock, Attention, Resample>;
  using Block = std::vector<Layer>;

  UNet(const UNetConfig& config, ParameterList list);

  // skip: [N, C, ...] joined to h along the channels, may be undefined; emb: [N, E] after its activation.
  at::Tensor run(const Block& block, at::Tensor h, at::Tensor skip, const at::Tensor& emb,
                 const ForwardContext& context) const;

  TrimsMemory trims_memory_;
  UNetConfig config_;
  std::vector<Parameter> parameters_;
  Linear time_embed_in_, time_embed_out_;
  at::Tensor label_emb_;
  std::vector<Block> input_blocks_, output_blocks_;
  Block middle_block_;
  GroupNorm out_norm_;
  Conv out_conv_;
};

}  // namespace trislot
