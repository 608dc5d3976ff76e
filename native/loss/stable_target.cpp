#include "loss/stable_target.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace trislot {

// Everything is relative to the example's own image: with d = x_start - y and s = signal / noise,
// |x_t - signal y|^2 - |x_t - signal x_start|^2 = 2 noise^2 s (s |d|^2 / 2 + d eps), where no large squares cancel, and
// s = 0 makes all images equally probable.
NoisedPair stable_target(const Schedule& schedule, const at::Tensor& reference, const at::Tensor& x_start,
                         const at::Tensor& eps, const Steps& k) {
  constexpr double kLargestSnr = 1e12;
  const auto images = reference.flatten(1);
  const auto own = x_start.flatten(1), noise = eps.flatten(1);
  const auto logit_of_own = at::zeros({1}, own.options());
  std::vector<at::Tensor> x_starts, noises;
  for (int64_t i = 0; i < own.size(0); ++i) {
    const double s = std::sqrt(std::min(schedule.snr.at(static_cast<size_t>(k[i])), kLargestSnr));
    const auto difference = own[i] - images;  // [R, values]
    const auto half_square = at::square(difference).sum(/*dim=*/1) * (s / 2);
    const auto logits = (half_square + at::mv(difference, noise[i])) * -s;
    const auto weight = at::softmax(at::cat({logit_of_own, logits}), /*dim=*/0).slice(0, 1);
    const auto move = at::mv(difference.t(), weight);
    x_starts.push_back(own[i] - move);
    noises.push_back(noise[i] + s * move);
  }
  return {at::stack(x_starts).view_as(x_start), at::stack(noises).view_as(eps)};
}

}  // namespace trislot
