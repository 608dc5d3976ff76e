// Distances between two sets of images, on features or pixels. Sums are float64.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace trislot {

struct Gaussian {
  at::Tensor mean, covariance;  // float64 [D], [D, D]
};

// Mean and unbiased covariance of features [N, D], N >= 2.
Gaussian gaussian_of(const at::Tensor& features);

// Squared Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
double frechet_distance(const Gaussian& a, const Gaussian& b);

// exp(mean over images of KL(p, mean p)), averaged over contiguous splits of `split` images; probabilities: [N, K].
double inception_score(const at::Tensor& probabilities, int64_t split);

struct PrecisionRecall {
  double precision, recall;
};

// Precision and recall of samples [M, D] against a reference [N, D] by the balls to the `neighbour`-th nearest other
// point of the same set (arXiv 1904.06991), as guided-diffusion's evaluator: squared distances in half precision.
PrecisionRecall precision_recall(const at::Tensor& reference, const at::Tensor& samples, int64_t neighbour);

// Unbiased squared maximum mean discrepancy under (x . y / D + 1)^3 (arXiv 1801.01401) of each pair of subsets; rows_a,
// rows_b: int [S, m], which rows of a [N, D] and b [M, D] a subset holds.
std::vector<double> kernel_distances(const at::Tensor& a, const at::Tensor& b, const at::Tensor& rows_a,
                                     const at::Tensor& rows_b);

// images [N, ...] along directions [L, D], which are brought to length 1 first: [N, L].
at::Tensor project(const at::Tensor& images, const at::Tensor& directions);

// Root of the mean over directions of the squared 2-Wasserstein distances of projections a [N, L] and b [M, L].
double sliced_wasserstein(const at::Tensor& a, const at::Tensor& b);

}  // namespace trislot
