// The noisy classifier of guided-diffusion (EncoderUNetModel): the UNet's way down, its middle, and a head that pools.
#pragma once

#include <optional>
#include <vector>

#include "runtime/memory.h"
#include "unet/config.h"
#include "unet/layers.h"
#include "unet/trunk.h"
#include "unet/unet.h"

namespace trislot {

// How feature maps become one vector: the mean of the last one, attention over its positions, or the means of all of
// them (with ReLU, or with a norm and SiLU).
enum class Pool { Adaptive, Attention, Spatial, SpatialV2 };

struct EncoderConfig {
  UNetConfig trunk;  // out_channels is the number of classes; without labels and low_res, two spatial dimensions
  Pool pool = Pool::Adaptive;
  int64_t image_size = 0;  // height and width of the images, for attention pooling only
};

// One query, the mean of all positions, attends to it and to every position.
struct AttentionPool {
  AttentionPool(ParameterList& list, const std::string& name, int64_t side, int64_t channels, int64_t head_channels,
                int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;  // [N, C, side, side] -> [N, out]

  at::Tensor positional_embedding;  // [C, side * side + 1]
  Conv qkv_proj, c_proj;
  int64_t head_count;
};

class Encoder {
 public:
  Encoder(const EncoderConfig& config, at::Device device, uint64_t seed);

  // x, t of the input -> logits [N, classes] in float32
  at::Tensor forward(const UNetInput& input, const ForwardContext& context) const;

  const std::vector<Parameter>& parameters() const { return parameters_; }
  std::vector<at::Tensor> weights() const;
  at::Device device() const { return parameters_.front().tensor.device(); }

 private:
  Encoder(const EncoderConfig& config, ParameterList list);
  Encoder(const EncoderConfig& config, ParameterList& list, BlockBuilder build);
  at::Tensor head(const at::Tensor& features) const;

  TrimsMemory trims_memory_;
  EncoderConfig config_;
  Trunk trunk_;
  GroupNorm norm_;
  std::optional<Conv> conv_;                // adaptive
  std::optional<AttentionPool> attention_;  // attention
  Linear hidden_, logits_;                  // spatial, spatial_v2
  std::vector<Parameter> parameters_;
};

// Gradient of log p(y | x_t) at x_t, [N, C, ...]. t: [N] float32, y: [N] int64
at::Tensor log_probability_gradient(const Encoder& encoder, const at::Tensor& x_t, const at::Tensor& t,
                                    const at::Tensor& y, at::ScalarType dtype);

}  // namespace trislot
