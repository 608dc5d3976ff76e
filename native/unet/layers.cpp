#include "unet/layers.h"

#include <ATen/ATen.h>

#include <cmath>

namespace trislot {

ParameterList::ParameterList(at::Device device, uint64_t seed) : device_(device), seed_(seed) {}

ParameterList::ParameterList(std::vector<at::Tensor> existing)
    : device_(existing.empty() ? at::Device(at::kCPU) : existing.front().device()),
      creates_(false),
      existing_(std::move(existing)) {}

at::Tensor ParameterList::add(const std::string& name, at::IntArrayRef shape, Init init, int64_t fan_in) {
  const auto index = all.size();
  at::Tensor tensor;
  if (!creates_) {
    tensor = existing_.at(index);
    TORCH_CHECK(tensor.sizes() == shape, name, ": expected shape ", shape, ", got ", tensor.sizes());
  } else if (device_.is_meta()) {
    tensor = at::empty(shape, at::TensorOptions(at::kFloat).device(device_));
  } else {
    const auto position = static_cast<uint32_t>(index);
    switch (init) {
      case Init::KaimingUniform:
        tensor = keyed_uniform_weights(shape, 1.0 / std::sqrt(static_cast<double>(fan_in)), seed_, position);
        break;
      case Init::Zero:
        tensor = at::zeros(shape, at::kFloat);
        break;
      case Init::One:
        tensor = at::ones(shape, at::kFloat);
        break;
      case Init::Normal:
        tensor = keyed_normal_weights(shape, seed_, position);
        break;
    }
    tensor = tensor.to(device_);
  }
  if (creates_) tensor.requires_grad_(true);
  all.push_back({name, tensor});
  return tensor;
}

Conv::Conv(ParameterList& list, const std::string& name, int64_t dims, int64_t in, int64_t out, int64_t kernel,
           int64_t stride, bool zero)
    : dims(dims), stride(stride), padding(kernel / 2) {
  std::vector<int64_t> shape = {out, in};
  shape.insert(shape.end(), dims, kernel);
  int64_t fan_in = in;
  for (int64_t i = 0; i < dims; ++i) fan_in *= kernel;
  const auto init = zero ? Init::Zero : Init::KaimingUniform;
  weight = list.add(name + ".weight", shape, init, fan_in);
  bias = list.add(name + ".bias", {out}, init, fan_in);
}

at::Tensor Conv::operator()(const at::Tensor& x) const { return convolved(x, weight, bias); }

at::Tensor Conv::channels(const at::Tensor& x, int64_t begin, int64_t count) const {
  return convolved(x, weight.narrow(0, begin, count), bias.narrow(0, begin, count));
}

at::Tensor Conv::convolved(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
  std::vector<int64_t> strides(dims, stride), paddings(dims, padding), ones(dims, 1), zeros(dims, 0);
  // Three-dimensional networks resize only the two inner dimensions.
  if (dims == 3 && stride > 1) strides[0] = 1;
  return at::convolution(x, w.to(x.scalar_type()), b.to(x.scalar_type()), strides, paddings, ones,
                         /*transposed=*/false, zeros, /*groups=*/1);
}

Linear::Linear(ParameterList& list, const std::string& name, int64_t in, int64_t out)
    : weight(list.add(name + ".weight", {out, in}, Init::KaimingUniform, in)),
      bias(list.add(name + ".bias", {out}, Init::KaimingUniform, in)) {}

at::Tensor Linear::operator()(const at::Tensor& x) const { return at::linear(x, weight, bias); }

GroupNorm::GroupNorm(ParameterList& list, const std::string& name, int64_t groups, int64_t channels)
    : weight(list.add(name + ".weight", {channels}, Init::One)),
      bias(list.add(name + ".bias", {channels}, Init::Zero)),
      groups(groups) {}

at::Tensor GroupNorm::operator()(const at::Tensor& x) const {
  constexpr double kTiny = 1e-5;
  return at::group_norm(x.to(at::kFloat), groups, weight, bias, kTiny).to(x.scalar_type());
}

at::Tensor timestep_embedding(const at::Tensor& t, int64_t dim) {
  const int64_t half = dim / 2;
  constexpr double kMaxPeriod = 10000;
  const auto options = at::TensorOptions(at::kFloat).device(t.device());
  const auto frequencies = at::exp(-std::log(kMaxPeriod) * at::arange(half, options) / half);
  const auto angles = t.to(at::kFloat).unsqueeze(1) * frequencies.unsqueeze(0);
  auto embedding = at::cat({at::cos(angles), at::sin(angles)}, /*dim=*/1);
  if (dim % 2 == 1) embedding = at::constant_pad_nd(embedding, {0, 1});
  return embedding;
}

}  // namespace trislot
