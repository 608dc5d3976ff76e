// Random numbers keyed by (seed, purpose, step, sample): nothing to save, and any step can be drawn again.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace trislot {

// What numbers are drawn for; mirrors PURPOSES in lib/random.ts.
enum class Purpose : uint32_t { Noise = 1, Dropout = 2, Weights = 3, StartNoise = 4, StepNoise = 5, Probe = 20 };

struct NoiseKey {
  uint64_t seed = 0;
  Purpose purpose = Purpose::Noise;
  uint32_t step = 0;
  uint32_t first_sample = 0;  // index of the first example of the tensor; the others follow
};

// Standard normal numbers of the given shape [N, ...], float32 on the CPU.
at::Tensor keyed_normal(at::IntArrayRef shape, const NoiseKey& key);

// Mask [N, ...] of 0 and 1 / (1 - p) for dropout in one layer, float32 on the CPU; key.purpose is not used.
at::Tensor keyed_dropout_mask(at::IntArrayRef shape, double p, uint32_t layer, const NoiseKey& key);

// Uniform numbers in [-bound, bound) for the parameter at position `index`, float32 on the CPU.
at::Tensor keyed_uniform_weights(at::IntArrayRef shape, double bound, uint64_t seed, uint32_t index);

// Standard normal numbers for the parameter at position `index`, float32 on the CPU.
at::Tensor keyed_normal_weights(at::IntArrayRef shape, uint64_t seed, uint32_t index);

}  // namespace trislot
