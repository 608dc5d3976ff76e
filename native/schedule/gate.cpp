#include "schedule/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace trislot {
namespace {

double prior(Head head, double alpha_bar) {
  switch (head) {
    case Head::XStart:
      return 1 - alpha_bar;
    case Head::V:
      return 1;
    case Head::Eps:
      return alpha_bar;  // 0 without signal, and then the weight is 0, too
    case Head::XPrev:
    case Head::F:
      break;
  }
  TORCH_CHECK(false, "a gate has no such head");
}

}  // namespace

at::Tensor gate_weights(const Schedule& process, const OutputLayout& layout, const at::Tensor& values, const Steps& k) {
  auto logits = at::empty({static_cast<int64_t>(k.size()), layout.head_count()}, at::kFloat);
  auto* out = logits.mutable_data_ptr<float>();
  for (const auto step : k) {
    const double alpha_bar = process.alpha_bar.at(static_cast<size_t>(step));
    for (const auto head : layout.heads) *out++ = static_cast<float>(std::log(prior(head, alpha_bar)));
  }
  std::vector<int64_t> shape(values.dim(), 1);
  shape[0] = logits.size(0);
  shape[1] = logits.size(1);
  return at::softmax(values + logits.view(shape).to(values.device()), /*dim=*/1);
}

}  // namespace trislot
