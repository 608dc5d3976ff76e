// The reverse process: what a network's output says about x_start and the step to less noise.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "prediction/head.h"
#include "schedule/schedule.h"

namespace trislot {

using Steps = std::vector<int64_t>;  // [N] indices into the process

enum class VarianceType { FixedSmall, FixedLarge, Learned, LearnedRange };

// x_start as one head predicts it; prediction, x_t: [N, C, ...].
at::Tensor x_start_from(const Schedule& process, Head head, const at::Tensor& prediction, const at::Tensor& x_t,
                        const Steps& k);

// eps that explains x_t with a given x_start.
at::Tensor eps_from_x_start(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k);

// Mean of q(x_{t-1} | x_t, x_start) (DDPM eq. 7).
at::Tensor posterior_mean(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k);

// Mean of the model's p(x_{t-1} | x_t): a head XPrev says it itself, for every other it is the posterior's with x_start
// as predicted (and clipped).
at::Tensor model_mean(const Schedule& process, Head head, const at::Tensor& prediction, const at::Tensor& x_start,
                      const at::Tensor& x_t, const Steps& k);

struct ReverseVariance {
  at::Tensor variance, log_variance;  // broadcastable to x_t
};

// values: the network's raw variance channels, for the learned types only (improved DDPM eq. 15 for the range).
ReverseVariance reverse_variance(const Schedule& process, VarianceType type, const at::Tensor& values,
                                 const at::Tensor& x_t, const Steps& k);

// One ancestral step: mean + exp(log_variance / 2) * noise, without noise at k = 0. A gradient of log p(y | x_t),
// undefined for none, moves the mean by variance * gradient (Dhariwal & Nichol 2021, algorithm 1).
at::Tensor ancestral_step(const at::Tensor& mean, const ReverseVariance& variance, const at::Tensor& noise,
                          const at::Tensor& gradient, const Steps& k);

// x_start of the score that a gradient of log p(y | x_t) has been added to, for samplers that follow the score
// (Dhariwal & Nichol 2021, algorithm 2); clip: to [-1, 1], which the original does not do.
at::Tensor guided_x_start(const Schedule& process, const at::Tensor& x_start, const at::Tensor& gradient, bool clip,
                          const Steps& k);

// One DDIM step (DDIM eq. 12): eta 0 is deterministic, eta 1 has the variance of DDPM.
at::Tensor ddim_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const at::Tensor& noise,
                     double eta, const Steps& k);

// The deterministic DDIM step towards more noise, for encoding an image.
at::Tensor ddim_reverse_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k);

// Terms of the variational bound in bits per dimension, [N]: KL of the posteriors, at k = 0 the likelihood of the 8-bit
// image. mean, log_variance describe p(x_{t-1} | x_t).
at::Tensor variational_bound(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t,
                             const at::Tensor& mean, const at::Tensor& log_variance, const Steps& k);

// The bound's last term in bits per dimension, [N]: KL of q(x_{T-1} | x_start) from the standard normal distribution.
at::Tensor prior_bound(const Schedule& process, const at::Tensor& x_start);

}  // namespace trislot
