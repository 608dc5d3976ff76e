#include "loss/choice.h"

#include <ATen/ATen.h>

namespace trislot {
namespace {

Chosen one_head_each(const at::Tensor& index, const at::Tensor& compared) {
  const auto share = at::zeros_like(compared).scatter(/*dim=*/1, index.unsqueeze(1), 1.0);
  return {share, index};
}

}  // namespace

Chosen choose_min(const at::Tensor& compared, int64_t) { return one_head_each(compared.argmin(/*dim=*/1), compared); }

Chosen choose_min_batch(const at::Tensor& compared, int64_t) {
  return one_head_each(compared.mean(/*dim=*/0).argmin().expand({compared.size(0)}), compared);
}

Chosen choose_mean(const at::Tensor& compared, int64_t) {
  const auto index = at::full({compared.size(0)}, -1, compared.options().dtype(at::kLong));
  return {at::full_like(compared, 1.0 / static_cast<double>(compared.size(1))), index};
}

Chosen choose_single(const at::Tensor& compared, int64_t single_head) {
  return one_head_each(at::full({compared.size(0)}, single_head, compared.options().dtype(at::kLong)), compared);
}

Choice choice_named(std::string_view name) {
  if (name == "min") return choose_min;
  if (name == "minBatch") return choose_min_batch;
  if (name == "mean") return choose_mean;
  if (name == "single") return choose_single;
  TORCH_CHECK(false, "no choice of heads is named ", std::string(name));
}

}  // namespace trislot
