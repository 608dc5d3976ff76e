// Conversions among xStart, v, eps and EDM's F (math.md, "Predictions"); all factors are broadcastable to x_t.
#pragma once

#include <ATen/core/Tensor.h>

#include "prediction/head.h"

namespace trislot {

// Signal and noise factor of each example, [N, 1, ...]: x_t = signal * x_start + noise * eps.
struct Mixing {
  at::Tensor signal;  // sqrt(alpha_bar)
  at::Tensor noise;   // sqrt(1 - alpha_bar)
};

// What each head should say about x_start noised with eps; of XPrev only the schedule knows (`posterior_mean`).
at::Tensor target_of(Head head, const at::Tensor& x_start, const at::Tensor& eps, const Mixing& mixing);

// v = signal * eps - noise * x_start solved for x_start: x_start = signal * x_t - noise * v.
at::Tensor x_start_from_v(const at::Tensor& v, const at::Tensor& x_t, const Mixing& mixing);

// F = (noise * x_start - sd^2 * signal * eps) / (sd * scale) with sd = kHeadSigmaData and scale^2 = sd^2 * signal^2 +
// noise^2 solved for x_start: x_start = sd^2 * signal / scale^2 * x_t + sd * noise / scale * F.
at::Tensor x_start_from_f(const at::Tensor& f, const at::Tensor& x_t, const Mixing& mixing);

}  // namespace trislot
