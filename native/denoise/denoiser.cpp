#include "denoise/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "schedule/gate.h"

namespace trislot {
namespace {

// The output with the classes and the output without them in one forward pass, then free + scale * (with - free) (Ho &
// Salimans 2022, eq. 6, whose w is scale - 1). Variance and gate stay those of the output with the classes.
at::Tensor guided_output(const UNet& unet, const OutputLayout& layout, const UNetInput& input,
                         const DenoiseOptions& options) {
  const ForwardContext context{options.dtype, /*training=*/false, {}};
  if (options.guidance_scale == 1) return unet.forward(input, context);
  const auto null = at::full_like(input.y, options.null_class);
  if (options.guidance_scale == 0) return unet.forward({input.x, input.t, null, input.low_res}, context);
  const auto twice = [](const at::Tensor& tensor) { return tensor.defined() ? at::cat({tensor, tensor}) : tensor; };
  const auto both =
      unet.forward({twice(input.x), twice(input.t), at::cat({input.y, null}), twice(input.low_res)}, context).chunk(2);
  const auto head_channels = layout.image_channels * static_cast<int64_t>(layout.heads.size());
  const auto with = both[0].narrow(1, 0, head_channels), free = both[1].narrow(1, 0, head_channels);
  const auto guided = free + options.guidance_scale * (with - free);
  const auto others = layout.channel_count() - head_channels;
  return others > 0 ? at::cat({guided, both[0].narrow(1, head_channels, others)}, /*dim=*/1) : guided;
}

}  // namespace

Denoised read_output(const Schedule& process, const OutputLayout& layout, const at::Tensor& output,
                     const at::Tensor& x_t, const Steps& k, const DenoiseOptions& options) {
  const auto predictions = split_output(layout, output);
  const bool gated = options.head_weights.empty();
  TORCH_CHECK(!gated || layout.gate, "a network without a gate cannot combine its heads by it");
  const auto gate = gated ? gate_weights(process, layout, predictions.gate, k) : at::Tensor();
  at::Tensor x_start;
  for (size_t i = 0; i < layout.heads.size(); ++i) {
    const double weight = gated ? 1 : options.head_weights.at(i);
    if (weight == 0) continue;
    auto part = x_start_from(process, layout.heads[i], predictions.head(static_cast<int64_t>(i)), x_t, k);
    if (gated) {
      const auto share = gate.narrow(1, static_cast<int64_t>(i), 1);
      part = part.masked_fill(share == 0, 0) * share;  // without signal eps says x_start is infinite, with weight 0
    }
    if (weight != 1) part = part * weight;
    x_start = x_start.defined() ? x_start + part : part;
  }
  // A head alone would be a view that keeps the whole output alive.
  x_start = options.clip ? x_start.clamp(-1, 1) : x_start.contiguous();
  const bool says_mean = layout.heads.front() == Head::XPrev;
  return {x_start, says_mean ? predictions.head(0) : at::Tensor(), predictions.variance};
}

Denoised predict_x_start(const UNet& unet, const Schedule& process, const OutputLayout& layout, const at::Tensor& x_t,
                         int64_t k, const at::Tensor& y, const at::Tensor& low_res, const DenoiseOptions& options) {
  c10::NoGradGuard no_grad;
  const Steps steps(x_t.size(0), k);
  const auto t = process.told(steps, options.rescales_timesteps).to(x_t.device());
  const auto output = guided_output(unet, layout, {x_t, t, y, low_res}, options);
  return read_output(process, layout, output, x_t, steps, options);
}

}  // namespace trislot
