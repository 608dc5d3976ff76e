#include "loss/three_head.h"

#include <ATen/ATen.h>

#include "schedule/reverse.h"

namespace trislot {

ThreeHeadLossFunction::ThreeHeadLossFunction(const Schedule& schedule, OutputLayout layout, const LossConfig& config)
    : schedule_(schedule),
      layout_(std::move(layout)),
      config_(config),
      compare_factors_(space_factors(schedule, layout_.heads, config.compare, config.sigma_data)),
      loss_factors_(space_factors(schedule, layout_.heads, config.space, config.sigma_data)) {}

ThreeHeadLoss ThreeHeadLossFunction::operator()(const Predictions& predictions, const at::Tensor& x_start,
                                                const at::Tensor& eps, const at::Tensor& x_t,
                                                const std::vector<int64_t>& k) const {
  const auto mixing = schedule_.mixing(k, x_start);
  std::vector<at::Tensor> errors;
  for (size_t i = 0; i < layout_.heads.size(); ++i) {
    const auto head = layout_.heads[i];
    const auto target =
        head == Head::XPrev ? posterior_mean(schedule_, x_start, x_t, k) : target_of(head, x_start, eps, mixing);
    errors.push_back(at::square(predictions.heads[i] - target).flatten(1).mean(/*dim=*/1));
  }
  const auto per_head = at::stack(errors, /*dim=*/1);  // [N, heads]

  // The choice is a constant to autograd: gradients reach the heads only through their errors.
  const auto compared = per_head.detach() * rows(compare_factors_, k, per_head.device());
  const auto chosen = config_.choose(compared, config_.single_head);
  const auto weighted = per_head * rows(loss_factors_, k, per_head.device());
  return {(weighted * chosen.share).sum(/*dim=*/1), per_head.detach(), chosen.index};
}

at::Tensor ThreeHeadLossFunction::rows(const std::vector<double>& factors, const std::vector<int64_t>& k,
                                       at::Device device) const {
  const auto heads = static_cast<int64_t>(layout_.heads.size());
  auto values = at::empty({static_cast<int64_t>(k.size()), heads}, at::kFloat);
  auto* out = values.mutable_data_ptr<float>();
  for (const auto step : k) {
    for (int64_t head = 0; head < heads; ++head) *out++ = static_cast<float>(factors.at(step * heads + head));
  }
  return values.to(device);
}

}  // namespace trislot
