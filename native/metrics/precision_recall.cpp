#include <ATen/ATen.h>

#include <algorithm>

#include "metrics/metrics.h"

namespace trislot {
namespace {

constexpr int64_t kBlock = 10000;  // the original's: half precision is given up for a block at a time
constexpr int64_t kSlice = 1000;   // rows of a block that are computed at once

// max(|u|^2 - 2 u v + |v|^2, 0), rounded to half precision after every operation; sums inside are float32. Infinite
// where half precision overflows.
at::Tensor half_distances(const at::Tensor& u, const at::Tensor& v) {
  const auto u_half = u.to(at::kHalf), v_half = v.to(at::kHalf);
  const auto norm = [](const at::Tensor& x) { return x.square().sum(1, /*keepdim=*/true, at::kFloat).to(at::kHalf); };
  const auto product = at::matmul(u_half.to(at::kFloat), v_half.to(at::kFloat).t()).to(at::kHalf);
  return (norm(u_half) - 2 * product + norm(v_half).t()).clamp_min(0);
}

at::Tensor float_distances(const at::Tensor& u, const at::Tensor& v) {
  const auto norm = [](const at::Tensor& x) { return x.square().sum(1, /*keepdim=*/true); };
  return (norm(u) - 2 * at::matmul(u, v.t()) + norm(v).t()).clamp_min(0);
}

// Squared distances of one block, [rows of u, rows of v].
at::Tensor distances(const at::Tensor& u, const at::Tensor& v) {
  std::vector<at::Tensor> slices;
  for (const auto& slice : u.split(kSlice)) {
    slices.push_back(half_distances(slice, v));
    if (slices.back().isfinite().all().item<bool>()) continue;
    slices.clear();
    for (const auto& again : u.split(kSlice)) slices.push_back(float_distances(again, v));
    break;
  }
  return at::cat(slices);
}

// The squared distance of every point to its `neighbour`-th nearest other point, [N] float32. The point itself is among
// the candidates, as the nearest.
at::Tensor radii(const at::Tensor& points, int64_t neighbour) {
  std::vector<at::Tensor> list;
  for (const auto& rows : points.split(kBlock)) {
    at::Tensor nearest;
    for (const auto& columns : points.split(kBlock)) {
      const auto block = distances(rows, columns).to(at::kFloat);
      nearest = nearest.defined() ? at::cat({nearest, block}, 1) : block;
      nearest = std::get<0>(
          nearest.topk(std::min(neighbour + 1, nearest.size(1)), /*dim=*/1, /*largest=*/false, /*sorted=*/true));
    }
    list.push_back(nearest.select(1, neighbour));
  }
  return at::cat(list);
}

}  // namespace

PrecisionRecall precision_recall(const at::Tensor& reference, const at::Tensor& samples, int64_t neighbour) {
  const auto reference_radii = radii(reference, neighbour), sample_radii = radii(samples, neighbour);
  auto is_sample_inside = at::zeros({samples.size(0)}, samples.options().dtype(at::kBool));
  auto is_reference_inside = at::zeros({reference.size(0)}, samples.options().dtype(at::kBool));
  for (int64_t i = 0; i < reference.size(0); i += kBlock) {
    for (int64_t j = 0; j < samples.size(0); j += kBlock) {
      const auto rows = reference.slice(0, i, i + kBlock), columns = samples.slice(0, j, j + kBlock);
      const auto block = distances(rows, columns).to(at::kFloat);
      const auto row_radii = reference_radii.slice(0, i, i + kBlock).unsqueeze(1);
      const auto column_radii = sample_radii.slice(0, j, j + kBlock).unsqueeze(0);
      is_sample_inside.slice(0, j, j + kBlock).logical_or_((block <= row_radii).any(0));
      is_reference_inside.slice(0, i, i + kBlock).logical_or_((block <= column_radii).any(1));
    }
  }
  return {is_sample_inside.to(at::kDouble).mean().item<double>(),
          is_reference_inside.to(at::kDouble).mean().item<double>()};
}

}  // namespace trislot
