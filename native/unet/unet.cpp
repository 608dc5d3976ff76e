#include "unet/unet.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

#include "kernels/kernels.h"
#include "unet/fast_blocks.h"
#include "unet/recompute.h"

namespace trislot {

UNet::UNet(const UNetConfig& config, at::Device device, uint64_t seed) : UNet(config, ParameterList(device, seed)) {}

UNet::UNet(const UNetConfig& config, std::vector<at::Tensor> weights)
    : UNet(config, ParameterList(std::move(weights))) {}

UNet::UNet(const UNetConfig& config, ParameterList list) : config_(config) {
  const int64_t levels = static_cast<int64_t>(config.channel_mult.size());
  const auto width = [&](int64_t level) {
    return static_cast<int64_t>(config.channel_mult[level] * static_cast<double>(config.model_channels));
  };
  const auto attends = [&](int64_t level) {
    const auto& at = config.attention_resolutions;
    return std::find(at.begin(), at.end(), int64_t{1} << level) != at.end();
  };
  const auto heads = [&](int64_t channels, int64_t count) {
    return config.num_head_channels == -1 ? count : channels / config.num_head_channels;
  };
  const int64_t heads_up = config.num_heads_upsample == -1 ? config.num_heads : config.num_heads_upsample;
  uint32_t layer = 0;  // residual blocks so far
  const auto res_block = [&](const std::string& name, int64_t in, int64_t out, Resize direction = Resize::None) {
    return ResBlock(list, name, config, in, out, layer++, direction);
  };
  const auto resampler = [&](const std::string& name, int64_t channels, Resize direction) -> Layer {
    if (config.resblock_updown) return res_block(name, channels, channels, direction);
    return Resample(list, name, config, channels, direction);
  };

  const int64_t emb_channels = 4 * config.model_channels;
  time_embed_in_ = Linear(list, "time_embed.0", config.model_channels, emb_channels);
  time_embed_out_ = Linear(list, "time_embed.2", emb_channels, emb_channels);
  if (config.num_classes > 0) {
    label_emb_ = list.add("label_emb.weight", {config.num_classes, emb_channels}, Init::Normal);
  }

  int64_t channels = width(0);
  std::vector<int64_t> skips = {channels};
  const int64_t seen = config.in_channels * (config.low_res ? 2 : 1);
  input_blocks_.push_back({Conv(list, "input_blocks.0.0", config.dims, seen, channels, 3)});
  for (int64_t level = 0; level < levels; ++level) {
    for (int64_t i = 0; i < config.num_res_blocks; ++i) {
      const auto name = "input_blocks." + std::to_string(input_blocks_.size());
      Block block = {res_block(name + ".0", channels, width(level))};
      channels = width(level);
      if (attends(level)) {
        block.push_back(Attention(list, name + ".1", config, channels, heads(channels, config.num_heads)));
      }
      input_blocks_.push_back(std::move(block));
      skips.push_back(channels);
    }
    if (level < levels - 1) {
      const auto name = "input_blocks." + std::to_string(input_blocks_.size());
      input_blocks_.push_back({resampler(name + ".0", channels, Resize::Down)});
      skips.push_back(channels);
    }
  }

  middle_block_.push_back(res_block("middle_block.0", channels, channels));
  middle_block_.push_back(Attention(list, "middle_block.1", config, channels, heads(channels, config.num_heads)));
  middle_block_.push_back(res_block("middle_block.2", channels, channels));

  for (int64_t level = levels - 1; level >= 0; --level) {
    for (int64_t i = 0; i <= config.num_res_blocks; ++i) {
      const auto name = "output_blocks." + std::to_string(output_blocks_.size());
      Block block = {res_block(name + ".0", channels + skips.back(), width(level))};
      skips.pop_back();
      channels = width(level);
      if (attends(level)) block.push_back(Attention(list, name + ".1", config, channels, heads(channels, heads_up)));
      if (level > 0 && i == config.num_res_blocks) {
        block.push_back(resampler(name + "." + std::to_string(block.size()), channels, Resize::Up));
      }
      output_blocks_.push_back(std::move(block));
    }
  }

  out_norm_ = GroupNorm(list, "out.0", config.norm_groups, channels);
  out_conv_ = Conv(list, "out.2", config.dims, width(0), config.out_channels, 3, 1, /*zero=*/true);
  parameters_ = std::move(list.all);
}

std::vector<at::Tensor> UNet::weights() const {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters_) tensors.push_back(parameter.tensor);
  return tensors;
}

at::Tensor UNet::run(const Block& block, at::Tensor h, at::Tensor skip, const at::Tensor& emb,
                     const ForwardContext& context) const {
  const bool recompute = config_.recompute && c10::GradMode::is_enabled();
  const bool fast = has_fast_kernels(h);
  if (skip.defined() && !fast) h = at::cat({h, std::exchange(skip, {})}, /*dim=*/1);
  for (const auto& layer : block) {
    if (const auto* res = std::get_if<ResBlock>(&layer)) {
      h = fast        ? fast::res_block(*res, {h, std::exchange(skip, {})}, emb, context, recompute)
          : recompute ? recomputed([res, context](const Tensors& in) { return (*res)(in[0], in[1], context); },
                                   {h, emb}, res->parameters())
                      : (*res)(h, emb, context);
    } else if (const auto* attention = std::get_if<Attention>(&layer)) {
      h = fast ? fast::attention(*attention, h, recompute)
          : recompute
              ? recomputed([attention](const Tensors& in) { return (*attention)(in[0]); }, {h}, attention->parameters())
              : (*attention)(h);
    } else if (const auto* conv = std::get_if<Conv>(&layer)) {
      h = fast ? fast::conv(*conv, h) : (*conv)(h);
    } else {
      const auto& resample = std::get<Resample>(layer);
      const bool convolves = fast && resample.conv && resample.direction == Resize::Up;
      h = convolves ? fast::conv(*resample.conv, resize(h, Resize::Up)) : resample(h);
    }
  }
  return h;
}

at::Tensor UNet::forward(const UNetInput& input, const ForwardContext& context) const {
  auto emb = timestep_embedding(input.t, config_.model_channels);
  emb = time_embed_out_(at::silu(time_embed_in_(emb)));
  if (label_emb_.defined()) emb = emb + at::index(label_emb_, {input.y});
  emb = at::silu(emb);  // every block begins with it

  auto x = input.x;
  if (config_.low_res) {
    const auto low_res = at::upsample_bilinear2d(input.low_res, x.sizes().slice(2), /*align_corners=*/false);
    x = at::cat({x, low_res}, /*dim=*/1);
  }
  auto h = x.to(context.dtype);
  if (has_fast_kernels(h)) h = fast::nhwc(h);
  std::vector<at::Tensor> skips;
  for (const auto& block : input_blocks_) skips.push_back(h = run(block, h, {}, emb, context));
  h = run(middle_block_, h, {}, emb, context);
  for (const auto& block : output_blocks_) {
    h = run(block, h, std::move(skips.back()), emb, context);
    skips.pop_back();
  }
  h = h.to(at::kFloat);
  if (has_fast_kernels(h)) return fast::norm_conv(out_norm_, out_conv_, h).contiguous();
  return out_conv_(at::silu(out_norm_(h)));
}

}  // namespace trislot
