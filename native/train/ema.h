// Moving averages of the weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace trislot {

struct Ema {
  Ema(double rate, bool warms_up, const std::vector<at::Tensor>& weights);

  // average <- r * average + (1 - r) * weights, with r = next_rate().
  void update(const std::vector<at::Tensor>& weights);

  // The rate r of this update, which is counted: min(rate, (1 + n) / (10 + n)) while warming up (math.md, "EMA").
  double next_rate();

  double rate;
  bool warms_up;
  int64_t update_count = 0;
  std::vector<at::Tensor> averages;  // float32, in the order of the network's parameters
};

}  // namespace trislot
