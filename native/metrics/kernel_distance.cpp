#include <ATen/ATen.h>

#include "metrics/metrics.h"

namespace trislot {
namespace {

at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  return (at::matmul(x, y.t()) / static_cast<double>(x.size(1)) + 1).pow(3);
}

// The mean over pairs of different rows.
double mean_of_pairs(const at::Tensor& k) {
  const double count = static_cast<double>(k.size(0));
  return (k.sum() - k.trace()).item<double>() / (count * (count - 1));
}

}  // namespace

std::vector<double> kernel_distances(const at::Tensor& a, const at::Tensor& b, const at::Tensor& rows_a,
                                     const at::Tensor& rows_b) {
  std::vector<double> list;
  for (int64_t i = 0; i < rows_a.size(0); ++i) {
    const auto x = a.index_select(0, rows_a[i]).to(at::kDouble), y = b.index_select(0, rows_b[i]).to(at::kDouble);
    list.push_back(mean_of_pairs(kernel(x, x)) + mean_of_pairs(kernel(y, y)) - 2 * kernel(x, y).mean().item<double>());
  }
  return list;
}

}  // namespace trislot
