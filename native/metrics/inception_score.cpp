#include <ATen/ATen.h>

#include <cmath>

#include "metrics/metrics.h"

namespace trislot {

double inception_score(const at::Tensor& probabilities, int64_t split) {
  double sum = 0;
  const auto splits = probabilities.split(split);
  for (const auto& part : splits) {
    const auto p = part.to(at::kDouble);
    const auto divergence = at::xlogy(p, p) - at::xlogy(p, p.mean(0, /*keepdim=*/true));
    sum += std::exp(divergence.sum(1).mean().item<double>());
  }
  return sum / static_cast<double>(splits.size());
}

}  // namespace trislot
