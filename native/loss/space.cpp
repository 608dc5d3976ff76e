#include "loss/space.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace trislot {
namespace {

// Bounds that keep every factor finite at a timestep without signal; no other timestep of a usual schedule reaches
// them.
constexpr double kSmallestSnr = 1e-12;
constexpr double kLargestSnr = 1e12;

// A squared error of x_start, seen in `space`, is this many times as large.
double from_x_start(Space space, double snr, double sigma_data) {
  switch (space) {
    case Space::XStart:
      return 1;
    case Space::V:
      return 1 + snr;
    case Space::Eps:
      return snr;
    case Space::F:
      return snr + 1 / (sigma_data * sigma_data);
    case Space::Own:
      break;
  }
  TORCH_CHECK(false, "the own space depends on the head");
}

// The same for a head's own unit at step k.
double in_own_unit(Head head, const Schedule& schedule, size_t k, double snr) {
  switch (head) {
    case Head::XStart:
      return from_x_start(Space::XStart, snr, 0);
    case Head::V:
      return from_x_start(Space::V, snr, 0);
    case Head::Eps:
      return from_x_start(Space::Eps, snr, 0);
    case Head::F:
      return from_x_start(Space::F, snr, kHeadSigmaData);
    case Head::XPrev:
      return schedule.posterior_mean_x_start[k] * schedule.posterior_mean_x_start[k];
  }
  TORCH_CHECK(false, "no such head");
}

}  // namespace

std::vector<double> space_factors(const Schedule& schedule, const std::vector<Head>& heads, Space space,
                                  double sigma_data) {
  std::vector<double> factors;
  for (size_t k = 0; k < schedule.snr.size(); ++k) {
    const double snr = std::clamp(schedule.snr[k], kSmallestSnr, kLargestSnr);
    for (const auto head : heads) {
      factors.push_back(
          space == Space::Own ? 1 : from_x_start(space, snr, sigma_data) / in_own_unit(head, schedule, k, snr));
    }
  }
  return factors;
}

std::vector<double> v_error_factors(const Schedule& schedule, const std::vector<Head>& heads) {
  auto factors = space_factors(schedule, heads, Space::V, 0);
  for (size_t i = 0; i < factors.size(); ++i) {
    const auto head = heads[i % heads.size()];
    const bool rises_with_v = head == Head::V || head == Head::Eps;  // v = signal * eps - noise * x_start
    factors[i] = (rises_with_v ? 1 : -1) * std::sqrt(factors[i]);
  }
  return factors;
}

}  // namespace trislot
