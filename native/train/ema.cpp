#include "train/ema.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace trislot {

Ema::Ema(double rate, bool warms_up, const std::vector<at::Tensor>& weights) : rate(rate), warms_up(warms_up) {
  // As weights are, so that instruments can take gradients of a network over them.
  for (const auto& weight : weights) averages.push_back(weight.detach().clone().requires_grad_(true));
}

void Ema::update(const std::vector<at::Tensor>& weights) {
  c10::NoGradGuard no_grad;
  at::_foreach_lerp_(averages, weights, 1 - next_rate());
}

double Ema::next_rate() {
  const auto n = static_cast<double>(update_count++);
  return warms_up ? std::min(rate, (1 + n) / (10 + n)) : rate;
}

}  // namespace trislot
