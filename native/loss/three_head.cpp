#include "loss/three_head.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "schedule/gate.h"
#include "schedule/reverse.h"

namespace trislot {
namespace {

// Rows k of a table [T, columns] as float32 [N, columns].
at::Tensor rows(const std::vector<double>& table, size_t columns, const std::vector<int64_t>& k, at::Device device) {
  auto values = at::empty({static_cast<int64_t>(k.size()), static_cast<int64_t>(columns)}, at::kFloat);
  auto* out = values.mutable_data_ptr<float>();
  for (const auto step : k) {
    for (size_t i = 0; i < columns; ++i) *out++ = static_cast<float>(table.at(step * columns + i));
  }
  return values.to(device);
}

// [N, heads] -> [N, heads, 1, ...] with `dim` dimensions.
at::Tensor over(const at::Tensor& values, int64_t dim) {
  auto shape = values.sizes().vec();
  shape.resize(dim, 1);
  return values.view(shape);
}

// Mean square [N] over all values of an example.
at::Tensor mean_square(const at::Tensor& values) { return at::square(values).flatten(1).mean(/*dim=*/1); }

// 1 - cosine of the angle between a prediction and its target, all values of an example being one vector [N]. The floor
// under their mean squares keeps the gradient bounded where a network begins, with predictions of 0.
at::Tensor direction_error(const at::Tensor& prediction, const at::Tensor& target) {
  constexpr double kFloor = 1e-4;
  const auto mean = [](const at::Tensor& values) { return values.flatten(1).mean(/*dim=*/1); };
  const auto lengths = at::sqrt((mean(at::square(prediction)) + kFloor) * (mean(at::square(target)) + kFloor));
  return 1 - mean(prediction * target) / lengths;
}

}  // namespace

ThreeHeadLossFunction::ThreeHeadLossFunction(const Schedule& schedule, OutputLayout layout, const LossConfig& config)
    : schedule_(schedule),
      layout_(std::move(layout)),
      config_(config),
      compare_factors_(space_factors(schedule, layout_.heads, config.compare, config.sigma_data)),
      loss_factors_(space_factors(schedule, layout_.heads, config.space, config.sigma_data)),
      to_v_(v_error_factors(schedule, layout_.heads)) {
  if (config.space != Space::Own)
    mixture_factors_ = space_factors(schedule, {Head::V}, config.space, config.sigma_data);
}

ThreeHeadLoss ThreeHeadLossFunction::operator()(const Predictions& predictions, const at::Tensor& x_start,
                                                const at::Tensor& eps, const at::Tensor& x_t,
                                                const std::vector<int64_t>& k, const HeadInputs& inputs) const {
  const auto mixing = schedule_.mixing(k, x_start);
  const auto device = x_start.device();
  const auto heads = layout_.heads.size();
  const bool by_pixel = config_.choose == choose_min_pixel;
  std::vector<at::Tensor> targets;
  for (const auto head : layout_.heads) {
    targets.push_back(head == Head::XPrev ? posterior_mean(schedule_, x_start, x_t, k)
                                          : target_of(head, x_start, eps, mixing));
  }
  const auto residual = predictions.stacked - at::stack(targets, /*dim=*/1);  // [N, heads, C, ...]
  const auto squared = at::square(residual);
  // [N, heads] or, by pixel, [N, heads, pixels]
  const auto error = by_pixel ? squared.mean(/*dim=*/2).flatten(2) : squared.flatten(2).mean(/*dim=*/2);
  const auto shaped = [&](const at::Tensor& factor) { return by_pixel ? factor.unsqueeze(2) : factor; };

  // The choice is a constant to autograd: gradients reach the heads only through their errors.
  auto choice = inputs.choice;
  choice.single_head = config_.single_head;
  const auto compared = error.detach() * shaped(rows(compare_factors_, heads, k, device));
  const auto chosen = config_.choose(compared, choice);
  auto factor = rows(loss_factors_, heads, k, device);
  if (inputs.weight.defined()) factor = factor * inputs.weight.to(device);
  const auto shared = (error * shaped(factor) * chosen.share).sum(/*dim=*/1);  // [N] or [N, pixels]

  ThreeHeadLoss result;
  result.loss = by_pixel ? shared.mean(/*dim=*/1) : shared;
  result.chosen = chosen.index;
  result.per_head = (by_pixel ? error.mean(/*dim=*/2) : error).detach();
  const auto to_v = rows(to_v_, heads, k, device);
  if (inputs.mixture.defined()) {
    const auto mixture = mixture_error(residual, to_v, inputs.mixture.to(device), k);
    result.loss = result.loss + inputs.mixture_factor * mixture;
  }
  if (config_.direction_weight > 0) {
    const auto v = std::find(layout_.heads.begin(), layout_.heads.end(), Head::V) - layout_.heads.begin();
    result.loss = result.loss + config_.direction_weight * direction_error(predictions.head(v), targets.at(v));
  }
  if (predictions.gate.defined()) {
    // Error of v of the heads as the gate mixes them, whose gradient reaches the gate alone (UNet::output).
    const auto weights = gate_weights(schedule_, layout_, predictions.gate, k).unsqueeze(2);
    const auto mixed = (residual.detach() * over(to_v, residual.dim()) * weights).sum(/*dim=*/1);
    result.loss = result.loss + mean_square(mixed);
  }
  if (heads > 1) {
    const c10::NoGradGuard no_grad;
    const auto flat = residual.flatten(2);  // [N, heads, values]
    const auto products = at::bmm(flat, flat.transpose(1, 2)) / static_cast<double>(flat.size(2));
    result.error_products = products * to_v.unsqueeze(1) * to_v.unsqueeze(2);
    result.mean_error = flat.mean(/*dim=*/2) * to_v * -mixing.noise.flatten(1);  // x_start = signal x_t - noise v
  }
  return result;
}

// With weights that add up to 1 the mixture's error is the mixture of the errors. They are mixed as errors of v, whose
// factors are bounded wherever the head itself is of use, and never as predictions, whose differences cancel.
at::Tensor ThreeHeadLossFunction::mixture_error(const at::Tensor& residual, const at::Tensor& to_v,
                                                const at::Tensor& weight, const std::vector<int64_t>& k) const {
  TORCH_CHECK(!mixture_factors_.empty(), "a mixture of heads has no own space");
  const auto mixed = (residual * over(to_v * weight, residual.dim())).sum(/*dim=*/1);
  return mean_square(mixed) * rows(mixture_factors_, 1, k, to_v.device()).squeeze(1);
}

}  // namespace trislot
