// The ways to say the same thing: the clean image, the velocity, the noise, the image of one step less noise, EDM's F.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace trislot {

// In the order of output channels, of the columns of per_head, of names. Mirrors lib/prediction/heads.ts.
enum class Head { XStart, V, Eps, XPrev, F };

inline constexpr std::array<std::string_view, 5> kHeadNames = {"xStart", "v", "eps", "xPrev", "F"};

// Deviation of the pixels that the head F takes for granted: EDM's own, whatever sigma_data the space of a loss has.
inline constexpr double kHeadSigmaData = 0.5;

// How the channels of a network's output are divided: image_channels for each head, then the variance values, then one
// channel for each head of the gate.
struct OutputLayout {
  std::vector<Head> heads;  // in the order of the enum, not empty
  int64_t image_channels = 3;
  bool learns_variance = false;
  bool gate = false;

  int64_t head_count() const { return static_cast<int64_t>(heads.size()); }
  int64_t channel_count() const {
    return image_channels * (head_count() + (learns_variance ? 1 : 0)) + (gate ? head_count() : 0);
  }
};

// The parts of a network's output.
struct Predictions {
  at::Tensor stacked;   // [N, heads, C, ...], as OutputLayout::heads
  at::Tensor variance;  // [N, C, ...] raw values of the learned variance, undefined without it
  at::Tensor gate;      // [N, heads, ...] raw values, undefined without it

  at::Tensor head(int64_t index) const { return stacked.select(1, index); }
};

// output: [N, layout.channel_count(), ...]
Predictions split_output(const OutputLayout& layout, const at::Tensor& output);

}  // namespace trislot
