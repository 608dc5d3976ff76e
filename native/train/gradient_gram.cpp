#include "train/gradient_gram.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "train/training_state.h"

namespace trislot {
namespace {

using Gradient = std::vector<at::Tensor>;

// Only what is converted at a time is in float64.
double product(const Gradient& a, const Gradient& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += at::dot(a[i].flatten().to(at::kDouble), b[i].flatten().to(at::kDouble)).item<double>();
  }
  return sum;
}

}  // namespace

GradientGram gradient_gram(const LossSetting& setting, const std::vector<GramBatch>& batches,
                           const std::vector<int64_t>& parameters, size_t held, at::ScalarType dtype) {
  auto weights = setting.unet.weights();
  const auto count = batches.size();
  const auto size = static_cast<int64_t>(count);
  GradientGram gram{at::zeros({size, size}, at::kDouble), at::zeros({size}, at::kDouble)};
  auto products = gram.products.accessor<double, 2>();
  auto losses = gram.loss.accessor<double, 1>();

  const auto gradient_of = [&](size_t index) {
    const GradientScope scope(weights);
    const auto& [batch, function] = batches[index];
    const LossSetting own{setting.unet, setting.schedule, setting.layout,
                          function,     setting.bound,    setting.rescales_timesteps};
    const auto examples = batch_loss(own, batch, batch.noise, {dtype, /*training=*/false, {}}).loss;
    const auto loss = (examples * batch.weight.to(examples.device())).mean();
    loss.backward();
    losses[static_cast<int64_t>(index)] = loss.item<double>();
    const auto all = scope.gradients();
    Gradient chosen;
    for (const auto position : parameters) chosen.push_back(all.at(static_cast<size_t>(position)));
    return chosen;
  };
  const auto put = [&](size_t i, size_t j, double value) {
    const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(j);
    products[row][column] = products[column][row] = value;
  };

  for (size_t begin = 0; begin < count; begin += held) {
    const auto end = std::min(begin + held, count);
    std::vector<Gradient> block;
    for (size_t j = begin; j < count; ++j) {
      const auto gradient = gradient_of(j);
      const c10::NoGradGuard no_grad;
      for (size_t i = 0; i < block.size(); ++i) put(begin + i, j, product(block[i], gradient));
      if (j >= end) continue;
      put(j, j, product(gradient, gradient));
      block.push_back(gradient);
    }
  }
  return gram;
}

}  // namespace trislot
