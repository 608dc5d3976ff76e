#include "loss/space.h"

#include <c10/util/Exception.h>

#include <algorithm>

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

Space own_space(Head head) { return head == Head::XStart ? Space::XStart : head == Head::V ? Space::V : Space::Eps; }

}  // namespace

std::vector<double> space_factors(const Schedule& schedule, const std::vector<Head>& heads, Space space,
                                  double sigma_data) {
  std::vector<double> factors;
  for (const double exact : schedule.snr) {
    const double snr = std::clamp(exact, kSmallestSnr, kLargestSnr);
    for (const auto head : heads) {
      factors.push_back(space == Space::Own
                            ? 1
                            : from_x_start(space, snr, sigma_data) / from_x_start(own_space(head), snr, sigma_data));
    }
  }
  return factors;
}

}  // namespace trislot
