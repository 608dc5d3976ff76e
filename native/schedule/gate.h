// The learned gate: how much each head counts in each pixel of the prediction of x_start.
#pragma once

#include <ATen/core/Tensor.h>

#include "prediction/head.h"
#include "schedule/reverse.h"
#include "schedule/schedule.h"

namespace trislot {

// Weights [N, heads, ...] that add up to 1 at each pixel, from the gate's raw values of the same shape, which are all 0
// at first: then the weights are those of independent errors of one size in the heads' outputs (math.md, eq. 65).
at::Tensor gate_weights(const Schedule& process, const OutputLayout& layout, const at::Tensor& values, const Steps& k);

}  // namespace trislot
