#include "schedule/solver.h"

#include <ATen/ATen.h>

#include <cmath>

namespace trislot {
namespace {

// The ratio r of the noise after the step to that before it, both relative to the signal.
double noise_ratio(const Schedule& process, int64_t k) {
  return std::sqrt((1 / process.alpha_bar_prev.at(k) - 1) / (1 / process.alpha_bar.at(k) - 1));
}

// xhat' = r xhat + (1 - r) X in terms of x; finite too where step k holds no signal.
at::Tensor step_towards(const Schedule& process, const at::Tensor& mixture, const at::Tensor& x_t, int64_t k) {
  const double signal = process.sqrt_alpha_bar.at(k), signal_prev = std::sqrt(process.alpha_bar_prev.at(k));
  const double noise = process.sqrt_one_minus_alpha_bar.at(k), noise_prev = std::sqrt(1 - process.alpha_bar_prev.at(k));
  return x_t * (noise_prev / noise) + mixture * (signal_prev - signal * noise_prev / noise);
}

double half_log_snr(const Schedule& process, int64_t k) { return 0.5 * std::log(process.snr.at(k)); }

}  // namespace

at::Tensor euler_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, int64_t k) {
  return step_towards(process, x_start, x_t, k);
}

at::Tensor heun_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_start_ahead,
                     const at::Tensor& x_t, int64_t k) {
  // The mean of both slopes, (xhat - x_start) / sigma and (xhat' - x_start_ahead) / sigma'.
  const double weight = 1 / (2 * noise_ratio(process, k));
  return step_towards(process, x_start * (1 - weight) + x_start_ahead * weight, x_t, k);
}

at::Tensor dpmpp_2m_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_start_before,
                         const at::Tensor& x_t, int64_t k) {
  const double h = half_log_snr(process, k - 1) - half_log_snr(process, k);
  const double h_before = half_log_snr(process, k) - half_log_snr(process, k + 1);
  const double weight = h / (2 * h_before);  // 0 after a step from no signal, whose h is infinite
  return step_towards(process, x_start * (1 + weight) - x_start_before * weight, x_t, k);
}

}  // namespace trislot
