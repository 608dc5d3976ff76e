#include "unet/encoder.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>

namespace trislot {
namespace {

constexpr int64_t kHiddenWidth = 2048;  // of the spatial heads

at::Tensor spatial_mean(const at::Tensor& h) { return h.to(at::kFloat).flatten(2).mean(/*dim=*/2); }

}  // namespace

AttentionPool::AttentionPool(ParameterList& list, const std::string& name, int64_t side, int64_t channels,
                             int64_t head_channels, int64_t out)
    : positional_embedding(list.add(name + ".positional_embedding", {channels, side * side + 1}, Init::Normal)),
      qkv_proj(list, name + ".qkv_proj", /*dims=*/1, channels, 3 * channels, 1),
      c_proj(list, name + ".c_proj", /*dims=*/1, channels, out, 1),
      head_count(channels / head_channels) {
  c10::NoGradGuard no_grad;
  positional_embedding.div_(std::sqrt(static_cast<double>(channels)));
}

at::Tensor AttentionPool::operator()(const at::Tensor& x) const {
  const auto flat = x.flatten(2);
  const auto tokens = at::cat({flat.mean(/*dim=*/2, /*keepdim=*/true), flat}, /*dim=*/2) + positional_embedding;
  const int64_t n = tokens.size(0), channels = tokens.size(1), count = tokens.size(2);
  const auto all = qkv_proj(tokens).view({n, 3, head_count, channels / head_count, count}).transpose(3, 4);
  const auto mixed = at::scaled_dot_product_attention(all.select(1, 0).narrow(2, 0, 1).contiguous(),
                                                      all.select(1, 1).contiguous(), all.select(1, 2).contiguous());
  return c_proj(mixed.reshape({n, channels, 1})).squeeze(2);
}

Encoder::Encoder(const EncoderConfig& config, at::Device device, uint64_t seed)
    : Encoder(config, ParameterList(device, seed)) {}

Encoder::Encoder(const EncoderConfig& config, ParameterList list)
    : Encoder(config, list, BlockBuilder(list, config.trunk)) {}

Encoder::Encoder(const EncoderConfig& config, ParameterList& list, BlockBuilder build)
    : config_(config), trunk_(build) {
  const auto groups = config.trunk.norm_groups;
  const auto classes = config.trunk.out_channels;
  const auto channels = trunk_.widths.back();
  int64_t features = channels;  // of all input blocks and the middle
  for (const auto width : trunk_.widths) features += width;
  switch (config.pool) {
    case Pool::Adaptive:
      norm_ = GroupNorm(list, "out.0", groups, channels);
      conv_.emplace(list, "out.3", config.trunk.dims, channels, classes, 1, 1, /*zero=*/true);
      break;
    case Pool::Attention: {
      const auto side = config.image_size >> (config.trunk.channel_mult.size() - 1);
      norm_ = GroupNorm(list, "out.0", groups, channels);
      attention_.emplace(list, "out.2", side, channels, config.trunk.num_head_channels, classes);
      break;
    }
    case Pool::Spatial:
      hidden_ = Linear(list, "out.0", features, kHiddenWidth);
      logits_ = Linear(list, "out.2", kHiddenWidth, classes);
      break;
    case Pool::SpatialV2:
      hidden_ = Linear(list, "out.0", features, kHiddenWidth);
      norm_ = GroupNorm(list, "out.1", groups, kHiddenWidth);
      logits_ = Linear(list, "out.3", kHiddenWidth, classes);
      break;
  }
  parameters_ = std::move(list.all);
}

std::vector<at::Tensor> Encoder::weights() const {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters_) tensors.push_back(parameter.tensor);
  return tensors;
}

at::Tensor Encoder::forward(const UNetInput& input, const ForwardContext& context) const {
  const bool recompute = config_.trunk.recompute;
  const bool is_spatial = config_.pool == Pool::Spatial || config_.pool == Pool::SpatialV2;
  const auto emb = trunk_.embed(input.t, {});
  auto h = block_input(input.x, context);
  std::vector<at::Tensor> means;
  for (const auto& block : trunk_.input_blocks) {
    h = run(block, h, {}, emb, context, recompute);
    if (is_spatial) means.push_back(spatial_mean(h));
  }
  h = run(trunk_.middle_block, h, {}, emb, context, recompute);
  if (is_spatial) {
    means.push_back(spatial_mean(h));
    return head(at::cat(means, /*dim=*/1));
  }
  return head(h.to(at::kFloat));
}

at::Tensor Encoder::head(const at::Tensor& features) const {
  switch (config_.pool) {
    case Pool::Adaptive:
      return (*conv_)(at::silu(norm_(features)).mean({2, 3}, /*keepdim=*/true)).flatten(1);
    case Pool::Attention:
      return (*attention_)(at::silu(norm_(features)));
    case Pool::Spatial:
      return logits_(at::relu(hidden_(features)));
    case Pool::SpatialV2:
      return logits_(at::silu(norm_(hidden_(features))));
  }
  TORCH_CHECK(false, "no such pool");
}

at::Tensor log_probability_gradient(const Encoder& encoder, const at::Tensor& x_t, const at::Tensor& t,
                                    const at::Tensor& y, at::ScalarType dtype) {
  c10::AutoGradMode enable_grad(true);
  const auto x = x_t.detach().requires_grad_(true);
  const auto logits = encoder.forward({x, t, {}, {}}, {dtype, /*training=*/false, {}});
  const auto chosen = at::log_softmax(logits, /*dim=*/1).gather(1, y.unsqueeze(1)).sum();
  return torch::autograd::grad({chosen}, {x}).front();
}

}  // namespace trislot
