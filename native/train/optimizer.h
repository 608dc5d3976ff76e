// AdamW over all parameters at once, through LibTorch's fused kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace trislot {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.999, tiny = 1e-8, weight_decay = 0;
  bool decay_all = true;  // false: only tensors of two or more dimensions decay, not norms and biases
};

// Loshchilov & Hutter 2019, with PyTorch's order of operations.
class AdamW {
 public:
  AdamW(std::vector<at::Tensor> weights, const AdamWConfig& config);

  void step(const std::vector<at::Tensor>& gradients, double lr);

  std::vector<at::Tensor> exp_avg, exp_avg_sq;
  int64_t step_count = 0;

 private:
  std::vector<at::Tensor> weights_;
  AdamWConfig config_;
};

}  // namespace trislot
