// Inner products of the gradients of several batches: what conflict, noise scale and shares of a gradient are made of.
#pragma once

#include <vector>

#include "train/batch_loss.h"

namespace trislot {

// A batch on the device of the network, with its noise, and the loss that it is seen with.
struct GramBatch {
  TrainingBatch batch;
  ThreeHeadLossFunction function;
};

struct GradientGram {
  at::Tensor products;  // [G, G] float64: inner products of the gradients of mean(weight * loss)
  at::Tensor loss;      // [G] float64: mean(weight * loss)
};

// Weights stay as they are. `parameters`: positions of the weights whose gradients count. At most `held` gradients are
// kept at a time, and one beside them: held x weights x 4 bytes; with less than G of them gradients are computed again,
// about G / (2 held) times. The setting's own loss function is not used. Products are summed in float64.
GradientGram gradient_gram(const LossSetting& setting, const std::vector<GramBatch>& batches,
                           const std::vector<int64_t>& parameters, size_t held, at::ScalarType dtype);

}  // namespace trislot
