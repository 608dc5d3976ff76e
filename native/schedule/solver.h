// Steps of the probability-flow ODE from step k of a process to step k - 1 (from k = 0: to the clean image). With
// xhat = x / sqrt(alpha_bar) and sigma = sqrt(1 / alpha_bar - 1) it is d xhat / d sigma = (xhat - x_start) / sigma, so
// that every step is  xhat' = r xhat + (1 - r) X,  r = sigma' / sigma,  with some mixture X of predictions of x_start.
// Coefficients are float64; images may be float32 or float64, [N, C, ...].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "schedule/schedule.h"

namespace trislot {

// Euler's method, order 1: X is x_start at step k.
at::Tensor euler_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_t, int64_t k);

// Heun's method, order 2 (arXiv 2206.00364, algorithm 1 without churn). x_start_ahead: the prediction at step k - 1 for
// the result of Euler's step. Needs k > 0 and some signal at step k.
at::Tensor heun_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_start_ahead,
                     const at::Tensor& x_t, int64_t k);

// DPM-Solver++(2M), order 2 (arXiv 2211.01095, algorithm 2). x_start_before: the prediction at step k + 1. Needs k > 0.
at::Tensor dpmpp_2m_step(const Schedule& process, const at::Tensor& x_start, const at::Tensor& x_start_before,
                         const at::Tensor& x_t, int64_t k);

}  // namespace trislot
