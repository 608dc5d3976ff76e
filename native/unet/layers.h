// The few layers that the network is made of. They create their weights on a given device (so also on `meta`), under
// guided-diffusion's names and in the order of its state dict; nn::Module allows neither.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/rng.h"

namespace trislot {

struct Parameter {
  std::string name;
  at::Tensor tensor;
};

enum class Init { KaimingUniform, Zero, One, Normal };

// Gives each layer its parameters and remembers them in order.
class ParameterList {
 public:
  // New weights: uniform as PyTorch's defaults, keyed by (seed, position), float32.
  ParameterList(at::Device device, uint64_t seed);

  // Existing weights, taken in order instead of created; used to look at an average of the weights through a network.
  explicit ParameterList(std::vector<at::Tensor> existing);

  // fan_in: of the layer, for KaimingUniform (bound 1 / sqrt(fan_in), as PyTorch's convolutions and linear layers).
  at::Tensor add(const std::string& name, at::IntArrayRef shape, Init init, int64_t fan_in = 1);

  std::vector<Parameter> all;

 private:
  at::Device device_;
  uint64_t seed_ = 0;
  bool creates_ = true;
  std::vector<at::Tensor> existing_;
};

// What a forward pass needs beside its inputs.
struct ForwardContext {
  at::ScalarType dtype = at::kFloat;  // of the convolutions and attention; norms, embeddings and the head stay float32
  bool training = false;
  NoiseKey dropout;  // seed, step and first sample that key the dropout masks
};

// Convolution with `dims` spatial dimensions, computed in its input's dtype.
struct Conv {
  Conv() = default;
  Conv(ParameterList& list, const std::string& name, int64_t dims, int64_t in, int64_t out, int64_t kernel,
       int64_t stride = 1, bool zero = false);
  at::Tensor operator()(const at::Tensor& x) const;

  // Some of the output channels alone.
  at::Tensor channels(const at::Tensor& x, int64_t begin, int64_t count) const;

  at::Tensor weight, bias;
  int64_t dims = 2, stride = 1, padding = 0;
  mutable fast::PreparedWeight prepared;  // of the fast kernels, while nothing is trained

 private:
  at::Tensor convolved(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const;
};

struct Linear {
  Linear() = default;
  Linear(ParameterList& list, const std::string& name, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;

  at::Tensor weight, bias;
};

// Normalises in float32 whatever the dtype of its input, and gives that dtype back.
struct GroupNorm {
  GroupNorm() = default;
  GroupNorm(ParameterList& list, const std::string& name, int64_t groups, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;

  at::Tensor weight, bias;
  int64_t groups = 32;
};

// [N] timesteps (float32) -> [N, dim]: cosines first, then sines (guided-diffusion's order).
at::Tensor timestep_embedding(const at::Tensor& t, int64_t dim);

}  // namespace trislot
