#include "train/training_state.h"

#include <ATen/ATen.h>

#include <array>
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

std::string exact_text(double value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return std::string(digits.data(), end);
}

std::map<std::string, std::string> optimizer_metadata(int64_t step, const AdamW& optimizer, const LossScale* scale) {
  std::map<std::string, std::string> metadata = {
      {"format", "trislot"}, {"step", std::to_string(step)}, {"updates", std::to_string(optimizer.step_count)}};
  if (scale != nullptr) metadata["lossScaleLog2"] = exact_text(scale->log2);
  return metadata;
}

double loss_scale_in(const TensorFile& file, const std::string& call, const LossScale& scale) {
  return parsed<double>(file, "lossScaleLog2", call, scale.min, "a number >= " + exact_text(scale.min));
}

int64_t count_in(const TensorFile& file, const std::string& key, const std::string& call) {
  return parsed<int64_t>(file, key, call, 0, "an integer >= 0");
}

}  // namespace trislot
