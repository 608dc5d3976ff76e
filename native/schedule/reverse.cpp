#include "schedule/reverse.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace trislot {
namespace {

// 1 where there is a step left to add noise for, 0 at k = 0.
at::Tensor nonzero(const Steps& k, const at::Tensor& like) {
  auto mask = at::empty({static_cast<int64_t>(k.size())}, at::kFloat);
  for (size_t i = 0; i < k.size(); ++i) mask.mutable_data_ptr<float>()[i] = k[i] == 0 ? 0.0f : 1.0f;
  std::vector<int64_t> shape(like.dim(), 1);
  shape[0] = mask.size(0);
  return mask.view(shape).to(like.device());
}

at::Tensor normal_kl(const at::Tensor& mean1, const at::Tensor& log_variance1, const at::Tensor& mean2,
                     const at::Tensor& log_variance2) {
  return 0.5 * (-1.0 + log_variance2 - log_variance1 + at::exp(log_variance1 - log_variance2) +
                at::square(mean1 - mean2) * at::exp(-log_variance2));
}

// The approximate standard normal distribution function of the original implementation.
at::Tensor approximate_normal_cdf(const at::Tensor& x) {
  return 0.5 * (1.0 + at::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * at::pow(x, 3))));
}

// Log-likelihood of x, an 8-bit image scaled to [-1, 1], under a Gaussian discretised to its 256 bins.
at::Tensor discretised_gaussian_log_likelihood(const at::Tensor& x, const at::Tensor& mean,
                                               const at::Tensor& log_scale) {
  constexpr double kTiny = 1e-12;
  const auto centered = x - mean;
  const auto inverse_scale = at::exp(-log_scale);
  const auto plus = approximate_normal_cdf(inverse_scale * (centered + 1.0 / 255.0));
  const auto minus = approximate_normal_cdf(inverse_scale * (centered - 1.0 / 255.0));
  const auto log_plus = at::log(plus.clamp_min(kTiny));
  const auto log_one_minus = at::log((1.0 - minus).clamp_min(kTiny));
  const auto log_delta = at::log((plus - minus).clamp_min(kTiny));
  return at::where(x < -0.999, log_plus, at::where(x > 0.999, log_one_minus, log_delta));
}

}  // namespace

at::Tensor x_start_from(const Schedule& process, Head head, const at::Tensor& prediction, const at::Tensor& x_t,
                        const Steps& k) {
  switch (head) {
    case Head::XStart:
      return prediction;
    case Head::V:
      return x_start_from_v(prediction, x_t, process.mixing(k, x_t));
    case Head::F:
      return x_start_from_f(prediction, x_t, process.mixing(k, x_t));
    case Head::Eps:
      return process.gather(process.sqrt_recip_alpha_bar, k, x_t) * x_t -
             process.gather(process.sqrt_recip_alpha_bar_minus_one, k, x_t) * prediction;
    case Head::XPrev: {
      // posterior_mean solved for x_start; the ratios are formed in float64, as the original does.
      auto inverse = process.posterior_mean_x_start, ratio = process.posterior_mean_x_t;
      for (size_t i = 0; i < inverse.size(); ++i) {
        ratio[i] /= inverse[i];
        inverse[i] = 1 / inverse[i];
      }
      return process.gather(inverse, k, x_t) * prediction - process.gather(ratio, k, x_t) * x_t;
    }
  }
  TORCH_CHECK(false, "no such head");
}

at::Tensor eps_from_x_start(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k) {
  // The form without 1 / alpha_bar, which stays finite when the last timestep holds no signal at all.
  const auto mix = process.mixing(k, x_t);
  return (x_t - mix.signal * x_start) / mix.noise;
}

at::Tensor posterior_mean(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k) {
  return process.gather(process.posterior_mean_x_start, k, x_t) * x_start +
         process.gather(process.posterior_mean_x_t, k, x_t) * x_t;
}

at::Tensor model_mean(const Schedule& process, Head head, const at::Tensor& prediction, const at::Tensor& x_start,
                      const at::Tensor& x_t, const Steps& k) {
  return head == Head::XPrev ? prediction : posterior_mean(process, x_start, x_t, k);
}

ReverseVariance reverse_variance(const Schedule& process, VarianceType type, const at::Tensor& values,
                                 const at::Tensor& x_t, const Steps& k) {
  switch (type) {
    case VarianceType::FixedSmall:
      return {process.gather(process.posterior_variance, k, x_t),
              process.gather(process.posterior_log_variance_clipped, k, x_t)};
    case VarianceType::FixedLarge:
      return {process.gather(process.large_variance, k, x_t), process.gather(process.large_log_variance, k, x_t)};
    case VarianceType::Learned:
      return {at::exp(values), values};
    case VarianceType::LearnedRange: {
      const auto fraction = (values + 1) / 2;
      const auto log_variance = fraction * process.gather(process.log_beta, k, x_t) +
                                (1 - fraction) * process.gather(process.posterior_log_variance_clipped, k, x_t);
      return {at::exp(log_variance), log_variance};
    }
  }
  TORCH_CHECK(false, "no such variance type");
}

at::Tensor ancestral_step(const at::Tensor& mean, const ReverseVariance& variance, const at::Tensor& noise,
                          const at::Tensor& gradient, const Steps& k) {
  const auto led = gradient.defined() ? mean + variance.variance * gradient : mean;
  return led + nonzero(k, mean) * at::exp(0.5 * variance.log_variance) * noise;
}

at::Tensor guided_x_start(const Schedule& process, const at::Tensor& x_start, const at::Tensor& gradient, bool clip,
                          const Steps& k) {
  // eps' = eps - sqrt(1 - alpha_bar) * gradient, written for x_start, which keeps its digits where eps has none left.
  const auto alpha_bar = process.gather(process.alpha_bar, k, x_start);
  const auto guided = x_start + (1 - alpha_bar) / at::sqrt(alpha_bar) * gradient;
  return clip ? guided.clamp(-1, 1) : guided;
}

at::Tensor ddim_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const at::Tensor& noise,
                     double eta, const Steps& k) {
  const auto eps = eps_from_x_start(process, x_start, x_t, k);
  const auto alpha_bar = process.gather(process.alpha_bar, k, x_t);
  const auto alpha_bar_prev = process.gather(process.alpha_bar_prev, k, x_t);
  const auto sigma = eta * at::sqrt((1 - alpha_bar_prev) / (1 - alpha_bar)) * at::sqrt(1 - alpha_bar / alpha_bar_prev);
  // With eta 1 and no signal in x_t what is left for eps is 0, and below it by rounding.
  const auto left = (1 - alpha_bar_prev - at::square(sigma)).clamp_min(0);
  const auto mean = x_start * at::sqrt(alpha_bar_prev) + at::sqrt(left) * eps;
  return eta == 0 ? mean : mean + nonzero(k, x_t) * sigma * noise;
}

at::Tensor ddim_reverse_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t,
                             const Steps& k) {
  const auto eps = eps_from_x_start(process, x_start, x_t, k);
  const auto alpha_bar_next = process.gather(process.alpha_bar_next, k, x_t);
  return x_start * at::sqrt(alpha_bar_next) + at::sqrt(1 - alpha_bar_next) * eps;
}

at::Tensor variational_bound(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t,
                             const at::Tensor& mean, const at::Tensor& log_variance, const Steps& k) {
  const auto true_mean = posterior_mean(process, x_start, x_t, k);
  const auto true_log_variance = process.gather(process.posterior_log_variance_clipped, k, x_t);
  const auto kl = normal_kl(true_mean, true_log_variance, mean, log_variance).flatten(1).mean(1) / std::numbers::ln2;
  const auto nll =
      -discretised_gaussian_log_likelihood(x_start, mean, 0.5 * log_variance).flatten(1).mean(1) / std::numbers::ln2;
  return at::where(nonzero(k, x_t).flatten() == 0, nll, kl);
}

at::Tensor prior_bound(const Schedule& process, const at::Tensor& x_start) {
  const Steps last(x_start.size(0), process.length() - 1);
  const auto mean = process.gather(process.sqrt_alpha_bar, last, x_start) * x_start;
  const auto log_variance = process.gather(process.log_one_minus_alpha_bar, last, x_start);
  const auto zero = at::zeros({}, x_start.options());
  return normal_kl(mean, log_variance, zero, zero).flatten(1).mean(1) / std::numbers::ln2;
}

}  // namespace trislot
