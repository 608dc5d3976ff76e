// AdamW over all parameters at once, together with what else reads every weight: clipping and the moving averages.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "train/ema.h"

namespace trislot {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.999, tiny = 1e-8, weight_decay = 0;
  bool decay_all = true;  // false: only tensors of two or more dimensions decay, not norms and biases
};

// Loshchilov & Hutter 2019, with PyTorch's order of operations.
class AdamW {
 public:
  AdamW(std::vector<at::Tensor> weights, const AdamWConfig& config);

  // Euclidean norm of all gradients together.
  double norm(const std::vector<at::Tensor>& gradients) const;

  // One update by gradients * gradient_factor (of clipping), after which the averages follow the weights. With the fast
  // kernels that is one pass over memory.
  void step(const std::vector<at::Tensor>& gradients, double gradient_factor, double lr, std::vector<Ema>& averages);

  std::vector<at::Tensor> exp_avg, exp_avg_sq;
  int64_t step_count = 0;

 private:
  bool decays(size_t i) const { return config_.decay_all || weights_[i].dim() >= 2; }
  bool uses_kernels() const;
  std::vector<WeightPart> parts(const std::vector<at::Tensor>& gradients) const;

  std::vector<at::Tensor> weights_;
  AdamWConfig config_;
};

}  // namespace trislot
