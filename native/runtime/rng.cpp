#include "runtime/rng.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "runtime/parallel.h"
#include "runtime/philox.h"

namespace trislot {
namespace {

constexpr float kTwoPi = 6.28318530717958647692f;
constexpr float kWordScale = 1.0f / 4294967296.0f;

// Calls fill(first element, words) for each block of four elements of each sample.
template <typename Fill>
void for_each_block(float* out, int64_t sample_count, int64_t sample_size, uint64_t seed, uint32_t purpose,
                    uint32_t step, uint32_t first_sample, const Fill& fill) {
  const int64_t blocks = (sample_size + 3) / 4;
  in_parallel(sample_count * blocks, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = i / blocks;
      const int64_t block = i % blocks;
      const auto words =
          philox4x32({static_cast<uint32_t>(block), first_sample + static_cast<uint32_t>(sample), step, purpose}, seed);
      float values[4];
      fill(words, values);
      const int64_t first = block * 4;
      std::copy_n(values, std::min<int64_t>(4, sample_size - first), out + sample * sample_size + first);
    }
  });
}

// Two Box-Muller pairs from four words; (w + 1) / 2^32 lies in (0, 1], so the logarithm is finite.
void normals(const PhiloxBlock& words, float* values) {
  for (int pair = 0; pair < 2; ++pair) {
    const float u = (static_cast<float>(words[2 * pair]) + 1.0f) * kWordScale;
    const float angle = kTwoPi * (static_cast<float>(words[2 * pair + 1]) * kWordScale);
    const float radius = std::sqrt(-2.0f * std::log(u));
    values[2 * pair] = radius * std::cos(angle);
    values[2 * pair + 1] = radius * std::sin(angle);
  }
}

int64_t sample_size_of(const at::Tensor& tensor) { return tensor.size(0) == 0 ? 0 : tensor.numel() / tensor.size(0); }

}  // namespace

at::Tensor keyed_normal(at::IntArrayRef shape, const NoiseKey& key) {
  auto out = at::empty(shape, at::kFloat);
  for_each_block(out.mutable_data_ptr<float>(), out.size(0), sample_size_of(out), key.seed,
                 static_cast<uint32_t>(key.purpose), key.step, key.first_sample, normals);
  return out;
}

at::Tensor keyed_dropout_mask(at::IntArrayRef shape, double p, uint32_t layer, const NoiseKey& key) {
  auto out = at::empty(shape, at::kFloat);
  const auto threshold = static_cast<uint32_t>(std::min(p * 4294967296.0, 4294967295.0));
  const float kept = static_cast<float>(1.0 / (1.0 - p));
  const auto purpose = static_cast<uint32_t>(Purpose::Dropout) + 256 * layer;
  for_each_block(out.mutable_data_ptr<float>(), out.size(0), sample_size_of(out), key.seed, purpose, key.step,
                 key.first_sample, [&](const PhiloxBlock& words, float* values) {
                   for (int i = 0; i < 4; ++i) values[i] = words[i] >= threshold ? kept : 0.0f;
                 });
  return out;
}

at::Tensor keyed_uniform_weights(at::IntArrayRef shape, double bound, uint64_t seed, uint32_t index) {
  auto out = at::empty(shape, at::kFloat);
  for_each_block(out.mutable_data_ptr<float>(), 1, out.numel(), seed, static_cast<uint32_t>(Purpose::Weights), 0, index,
                 [&](const PhiloxBlock& words, float* values) {
                   for (int i = 0; i < 4; ++i) {
                     values[i] = static_cast<float>(bound * (2 * ((words[i] + 0.5) / 4294967296.0) - 1));
                   }
                 });
  return out;
}

at::Tensor keyed_normal_weights(at::IntArrayRef shape, uint64_t seed, uint32_t index) {
  auto out = at::empty(shape, at::kFloat);
  for_each_block(out.mutable_data_ptr<float>(), 1, out.numel(), seed, static_cast<uint32_t>(Purpose::Weights), 0, index,
                 normals);
  return out;
}

}  // namespace trislot
