#include "denoise/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace trislot {

Denoised read_output(const Schedule& process, const OutputLayout& layout, const at::Tensor& output,
                     const at::Tensor& x_t, const Steps& k, const DenoiseOptions& options) {
  const auto predictions = split_output(layout, output);
  at::Tensor x_start;
  for (size_t i = 0; i < layout.heads.size(); ++i) {
    const double weight = options.head_weights.at(i);
    if (weight == 0) continue;
    auto part = x_start_from(process, layout.heads[i], predictions.heads[i], x_t, k);
    if (weight != 1) part = part * weight;
    x_start = x_start.defined() ? x_start + part : part;
  }
  // A head alone would be a view that keeps the whole output alive.
  x_start = options.clip ? x_start.clamp(-1, 1) : x_start.contiguous();
  const bool says_mean = layout.heads.front() == Head::XPrev;
  return {x_start, says_mean ? predictions.heads.front() : at::Tensor(), predictions.variance};
}

Denoised predict_x_start(const UNet& unet, const Schedule& process, const OutputLayout& layout, const at::Tensor& x_t,
                         int64_t k, const at::Tensor& y, const at::Tensor& low_res, const DenoiseOptions& options) {
  c10::NoGradGuard no_grad;
  const Steps steps(x_t.size(0), k);
  const auto t = process.told(steps, options.rescales_timesteps).to(x_t.device());
  const auto output = unet.forward({x_t, t, y, low_res}, {options.dtype, /*training=*/false, {}});
  return read_output(process, layout, output, x_t, steps, options);
}

}  // namespace trislot
