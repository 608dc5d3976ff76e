// Ways to choose among heads. Each is one function with one contract, so that a new one is a few lines.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace trislot {

struct Chosen {
  at::Tensor share;  // [N, heads] how much of each head's error is the example's loss; rows add up to 1; a constant
  at::Tensor index;  // [N] int64, the head chosen, or -1 where all take part
};

// compared: [N, heads] errors in the space of the comparison, without gradient.
using Choice = Chosen (*)(const at::Tensor& compared, int64_t single_head);

Chosen choose_min(const at::Tensor& compared, int64_t);        // the smallest, example by example (the paper)
Chosen choose_min_batch(const at::Tensor& compared, int64_t);  // the head with the smallest mean over the batch
Chosen choose_mean(const at::Tensor& compared, int64_t);       // all heads, equally
Chosen choose_single(const at::Tensor& compared, int64_t single_head);

// min, minBatch, mean, single
Choice choice_named(std::string_view name);

}  // namespace trislot
