// What trainers have in common: gradients that last one step, and tensors by name in files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "unet/layers.h"

namespace trislot {

// No gradient is there before a step, and none is left after it, also when it fails half-way.
class GradientScope {
 public:
  explicit GradientScope(std::vector<at::Tensor>& weights) : weights_(weights) { release(); }
  ~GradientScope() { release(); }
  GradientScope(const GradientScope&) = delete;
  GradientScope& operator=(const GradientScope&) = delete;

  // The gradient of each weight, zeros where there is none.
  std::vector<at::Tensor> gradients() const;

 private:
  void release();

  std::vector<at::Tensor>& weights_;
};

// Tensors under the names of the parameters that they belong to.
std::vector<NamedTensor> named(const std::vector<Parameter>& parameters, const std::vector<at::Tensor>& tensors,
                               const std::string& prefix = "");

// Adam's two averages under the names of optimizer.safetensors.
std::vector<NamedTensor> named_state(const std::vector<Parameter>& parameters, const AdamW& optimizer);

// A number in the fewest digits that give it back.
std::string exact_text(double value);

// Metadata of optimizer.safetensors; scale: that of float16, or null.
std::map<std::string, std::string> optimizer_metadata(int64_t step, const AdamW& optimizer, const LossScale* scale);

// The exponent of the loss scale in a file's metadata; FileError where it is none, or below the smallest.
double loss_scale_in(const TensorFile& file, const std::string& call, const LossScale& scale);

// An integer >= 0 in a file's metadata; FileError otherwise.
int64_t count_in(const TensorFile& file, const std::string& key, const std::string& call);

}  // namespace trislot
