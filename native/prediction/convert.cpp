#include "prediction/convert.h"

#include <ATen/ATen.h>

namespace trislot {
namespace {

constexpr double kVariance = kHeadSigmaData * kHeadSigmaData;

// Deviation of x_t where the pixels have that of the head F.
at::Tensor scale_of(const Mixing& mixing) {
  return at::sqrt(kVariance * at::square(mixing.signal) + at::square(mixing.noise));
}

}  // namespace

Predictions split_output(const OutputLayout& layout, const at::Tensor& output) {
  TORCH_CHECK(output.size(1) == layout.channel_count(), "a network with ", output.size(1),
              " output channels cannot hold ", layout.channel_count(), " channels of predictions");
  Predictions predictions;
  const auto channels = layout.head_count() * layout.image_channels;
  predictions.stacked = output.narrow(1, 0, channels).unflatten(1, {layout.head_count(), layout.image_channels});
  if (layout.learns_variance) predictions.variance = output.narrow(1, channels, layout.image_channels);
  if (layout.gate) predictions.gate = output.narrow(1, output.size(1) - layout.head_count(), layout.head_count());
  return predictions;
}

at::Tensor target_of(Head head, const at::Tensor& x_start, const at::Tensor& eps, const Mixing& mixing) {
  switch (head) {
    case Head::XStart:
      return x_start;
    case Head::V:
      return mixing.signal * eps - mixing.noise * x_start;
    case Head::Eps:
      return eps;
    case Head::F:
      return (mixing.noise * x_start - kVariance * mixing.signal * eps) / (kHeadSigmaData * scale_of(mixing));
    case Head::XPrev:
      break;
  }
  TORCH_CHECK(false, "no such head");
}

at::Tensor x_start_from_v(const at::Tensor& v, const at::Tensor& x_t, const Mixing& mixing) {
  return mixing.signal * x_t - mixing.noise * v;
}

at::Tensor x_start_from_f(const at::Tensor& f, const at::Tensor& x_t, const Mixing& mixing) {
  const auto scale = scale_of(mixing);
  return kVariance * mixing.signal / at::square(scale) * x_t + kHeadSigmaData * mixing.noise / scale * f;
}

}  // namespace trislot
