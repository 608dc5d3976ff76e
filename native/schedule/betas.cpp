#include "schedule/betas.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trislot {
namespace {

// numpy.linspace to the last bit: i * step + first, the last element set exactly.
std::vector<double> linspace(double first, double last, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<double>(i) * step + first;
  if (count > 1) values.back() = last;
  return values;
}

// beta_i = 1 - f((i + 1) / T) / f(i / T), at most 0.999.
template <typename AlphaBar>
std::vector<double> betas_for_alpha_bar(int64_t timestep_count, const AlphaBar& alpha_bar) {
  std::vector<double> betas;
  for (int64_t i = 0; i < timestep_count; ++i) {
    const double u0 = static_cast<double>(i) / static_cast<double>(timestep_count);
    const double u1 = static_cast<double>(i + 1) / static_cast<double>(timestep_count);
    betas.push_back(std::min(1 - alpha_bar(u1) / alpha_bar(u0), 0.999));
  }
  return betas;
}

}  // namespace

std::vector<double> named_betas(const std::string& name, int64_t timestep_count) {
  const double scale = 1000.0 / static_cast<double>(timestep_count);
  if (name == "linear") return linspace(scale * 0.0001, scale * 0.02, timestep_count);
  if (name == "scaledLinear") {
    auto betas = linspace(std::sqrt(scale * 0.00085), std::sqrt(scale * 0.012), timestep_count);
    for (auto& beta : betas) beta *= beta;
    return betas;
  }
  if (name == "cosine") {
    return betas_for_alpha_bar(timestep_count, [](double u) {
      const double c = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
      return std::pow(c, 2);
    });
  }
  if (name == "sigmoid") {
    constexpr double kStart = -3, kEnd = 3, kTau = 1;
    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
    const double first = sigmoid(kStart / kTau), last = sigmoid(kEnd / kTau);
    return betas_for_alpha_bar(timestep_count, [&](double u) {
      return (last - sigmoid((u * (kEnd - kStart) + kStart) / kTau)) / (last - first);
    });
  }
  TORCH_CHECK(false, "no noise schedule is named ", name);
}

std::vector<double> rescale_to_zero_terminal_snr(const std::vector<double>& betas) {
  std::vector<double> root(betas.size());
  double product = 1;
  for (size_t i = 0; i < betas.size(); ++i) root[i] = std::sqrt(product *= 1 - betas[i]);
  const double first = root.front(), last = root.back();
  for (auto& r : root) r = (r - last) * (first / (first - last));
  std::vector<double> rescaled(betas.size());
  double previous = 1;
  for (size_t i = 0; i < betas.size(); ++i) {
    const double alpha_bar = root[i] * root[i];
    rescaled[i] = 1 - alpha_bar / previous;
    previous = alpha_bar;
  }
  return rescaled;
}

}  // namespace trislot
