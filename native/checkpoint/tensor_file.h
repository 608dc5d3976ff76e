// What a checkpoint file holds, whatever its format.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace trislot {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;  // CPU, contiguous; read, not written: tensors of a .pt file may share memory
};

struct TensorFile {
  std::vector<NamedTensor> tensors;  // in the order of the file, every name once
  std::map<std::string, std::string> metadata;
};

// A file that cannot be read or written; the message names the call, the file and what is wrong with it.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace trislot
