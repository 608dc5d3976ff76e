#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "metrics/metrics.h"

namespace trislot {

at::Tensor project(const at::Tensor& images, const at::Tensor& directions) {
  const auto unit = directions / directions.square().sum(1, /*keepdim=*/true).sqrt();
  return at::matmul(images.flatten(1), unit.t());
}

double sliced_wasserstein(const at::Tensor& a, const at::Tensor& b) {
  // Both quantile functions are constant between neighbouring multiples of 1/N and 1/M; `weights` are the lengths of
  // these pieces, counted in units of 1/(N M).
  const int64_t n = a.size(0), m = b.size(0);
  std::vector<int64_t> rows_a, rows_b;
  std::vector<double> weights;
  for (int64_t i = 0, j = 0, begin = 0; i < n && j < m;) {
    const int64_t end = std::min((i + 1) * m, (j + 1) * n);
    rows_a.push_back(i);
    rows_b.push_back(j);
    weights.push_back(static_cast<double>(end - begin) / (static_cast<double>(n) * static_cast<double>(m)));
    begin = end;
    if (end == (i + 1) * m) ++i;
    if (end == (j + 1) * n) ++j;
  }
  const auto sorted_a = std::get<0>(a.sort(0)).index_select(0, at::tensor(rows_a, a.options().dtype(at::kLong)));
  const auto sorted_b = std::get<0>(b.sort(0)).index_select(0, at::tensor(rows_b, b.options().dtype(at::kLong)));
  const auto squares = (sorted_a - sorted_b).to(at::kDouble).square();
  return std::sqrt(at::mv(squares.t(), at::tensor(weights, squares.options())).mean().item<double>());
}

}  // namespace trislot
