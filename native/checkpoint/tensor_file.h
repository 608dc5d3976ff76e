// What a checkpoint file holds, whatever its format.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace trislot {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;  // CPU, contiguous
};

// A tensor as its file describes it, before it is read.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
};

struct TensorFile {
  std::vector<NamedTensor> tensors;  // in the order of the file, every name once
  std::map<std::string, std::string> metadata;
};

// A file that cannot be read or written; the message names the call, the file and what is wrong with it.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An opened file: everything but the data has been read and checked, and tensors are read one at a time, so that a
// large file is never in memory as a whole.
class TensorReader {
 public:
  virtual ~TensorReader() = default;
  // CPU, contiguous, with memory of its own.
  virtual at::Tensor read(size_t index) const = 0;
  // Compares the data with the checksums that the file has; nothing where the format has none.
  virtual void verify() const {}

  std::string format;                // safetensors, torch-zip or torch-legacy
  std::vector<TensorEntry> tensors;  // in the order of the file, every name once
  std::map<std::string, std::string> metadata;
};

// A .safetensors file by its extension, any other as PyTorch's. `part` names a dict of a PyTorch file; see
// open_torch_file.
std::unique_ptr<TensorReader> open_tensors(const std::string& path, const std::string& part = "");

// All tensors at once, after their checksums.
TensorFile read_all(const TensorReader& reader);

// Gives tensor `index` when it is its turn to be written.
using TensorSource = std::function<at::Tensor(size_t index)>;

// From either format to either, by the extension of `to` (.safetensors or .pt), one tensor at a time. Types stay what
// they are.
void convert_file(const std::string& from, const std::string& to, const std::string& part);

}  // namespace trislot
