// Bits per dimension of given images, one timestep at a time (guided-diffusion's calc_bpd_loop; math.md, eq. 12).
#pragma once

#include "denoise/denoiser.h"
#include "schedule/reverse.h"

namespace trislot {

struct BoundTerms {
  at::Tensor bound;        // [N] term of the variational bound in bits per dimension
  at::Tensor x_start_mse;  // [N] mean squared error of the predicted x_start
  at::Tensor eps_mse;      // [N] of the eps that belongs to that x_start, clipped as it is
};

// What an output says about x_start noised with `noise`; k: [N] steps of `process`.
BoundTerms bound_terms(const Schedule& process, const OutputLayout& layout, VarianceType variance,
                       const at::Tensor& output, const at::Tensor& x_start, const at::Tensor& noise, const Steps& k,
                       const DenoiseOptions& options);

}  // namespace trislot
