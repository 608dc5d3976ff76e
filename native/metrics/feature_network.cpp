#include "metrics/feature_network.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

namespace trislot {
namespace {

// [N, ...] -> float32 [N, D]
at::Tensor rows(const at::Tensor& tensor, const char* name, int64_t count) {
  TORCH_CHECK(tensor.dim() >= 2 && tensor.size(0) == count, "the module's ", name, " has the shape ", tensor.sizes(),
              ", where the first of two or more dimensions should be the ", count, " images");
  return tensor.flatten(1).to(at::kFloat).contiguous();
}

Features from_parts(const c10::IValue& pool, const c10::IValue& spatial, const c10::IValue& logits, int64_t count) {
  Features features{rows(pool.toTensor(), "pool", count), {}, {}};
  if (spatial.isTensor()) features.spatial = rows(spatial.toTensor(), "spatial", count);
  if (logits.isTensor()) features.probabilities = at::softmax(rows(logits.toTensor(), "logits", count), 1);
  return features;
}

Features from_output(const c10::IValue& output, int64_t count) {
  if (output.isTensor()) return from_parts(output, {}, {}, count);
  if (output.isTuple()) {
    const auto parts = output.toTupleRef().elements().vec();
    TORCH_CHECK(!parts.empty() && parts[0].isTensor(), "the module's tuple should begin with a tensor");
    return from_parts(parts[0], parts.size() > 1 ? parts[1] : c10::IValue(),
                      parts.size() > 2 ? parts[2] : c10::IValue(), count);
  }
  TORCH_CHECK(output.isGenericDict(), "the module should give a tensor, a tuple or a dict, not ", output.tagKind());
  const auto parts = output.toGenericDict();
  const auto part = [&](const char* name) { return parts.contains(name) ? parts.at(name) : c10::IValue(); };
  TORCH_CHECK(part("pool").isTensor(), "the module's dict should hold the tensor \"pool\"");
  return from_parts(part("pool"), part("spatial"), part("logits"), count);
}

}  // namespace

FeatureNetwork::FeatureNetwork(const std::string& path, at::Device device)
    : module_(torch::jit::load(path, device)), device_(device) {
  module_.eval();
}

Features FeatureNetwork::operator()(const at::Tensor& images) {
  c10::NoGradGuard no_grad;
  // The first runs would be profiled and later ones rewritten, with other rounding.
  torch::jit::GraphOptimizerEnabledGuard as_written(false);
  const std::vector<c10::IValue> inputs{images.to(device_)};
  const auto forward = module_.get_method("forward");
  const auto& schema = forward.function().getSchema();
  if (!schema.argumentIndexWithName("return_features")) return from_output(forward(inputs), images.size(0));
  const auto pool = forward(inputs, {{"return_features", true}}).toTensor();
  Features features{rows(pool, "features", images.size(0)), {}, {}};
  if (schema.argumentIndexWithName("no_output_bias")) {
    const auto probabilities = forward(inputs, {{"no_output_bias", true}}).toTensor();
    features.probabilities = rows(probabilities, "probabilities", images.size(0));
  }
  return features;
}

}  // namespace trislot
