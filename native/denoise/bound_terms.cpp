#include "denoise/bound_terms.h"

#include <ATen/ATen.h>

namespace trislot {

BoundTerms bound_terms(const Schedule& process, const OutputLayout& layout, VarianceType variance,
                       const at::Tensor& output, const at::Tensor& x_start, const at::Tensor& noise, const Steps& k,
                       const DenoiseOptions& options) {
  const auto x_t = process.q_sample(x_start, noise, k);
  const auto said = read_output(process, layout, output, x_t, k, options);
  const auto mean = said.mean.defined() ? said.mean : posterior_mean(process, said.x_start, x_t, k);
  const auto log_variance = reverse_variance(process, variance, said.variance, x_t, k).log_variance;
  const auto eps = eps_from_x_start(process, said.x_start, x_t, k);
  const auto mean_square = [](const at::Tensor& error) { return at::square(error).flatten(1).mean(/*dim=*/1); };
  return {variational_bound(process, x_start, x_t, mean, log_variance, k), mean_square(said.x_start - x_start),
          mean_square(eps - noise)};
}

}  // namespace trislot
