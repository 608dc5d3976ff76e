#include "denoise/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace trislot {

Denoised predict_x_start(const UNet& unet, const Schedule& process, const OutputLayout& layout, const at::Tensor& x_t,
                         int64_t k, const at::Tensor& y, const at::Tensor& low_res, const DenoiseOptions& options) {
  c10::NoGradGuard no_grad;
  double timestep = process.timestep_map.at(k);
  if (options.rescales_timesteps) timestep *= 1000.0 / static_cast<double>(process.original_length);
  const auto t = at::full({x_t.size(0)}, timestep, x_t.options());
  const auto output = unet.forward({x_t, t, y, low_res}, {options.dtype, /*training=*/false, {}});
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
