// The loss of several heads: their errors, the comparison, the choice, the number to differentiate.
#pragma once

#include <vector>

#include "loss/choice.h"
#include "loss/space.h"
#include "prediction/head.h"
#include "schedule/schedule.h"

namespace trislot {

// Four separate choices: what the heads predict (OutputLayout), where they are compared, what is back-propagated, and
// which timesteps are drawn with which weight (the caller's).
struct LossConfig {
  Space compare = Space::Own;
  Space space = Space::Own;  // of the back-propagated error, that is, its weight over timesteps
  Choice choose = choose_min;
  int64_t single_head = 0;  // column of the head for choose_single
  double sigma_data = 0.5;
};

struct ThreeHeadLoss {
  at::Tensor loss;      // [N]         what each example contributes, before its timestep weight
  at::Tensor per_head;  // [N, heads]  mean squared error of each head in its own unit, without gradient
  at::Tensor chosen;    // [N]         int64 column of the head that entered `loss`, -1 where all did
};

class ThreeHeadLossFunction {
 public:
  ThreeHeadLossFunction(const Schedule& schedule, OutputLayout layout, const LossConfig& config);

  // x_start, eps, x_t: [N, C, ...]; k: [N]
  ThreeHeadLoss operator()(const Predictions& predictions, const at::Tensor& x_start, const at::Tensor& eps,
                           const at::Tensor& x_t, const std::vector<int64_t>& k) const;

 private:
  at::Tensor rows(const std::vector<double>& factors, const std::vector<int64_t>& k, at::Device device) const;

  const Schedule& schedule_;
  OutputLayout layout_;
  LossConfig config_;
  std::vector<double> compare_factors_, loss_factors_;  // [T, heads]
};

}  // namespace trislot
