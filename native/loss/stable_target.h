// The stable target field (Xu et al. 2023, arXiv 2302.00670): a noised image may have come from any image, so its
// target is their mean, weighted by how probable each of some references is.
#pragma once

#include <ATen/core/Tensor.h>

#include "schedule/reverse.h"
#include "schedule/schedule.h"

namespace trislot {

// An image and the noise that explain the same x_t.
struct NoisedPair {
  at::Tensor x_start, eps;  // [N, C, ...]
};

// The expected x_start given x_t, were it one of the references [R, C, ...] or the example's own image, each as
// probable as the others, and the eps that goes with it (math.md, eq. 64). All on one device.
NoisedPair stable_target(const Schedule& schedule, const at::Tensor& reference, const at::Tensor& x_start,
                         const at::Tensor& eps, const Steps& k);

}  // namespace trislot
