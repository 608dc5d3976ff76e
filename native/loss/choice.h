// Ways to choose among heads. Each is one function with one contract, so that a new one is a few lines.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace trislot {

struct Chosen {
  at::Tensor share;  // as `compared`: how much of each head's error is the example's loss; a constant
  at::Tensor index;  // [N] int64, the head with the largest share, or -1 where several have it
};

// What a choice may depend on beside the errors.
struct ChoiceInputs {
  int64_t single_head = 0;  // for choose_single
  at::Tensor share;         // [N, heads] for choose_given; undefined: equal shares
  double temperature = 1;   // for choose_softmin, relative to the smallest error of the example's heads
  double floor = 0.1;       // for choose_relaxed: the part that the losers divide
};

// compared: [N, heads] errors in the space of the comparison, without gradient; [N, heads, pixels] for
// choose_min_pixel.
using Choice = Chosen (*)(const at::Tensor& compared, const ChoiceInputs& inputs);

Chosen choose_min(const at::Tensor& compared, const ChoiceInputs&);        // the smallest, for each example (the paper)
Chosen choose_min_batch(const at::Tensor& compared, const ChoiceInputs&);  // the head with the smallest mean of all
Chosen choose_min_pixel(const at::Tensor& compared, const ChoiceInputs&);  // the smallest, pixel by pixel
Chosen choose_mean(const at::Tensor& compared, const ChoiceInputs&);       // all heads, equally
Chosen choose_single(const at::Tensor& compared, const ChoiceInputs& inputs);
Chosen choose_relaxed(const at::Tensor& compared, const ChoiceInputs& inputs);  // the smallest, with a floor for others
Chosen choose_softmin(const at::Tensor& compared, const ChoiceInputs& inputs);  // softmax of the negative errors
Chosen choose_given(const at::Tensor& compared, const ChoiceInputs& inputs);    // as the caller says

// min, minBatch, minPixel, mean, single, relaxed, softmin, given
Choice choice_named(std::string_view name);

}  // namespace trislot
