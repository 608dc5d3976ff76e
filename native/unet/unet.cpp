#include "unet/unet.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <string>
#include <utility>

#include "kernels/kernels.h"
#include "unet/fast_blocks.h"

namespace trislot {

UNet::UNet(const UNetConfig& config, at::Device device, uint64_t seed) : UNet(config, ParameterList(device, seed)) {}

UNet::UNet(const UNetConfig& config, std::vector<at::Tensor> weights)
    : UNet(config, ParameterList(std::move(weights))) {}

UNet::UNet(const UNetConfig& config, ParameterList list) : UNet(config, list, BlockBuilder(list, config)) {}

UNet::UNet(const UNetConfig& config, ParameterList& list, BlockBuilder build) : config_(config), trunk_(build) {
  const auto levels = static_cast<int64_t>(config.channel_mult.size());
  const int64_t heads_up = config.num_heads_upsample == -1 ? config.num_heads : config.num_heads_upsample;
  auto skips = trunk_.widths;
  int64_t channels = skips.back();
  for (int64_t level = levels - 1; level >= 0; --level) {
    for (int64_t i = 0; i <= config.num_res_blocks; ++i) {
      const auto name = "output_blocks." + std::to_string(output_blocks_.size());
      Block block = {build.res_block(name + ".0", channels + skips.back(), build.width(level))};
      skips.pop_back();
      channels = build.width(level);
      if (build.attends(level)) block.push_back(build.attention(name + ".1", channels, heads_up));
      if (level > 0 && i == config.num_res_blocks) {
        block.push_back(build.resampler(name + "." + std::to_string(block.size()), channels, Resize::Up));
      }
      output_blocks_.push_back(std::move(block));
    }
  }

  out_norm_ = GroupNorm(list, "out.0", config.norm_groups, channels);
  out_conv_ = Conv(list, "out.2", config.dims, build.width(0), config.out_channels, 3, 1, /*zero=*/true);
  if (config.target_angles > 0)
    target_angle_ = list.add("target_angle", {config.target_angles}, Init::Zero, /*fan_in=*/0);
  parameters_ = std::move(list.all);
}

std::vector<at::Tensor> UNet::weights() const {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : parameters_) tensors.push_back(parameter.tensor);
  return tensors;
}

at::Tensor UNet::forward(const UNetInput& input, const ForwardContext& context) const {
  const auto emb = trunk_.embed(input.t, input.y);
  auto x = input.x;
  if (config_.low_res) {
    const auto low_res = at::upsample_bilinear2d(input.low_res, x.sizes().slice(2), /*align_corners=*/false);
    x = at::cat({x, low_res}, /*dim=*/1);
  }
  const bool recompute = config_.recompute;
  auto h = block_input(x, context);
  std::vector<at::Tensor> skips;
  for (const auto& block : trunk_.input_blocks) skips.push_back(h = run(block, h, {}, emb, context, recompute));
  h = run(trunk_.middle_block, h, {}, emb, context, recompute);
  for (const auto& block : output_blocks_) {
    h = run(block, h, std::move(skips.back()), emb, context, recompute);
    skips.pop_back();
  }
  h = h.to(at::kFloat);
  const auto output = this->output(h);
  return target_angle_.defined() ? turned_back(output, input) : output;
}

// A gate learns which head to trust, and leaves the heads and all that is before them alone.
at::Tensor UNet::output(const at::Tensor& h) const {
  const auto gate = config_.gate_channels;
  if (gate > 0 && c10::GradMode::is_enabled()) {
    const auto features = at::silu(out_norm_(h));
    const auto rest = config_.out_channels - gate;
    return at::cat({out_conv_.channels(features, 0, rest), out_conv_.channels(features.detach(), rest, gate)},
                   /*dim=*/1);
  }
  return has_fast_kernels(h) ? fast::norm_conv(out_norm_, out_conv_, h).contiguous()
                             : out_conv_(at::silu(out_norm_(h)));
}

// (v, x_t) turned by an angle d gives y = v cos d - x_t sin d, which the first channels predict: v = (y + x_t sin d) /
// cos d (math.md, eq. 66).
at::Tensor UNet::turned_back(const at::Tensor& output, const UNetInput& input) const {
  constexpr double kLargest = 1.5;  // below a right angle, where y says nothing of v
  const auto knots = target_angle_.size(0);
  const auto place = (input.t.to(at::kFloat) * (static_cast<double>(knots - 1) / (config_.angle_span - 1)))
                         .clamp(0, static_cast<double>(knots - 1));
  const auto distance = place.unsqueeze(1) - at::arange(knots, place.options());
  const auto raw =
      at::mv(at::minimum(1 - distance, 1 + distance).clamp_min(0), target_angle_);  // linear between two knots
  std::vector<int64_t> shape(output.dim(), 1);
  shape[0] = output.size(0);
  const auto angle = (kLargest * at::tanh(raw / kLargest)).view(shape);
  const auto channels = config_.in_channels;
  const auto v = (output.narrow(1, 0, channels) + at::sin(angle) * input.x) / at::cos(angle);
  const auto others = output.size(1) - channels;
  return others > 0 ? at::cat({v, output.narrow(1, channels, others)}, /*dim=*/1) : v;
}

}  // namespace trislot
