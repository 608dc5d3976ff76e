#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "kernels/kernels.h"

namespace trislot {

AdamW::AdamW(std::vector<at::Tensor> weights, const AdamWConfig& config)
    : weights_(std::move(weights)), config_(config) {
  for (const auto& weight : weights_) {
    exp_avg.push_back(at::zeros_like(weight, weight.options().requires_grad(false)));
    exp_avg_sq.push_back(at::zeros_like(weight, weight.options().requires_grad(false)));
  }
}

bool AdamW::uses_kernels() const {
  return chosen_kernels() == Kernels::Fast && !weights_.empty() && weights_.front().device().is_cpu();
}

std::vector<WeightPart> AdamW::parts(const std::vector<at::Tensor>& gradients) const {
  std::vector<WeightPart> list;
  for (size_t i = 0; i < weights_.size(); ++i) {
    list.push_back({weights_[i].data_ptr<float>(), gradients[i].const_data_ptr<float>(), exp_avg[i].data_ptr<float>(),
                    exp_avg_sq[i].data_ptr<float>(), weights_[i].numel(), decays(i)});
  }
  return list;
}

double AdamW::norm(const std::vector<at::Tensor>& gradients) const {
  if (!uses_kernels()) return at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  const auto list = parts(gradients);
  const auto count = static_cast<int64_t>(list.size());
  std::vector<double> workspace(kernel_table().gradient_square_workspace(list.data(), count));
  return std::sqrt(
      kernel_table().gradient_square(list.data(), count, workspace.data(), static_cast<int64_t>(workspace.size())));
}

void AdamW::step(const std::vector<at::Tensor>& gradients, double gradient_factor, double lr,
                 std::vector<Ema>& averages) {
  c10::NoGradGuard no_grad;
  ++step_count;
  if (uses_kernels()) {
    const auto list = parts(gradients);
    const auto steps = static_cast<double>(step_count);
    std::vector<std::vector<float*>> pointers;
    std::vector<float* const*> rows;
    std::vector<double> rates;
    for (auto& average : averages) {
      pointers.emplace_back();
      for (auto& tensor : average.averages) pointers.back().push_back(tensor.data_ptr<float>());
      rates.push_back(average.next_rate());
    }
    for (const auto& row : pointers) rows.push_back(row.data());
    const AdamStep step{lr,
                        config_.beta1,
                        config_.beta2,
                        config_.tiny,
                        config_.weight_decay,
                        1 - std::pow(config_.beta1, steps),
                        1 - std::pow(config_.beta2, steps),
                        gradient_factor};
    kernel_table().adamw(list.data(), static_cast<int64_t>(list.size()), step, rows.data(), rates.data(),
                         static_cast<int64_t>(rows.size()));
    // What is kept of a weight (PreparedWeight) is told of the change, as LibTorch's own operations do.
    for (const auto& weight : weights_) weight.unsafeGetTensorImpl()->bump_version();
    for (const auto& average : averages) {
      for (const auto& tensor : average.averages) tensor.unsafeGetTensorImpl()->bump_version();
    }
    return;
  }

  if (gradient_factor != 1) at::_foreach_mul_(gradients, gradient_factor);
  // Two groups: those that decay and, unless all do, those that do not.
  for (const bool decaying : {true, false}) {
    std::vector<at::Tensor> weights, grads, means, squares;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (decays(i) != decaying) continue;
      weights.push_back(weights_[i]);
      grads.push_back(gradients[i]);
      means.push_back(exp_avg[i]);
      squares.push_back(exp_avg_sq[i]);
    }
    if (weights.empty()) continue;
    const std::vector<at::Tensor> steps(
        weights.size(), at::full({}, static_cast<double>(step_count), weights[0].options().requires_grad(false)));
    at::_fused_adamw_(weights, grads, means, squares, /*max_exp_avg_sqs=*/{}, steps, lr, config_.beta1, config_.beta2,
                      decaying ? config_.weight_decay : 0, config_.tiny, /*amsgrad=*/false, /*maximize=*/false);
  }
  for (auto& average : averages) average.update(weights_);
}

}  // namespace trislot
