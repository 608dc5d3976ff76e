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
  double direction_weight = 0;  // of 1 - cosine between v and its target, for layouts with a v head
};

// What the caller decides anew at each step; tensors in host memory, undefined where nothing is said.
struct HeadInputs {
  ChoiceInputs choice;
  at::Tensor weight;          // [N, heads] factor on each head's error in the space of the loss
  at::Tensor mixture;         // [N, heads] weights, adding up to 1, of the mixture of predictions that is trained too
  double mixture_factor = 0;  // of the mixture's error in the loss
};

struct ThreeHeadLoss {
  at::Tensor loss;      // [N]         what each example contributes, before its timestep weight; with the gate's error
  at::Tensor per_head;  // [N, heads]  mean squared error of each head in its own unit, without gradient
  at::Tensor chosen;    // [N]         int64 column of the head with the largest share, -1 where several have it
  // Of several heads only, without gradient:
  at::Tensor error_products;  // [N, heads, heads]  mean over pixels of two heads' errors of v, multiplied
  at::Tensor mean_error;      // [N, heads]         mean over pixels of each head's error of x_start
};

class ThreeHeadLossFunction {
 public:
  ThreeHeadLossFunction(const Schedule& schedule, OutputLayout layout, const LossConfig& config);

  // x_start, eps, x_t: [N, C, ...]; k: [N]
  ThreeHeadLoss operator()(const Predictions& predictions, const at::Tensor& x_start, const at::Tensor& eps,
                           const at::Tensor& x_t, const std::vector<int64_t>& k, const HeadInputs& inputs) const;

 private:
  at::Tensor mixture_error(const at::Tensor& residual, const at::Tensor& to_v, const at::Tensor& weight,
                           const std::vector<int64_t>& k) const;

  const Schedule& schedule_;
  OutputLayout layout_;
  LossConfig config_;
  std::vector<double> compare_factors_, loss_factors_;  // [T, heads]
  std::vector<double> to_v_;                            // [T, heads]
  std::vector<double> mixture_factors_;                 // [T]; empty in the own space, which a mixture does not have
};

}  // namespace trislot
