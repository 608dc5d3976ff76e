#include "schedule/schedule.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

namespace trislot {

Schedule::Schedule(std::vector<double> betas_in) : betas(std::move(betas_in)) {
  const size_t count = betas.size();
  TORCH_CHECK(count > 0, "a schedule needs at least one timestep");
  double product = 1;
  for (size_t i = 0; i < count; ++i) {
    TORCH_CHECK(betas[i] > 0 && betas[i] <= 1, "beta[", i, "] is ", betas[i], ", outside (0, 1]");
    alpha_bar_prev.push_back(product);
    alpha_bar.push_back(product *= 1 - betas[i]);
  }
  for (size_t i = 0; i < count; ++i) {
    const double ab = alpha_bar[i], prev = alpha_bar_prev[i], beta = betas[i];
    alpha_bar_next.push_back(i + 1 < count ? alpha_bar[i + 1] : 0);
    sqrt_alpha_bar.push_back(std::sqrt(ab));
    sqrt_one_minus_alpha_bar.push_back(std::sqrt(1 - ab));
    log_one_minus_alpha_bar.push_back(std::log(1 - ab));
    sqrt_recip_alpha_bar.push_back(std::sqrt(1 / ab));
    sqrt_recip_alpha_bar_minus_one.push_back(std::sqrt(1 / ab - 1));
    posterior_variance.push_back(beta * (1 - prev) / (1 - ab));
    posterior_mean_x_start.push_back(beta * std::sqrt(prev) / (1 - ab));
    posterior_mean_x_t.push_back((1 - prev) * std::sqrt(1 - beta) / (1 - ab));
    snr.push_back(ab / (1 - ab));
  }
  // The first posterior variance is 0, so its logarithm is taken from the second entry.
  for (size_t i = 0; i < count; ++i) {
    const double variance = i == 0 && count > 1 ? posterior_variance[1] : posterior_variance[i];
    posterior_log_variance_clipped.push_back(std::log(std::max(variance, 1e-300)));
    log_beta.push_back(std::log(betas[i]));
    large_variance.push_back(i == 0 ? variance : betas[i]);
    large_log_variance.push_back(std::log(std::max(large_variance.back(), 1e-300)));
  }
  timestep_map.resize(count);
  std::iota(timestep_map.begin(), timestep_map.end(), 0.0);
  original_length = static_cast<int64_t>(count);
}

double Schedule::alpha_bar_at(double t) const {
  const auto below = static_cast<size_t>(t);
  const double share = t - static_cast<double>(below);
  if (share == 0) return alpha_bar.at(below);
  const double log_snr = (1 - share) * std::log(snr.at(below)) + share * std::log(snr.at(below + 1));
  return 1 / (1 + std::exp(-log_snr));
}

Schedule Schedule::respaced(const std::vector<double>& kept) const {
  std::vector<double> kept_betas;
  double last = 1;
  for (const auto t : kept) {
    const double visited = alpha_bar_at(t);
    kept_betas.push_back(1 - visited / last);
    last = visited;
  }
  Schedule process(std::move(kept_betas));
  for (size_t k = 0; k < kept.size(); ++k) {
    const auto below = static_cast<size_t>(kept[k]);
    const double share = kept[k] - static_cast<double>(below);
    process.timestep_map[k] = timestep_map.at(below);
    if (share > 0) process.timestep_map[k] += share * (timestep_map.at(below + 1) - timestep_map[below]);
  }
  process.original_length = original_length;
  return process;
}

at::Tensor Schedule::gather(const std::vector<double>& table, const std::vector<int64_t>& k,
                            const at::Tensor& like) const {
  auto values = at::empty({static_cast<int64_t>(k.size())}, at::kFloat);
  auto* out = values.mutable_data_ptr<float>();
  for (size_t i = 0; i < k.size(); ++i) out[i] = static_cast<float>(table.at(k[i]));
  std::vector<int64_t> shape(like.dim(), 1);
  shape[0] = values.size(0);
  return values.view(shape).to(like.device());
}

at::Tensor Schedule::told(const std::vector<int64_t>& k, bool rescales) const {
  auto t = at::empty({static_cast<int64_t>(k.size())}, at::kFloat);
  const auto scale = rescales ? static_cast<float>(1000.0 / static_cast<double>(original_length)) : 1.0f;
  for (size_t i = 0; i < k.size(); ++i) {
    t.mutable_data_ptr<float>()[i] = static_cast<float>(timestep_map.at(k[i])) * scale;
  }
  return t;
}

Mixing Schedule::mixing(const std::vector<int64_t>& k, const at::Tensor& like) const {
  return {gather(sqrt_alpha_bar, k, like), gather(sqrt_one_minus_alpha_bar, k, like)};
}

at::Tensor Schedule::q_sample(const at::Tensor& x_start, const at::Tensor& noise, const std::vector<int64_t>& k) const {
  const auto mix = mixing(k, x_start);
  return mix.signal * x_start + mix.noise * noise;
}

}  // namespace trislot
