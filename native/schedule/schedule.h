// The noise schedule: float64 tables made once from the betas, and the forward process.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "prediction/convert.h"

namespace trislot {

// Everything is indexed by the step k of this process; timestep_map says which timestep of the original process that
// is.
class Schedule {
 public:
  explicit Schedule(std::vector<double> betas);

  // The process that visits only `kept` (ascending, in [0, length - 1]) of this one's timesteps (guided-diffusion's
  // respacing). They may lie between two timesteps: see alpha_bar_at.
  Schedule respaced(const std::vector<double>& kept) const;

  // alpha_bar at a fractional timestep: log(alpha_bar / (1 - alpha_bar)) is linear in between; whole timesteps are
  // exact.
  double alpha_bar_at(double t) const;

  int64_t length() const { return static_cast<int64_t>(betas.size()); }

  // Table values of each example as float32 [N, 1, ...] with `dim` dimensions on `like`'s device.
  at::Tensor gather(const std::vector<double>& table, const std::vector<int64_t>& k, const at::Tensor& like) const;

  // What the network is told, [N] float32 on the CPU: the timesteps of the original process, as they are or, as
  // improved-diffusion may, times 1000 / T.
  at::Tensor told(const std::vector<int64_t>& k, bool rescales) const;

  Mixing mixing(const std::vector<int64_t>& k, const at::Tensor& like) const;

  // x_t = sqrt(alpha_bar) x_start + sqrt(1 - alpha_bar) noise (DDPM eq. 4); x_start, noise: [N, C, ...]
  at::Tensor q_sample(const at::Tensor& x_start, const at::Tensor& noise, const std::vector<int64_t>& k) const;

  std::vector<double> betas, alpha_bar, alpha_bar_prev, alpha_bar_next;
  std::vector<double> sqrt_alpha_bar, sqrt_one_minus_alpha_bar, log_one_minus_alpha_bar;
  std::vector<double> sqrt_recip_alpha_bar, sqrt_recip_alpha_bar_minus_one;
  std::vector<double> posterior_variance, posterior_log_variance_clipped;
  std::vector<double> posterior_mean_x_start, posterior_mean_x_t;  // the two coefficients of the posterior mean
  std::vector<double> log_beta, large_variance, large_log_variance;
  std::vector<double> snr;
  std::vector<double> timestep_map;
  int64_t original_length = 0;  // timesteps of the process that was trained
};

}  // namespace trislot
