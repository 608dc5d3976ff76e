// Squared errors of the heads in a common space. On one example every space ranks the heads identically, so the space
// of the comparison and the space (weight) of the back-propagated loss are separate choices.
#pragma once

#include <string_view>
#include <vector>

#include "prediction/head.h"
#include "schedule/schedule.h"

namespace trislot {

// Own: each head's own unit, as the paper does. F: EDM's preconditioned output.
enum class Space { Own, XStart, V, Eps, F };

inline constexpr std::array<std::string_view, 5> kSpaceNames = {"own", "xStart", "v", "eps", "F"};

// Factors [T, heads] (row-major, float64) by which a head's own squared error is multiplied to be expressed in `space`
// (math.md, "Loss spaces"). sigma_data: standard deviation of the pixels, for F only.
std::vector<double> space_factors(const Schedule& schedule, const std::vector<Head>& heads, Space space,
                                  double sigma_data);

// Factors [T, heads] by which a head's own error, not squared, is multiplied to be the error of v for the same x_t;
// with their signs, so that errors of different heads can be added up.
std::vector<double> v_error_factors(const Schedule& schedule, const std::vector<Head>& heads);

}  // namespace trislot
