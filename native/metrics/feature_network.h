// A TorchScript module that the user gives, for metrics on its features: an Inception network as a rule.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <string>

namespace trislot {

struct Features {
  at::Tensor pool;           // [N, D] float32
  at::Tensor spatial;        // [N, D'] float32, undefined when the module has none
  at::Tensor probabilities;  // [N, K] float32 over classes, undefined when the module has none
};

class FeatureNetwork {
 public:
  // Runs no Python: a TorchScript file holds its own small language. Throws when the file is no such module.
  FeatureNetwork(const std::string& path, at::Device device);

  // images: float32 [N, 3, H, W], values 0 to 255.
  //
  // The module's forward(images) gives `pool`, or a tuple (pool, spatial?, logits?), or a dict with these names; logits
  // become probabilities. A forward with the arguments `return_features` and `no_output_bias`, as in NVIDIA's
  // inception-2015-12-05.pt, is called twice instead: for pool, and for probabilities.
  Features operator()(const at::Tensor& images);

 private:
  torch::jit::Module module_;
  at::Device device_;
};

}  // namespace trislot
