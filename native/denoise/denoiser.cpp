#include "denoise/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace trislot {
namespace {

// The output with the classes and the output without them in one forward pass, then free + scale * (with - free) (Ho &
// Salimans 2022, eq. 6, whose w is scale - 1). Variance channels stay those of the output with the classes.
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
  return layout.learns_variance ? at::cat({guided, both[0].narrow(1, head_channels, layout.image_channels)}, /*dim=*/1)
                                : guided;
}

}  // namespace

at::Tensor told_timesteps(const Schedule& process, const at::Tensor& x_t, int64_t k, bool rescales_timesteps) {
  double timestep = static_cast<double>(process.timestep_map.at(k));
  if (rescales_timesteps) timestep *= 1000.0 / static_cast<double>(process.original_length);
  return at::full({x_t.size(0)}, timestep, x_t.options());
}

Denoised predict_x_start(const UNet& unet, const Schedule& process, const OutputLayout& layout, const at::Tensor& x_t,
                         int64_t k, const at::Tensor& y, const at::Tensor& low_res, const DenoiseOptions& options) {
  c10::NoGradGuard no_grad;
  const auto t = told_timesteps(process, x_t, k, options.rescales_timesteps);
  const auto output = guided_output(unet, layout, {x_t, t, y, low_res}, options);
  const auto predictions = split_output(layout, output);

  const Steps steps(x_t.size(0), k);
  at::Tensor x_start;
  for (size_t i = 0; i < layout.heads.size(); ++i) {
    const double weight = options.head_weights.at(i);
    if (weight == 0) continue;
    auto part = x_start_from(process, layout.heads[i], predictions.heads[i], x_t, steps);
    if (weight != 1) part = part * weight;
    x_start = x_start.defined() ? x_start + part : part;
  }
  // A head alone would be a view that keeps the whole output alive.
  x_start = options.clip ? x_start.clamp(-1, 1) : x_start.contiguous();
  return {x_start, predictions.variance};
}

}  // namespace trislot
