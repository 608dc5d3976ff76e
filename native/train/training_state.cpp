#include "train/training_state.h"

#include <ATen/ATen.h>

#include <charconv>

namespace trislot {

std::vector<at::Tensor> GradientScope::gradients() const {
  std::vector<at::Tensor> list;
  for (const auto& weight : weights_) {
    list.push_back(weight.grad().defined() ? weight.grad() : at::zeros_like(weight.detach()));
  }
  return list;
}

void GradientScope::release() {
  for (auto& weight : weights_) weight.mutable_grad().reset();
}

std::vector<NamedTensor> named(const std::vector<Parameter>& parameters, const std::vector<at::Tensor>& tensors,
                               const std::string& prefix) {
  std::vector<NamedTensor> list;
  for (size_t i = 0; i < tensors.size(); ++i) list.push_back({prefix + parameters[i].name, tensors[i].detach()});
  return list;
}

std::vector<NamedTensor> named_state(const std::vector<Parameter>& parameters, const AdamW& optimizer) {
  auto state = named(parameters, optimizer.exp_avg, "exp_avg.");
  const auto squares = named(parameters, optimizer.exp_avg_sq, "exp_avg_sq.");
  state.insert(state.end(), squares.begin(), squares.end());
  return state;
}

namespace {

template <typename Number>
Number parsed(const TensorFile& file, const std::string& key, const std::string& call, Number min,
              const std::string& what) {
  const auto found = file.metadata.find(key);
  const std::string text = found == file.metadata.end() ? "none" : found->second;
  Number value{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || !(value >= min)) {
    throw FileError(call + ": expected metadata " + key + " to be " + what + ", got " + text);
  }
  return value;
}

}  // namespace

double number_in(const TensorFile& file, const std::string& key, const std::string& call, double min,
                 const std::string& what) {
  return parsed<double>(file, key, call, min, what);
}

int64_t count_in(const TensorFile& file, const std::string& key, const std::string& call) {
  return parsed<int64_t>(file, key, call, 0, "an integer >= 0");
}

}  // namespace trislot
