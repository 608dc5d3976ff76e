#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "metrics/metrics.h"

namespace trislot {
namespace {

constexpr int64_t kChunk = 4096;

// tr (C1 C2)^(1/2): the eigenvalues of C1 C2 are those of the symmetric R C2 R with R = C1^(1/2), so none is negative
// or complex but for rounding.
double trace_of_root(const at::Tensor& covariance1, const at::Tensor& covariance2) {
  const auto [values, vectors] = at::linalg_eigh(covariance1);
  const auto root = at::matmul(vectors * values.clamp_min(0).sqrt(), vectors.t());
  const auto product = at::matmul(at::matmul(root, covariance2), root);
  return at::linalg_eigvalsh((product + product.t()) / 2).clamp_min(0).sqrt().sum().item<double>();
}

}  // namespace

Gaussian gaussian_of(const at::Tensor& features) {
  const int64_t count = features.size(0), dimensions = features.size(1);
  const auto mean = features.sum(0, /*keepdim=*/false, at::kDouble) / count;
  auto covariance = at::zeros({dimensions, dimensions}, features.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const auto centred = features.slice(0, begin, std::min(begin + kChunk, count)).to(at::kDouble) - mean;
    covariance.addmm_(centred.t(), centred);
  }
  return {mean, covariance / (count - 1)};
}

double frechet_distance(const Gaussian& a, const Gaussian& b) {
  auto root = trace_of_root(a.covariance, b.covariance);
  if (!std::isfinite(root)) {  // as the original, which then adds to both
    const auto little = 1e-6 * at::eye(a.covariance.size(0), a.covariance.options());
    root = trace_of_root(a.covariance + little, b.covariance + little);
  }
  return (a.mean - b.mean).square().sum().item<double>() + a.covariance.trace().item<double>() +
         b.covariance.trace().item<double>() - 2 * root;
}

}  // namespace trislot
