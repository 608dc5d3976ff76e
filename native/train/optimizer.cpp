#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace trislot {

AdamW::AdamW(std::vector<at::Tensor> weights, const AdamWConfig& config)
    : weights_(std::move(weights)), config_(config) {
  for (const auto& weight : weights_) {
    exp_avg.push_back(at::zeros_like(weight, weight.options().requires_grad(false)));
    exp_avg_sq.push_back(at::zeros_like(weight, weight.options().requires_grad(false)));
  }
}

void AdamW::step(const std::vector<at::Tensor>& gradients, double lr) {
  c10::NoGradGuard no_grad;
  ++step_count;
  // Two groups: those that decay and, unless all do, those that do not.
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> weights, grads, averages, squares;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if ((config_.decay_all || weights_[i].dim() >= 2) != decays) continue;
      weights.push_back(weights_[i]);
      grads.push_back(gradients[i]);
      averages.push_back(exp_avg[i]);
      squares.push_back(exp_avg_sq[i]);
    }
    if (weights.empty()) continue;
    const std::vector<at::Tensor> steps(
        weights.size(), at::full({}, static_cast<double>(step_count), weights[0].options().requires_grad(false)));
    at::_fused_adamw_(weights, grads, averages, squares, /*max_exp_avg_sqs=*/{}, steps, lr, config_.beta1,
                      config_.beta2, decays ? config_.weight_decay : 0, config_.tiny, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

}  // namespace trislot
