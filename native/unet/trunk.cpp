#include "unet/trunk.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

#include "kernels/kernels.h"
#include "unet/fast_blocks.h"
#include "unet/recompute.h"

namespace trislot {

int64_t BlockBuilder::width(int64_t level) const {
  return static_cast<int64_t>(config.channel_mult[level] * static_cast<double>(config.model_channels));
}

bool BlockBuilder::attends(int64_t level) const {
  const auto& at = config.attention_resolutions;
  return std::find(at.begin(), at.end(), int64_t{1} << level) != at.end();
}

ResBlock BlockBuilder::res_block(const std::string& name, int64_t in, int64_t out, Resize direction) {
  return ResBlock(list, name, config, in, out, layer_++, direction);
}

Layer BlockBuilder::resampler(const std::string& name, int64_t channels, Resize direction) {
  if (config.resblock_updown) return res_block(name, channels, channels, direction);
  return Resample(list, name, config, channels, direction);
}

Attention BlockBuilder::attention(const std::string& name, int64_t channels, int64_t head_count) {
  const auto heads = config.num_head_channels == -1 ? head_count : channels / config.num_head_channels;
  return Attention(list, name, config, channels, heads);
}

at::Tensor run(const Block& block, at::Tensor h, at::Tensor skip, const at::Tensor& emb, const ForwardContext& context,
               bool recompute) {
  recompute = recompute && c10::GradMode::is_enabled();
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
      h = fast && resample.conv ? fast::conv(*resample.conv, resample.conv_input(h)) : resample(h);
    }
  }
  return h;
}

at::Tensor block_input(const at::Tensor& x, const ForwardContext& context) {
  const auto h = x.to(context.dtype);
  return has_fast_kernels(h) ? fast::nhwc(h) : h;
}

Trunk::Trunk(BlockBuilder& build) : model_channels(build.config.model_channels) {
  const auto& config = build.config;
  const auto levels = static_cast<int64_t>(config.channel_mult.size());
  const int64_t emb_channels = 4 * model_channels;
  time_embed_in = Linear(build.list, "time_embed.0", model_channels, emb_channels);
  time_embed_out = Linear(build.list, "time_embed.2", emb_channels, emb_channels);
  if (config.num_classes > 0) {
    label_emb = build.list.add("label_emb.weight", {config.num_classes, emb_channels}, Init::Normal);
  }

  int64_t channels = build.width(0);
  const int64_t seen = config.in_channels * (config.low_res ? 2 : 1);
  input_blocks.push_back({Conv(build.list, "input_blocks.0.0", config.dims, seen, channels, 3)});
  widths.push_back(channels);
  const auto next_name = [&] { return "input_blocks." + std::to_string(input_blocks.size()); };
  for (int64_t level = 0; level < levels; ++level) {
    for (int64_t i = 0; i < config.num_res_blocks; ++i) {
      Block block = {build.res_block(next_name() + ".0", channels, build.width(level))};
      channels = build.width(level);
      if (build.attends(level)) block.push_back(build.attention(next_name() + ".1", channels, config.num_heads));
      input_blocks.push_back(std::move(block));
      widths.push_back(channels);
    }
    if (level < levels - 1) {
      input_blocks.push_back({build.resampler(next_name() + ".0", channels, Resize::Down)});
      widths.push_back(channels);
    }
  }

  middle_block.push_back(build.res_block("middle_block.0", channels, channels));
  middle_block.push_back(build.attention("middle_block.1", channels, config.num_heads));
  middle_block.push_back(build.res_block("middle_block.2", channels, channels));
}

at::Tensor Trunk::embed(const at::Tensor& t, const at::Tensor& y) const {
  auto emb = time_embed_out(at::silu(time_embed_in(timestep_embedding(t, model_channels))));
  if (label_emb.defined()) emb = emb + at::index(label_emb, {y});
  return at::silu(emb);
}

}  // namespace trislot
