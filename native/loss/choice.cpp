#include "loss/choice.h"

#include <ATen/ATen.h>

namespace trislot {
namespace {

Chosen one_head_each(const at::Tensor& index, const at::Tensor& compared) {
  const auto share = at::zeros_like(compared).scatter(/*dim=*/1, index.unsqueeze(1), 1.0);
  return {share, index};
}

Chosen shares(const at::Tensor& share) {
  const auto [largest, index] = share.max(/*dim=*/1, /*keepdim=*/true);
  const auto is_alone = (share == largest).sum(/*dim=*/1) == 1;
  return {share, at::where(is_alone, index.squeeze(1), -1)};
}

}  // namespace

Chosen choose_min(const at::Tensor& compared, const ChoiceInputs&) {
  return one_head_each(compared.argmin(/*dim=*/1), compared);
}

Chosen choose_min_batch(const at::Tensor& compared, const ChoiceInputs&) {
  return one_head_each(compared.mean(/*dim=*/0).argmin().expand({compared.size(0)}), compared);
}

Chosen choose_min_pixel(const at::Tensor& compared, const ChoiceInputs&) {
  const auto winner = compared.argmin(/*dim=*/1, /*keepdim=*/true);  // [N, 1, pixels]
  const auto share = at::zeros_like(compared).scatter(/*dim=*/1, winner, 1.0);
  return {share, shares(share.sum(/*dim=*/2)).index};
}

Chosen choose_mean(const at::Tensor& compared, const ChoiceInputs&) {
  const auto index = at::full({compared.size(0)}, -1, compared.options().dtype(at::kLong));
  return {at::full_like(compared, 1.0 / static_cast<double>(compared.size(1))), index};
}

Chosen choose_single(const at::Tensor& compared, const ChoiceInputs& inputs) {
  return one_head_each(at::full({compared.size(0)}, inputs.single_head, compared.options().dtype(at::kLong)), compared);
}

Chosen choose_relaxed(const at::Tensor& compared, const ChoiceInputs& inputs) {
  const auto heads = compared.size(1);
  const auto index = compared.argmin(/*dim=*/1);
  if (heads == 1) return one_head_each(index, compared);
  const auto others = at::full_like(compared, inputs.floor / static_cast<double>(heads - 1));
  return shares(others.scatter(/*dim=*/1, index.unsqueeze(1), 1 - inputs.floor));
}

Chosen choose_softmin(const at::Tensor& compared, const ChoiceInputs& inputs) {
  constexpr double kTiny = 1e-30;  // where an error is 0
  const auto scale = compared.amin(/*dim=*/1, /*keepdim=*/true).clamp_min(kTiny);
  return shares(at::softmax(-compared / scale / inputs.temperature, /*dim=*/1));
}

Chosen choose_given(const at::Tensor& compared, const ChoiceInputs& inputs) {
  return inputs.share.defined() ? shares(inputs.share.to(compared.options())) : choose_mean(compared, inputs);
}

Choice choice_named(std::string_view name) {
  if (name == "min") return choose_min;
  if (name == "minBatch") return choose_min_batch;
  if (name == "minPixel") return choose_min_pixel;
  if (name == "mean") return choose_mean;
  if (name == "single") return choose_single;
  if (name == "relaxed") return choose_relaxed;
  if (name == "softmin") return choose_softmin;
  if (name == "given") return choose_given;
  TORCH_CHECK(false, "no choice of heads is named ", std::string(name));
}

}  // namespace trislot
