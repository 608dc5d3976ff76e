// Names and shapes of a file against those of a model, all differences at once.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/tensor_file.h"

namespace trislot {

struct LoadReport {
  std::vector<std::string> missing, unexpected;  // in the model only; in the file only
  std::vector<std::string> misshapen;            // `name: file [3], model [4]`
  std::vector<std::string> loaded;               // copied into the model, by load_weights only

  bool fits() const { return missing.empty() && unexpected.empty() && misshapen.empty(); }
};

struct StateError : FileError {
  StateError(const std::string& message, LoadReport report) : FileError(message), report(std::move(report)) {}
  LoadReport report;
};

// In the order of `expected`, then of `found`. Floating-point types stand for one another, other types for
// themselves.
LoadReport compare_names(const std::vector<NamedTensor>& expected, const std::vector<NamedTensor>& found);

struct LoadOptions {
  std::string part;      // of a PyTorch file; see open_torch_file
  bool partial = false;  // what does not fit stays as it is
  // By name: the row of the file's tensor that each row of the model's takes, -1 for none. Shapes then need to agree
  // from the second dimension on.
  std::map<std::string, std::vector<int64_t>> rows;
};

struct Loaded {
  LoadReport report;
  std::map<std::string, std::string> metadata;
};

// Copies a file's tensors into those of the model by name, one after another, converting floating-point types; outside
// autograd. Names, shapes and checksums are compared before the first is copied. Unless `partial`, everything must fit;
// something always must. Else a StateError lists what does not.
Loaded load_weights(const std::vector<NamedTensor>& destination, const std::string& path, const LoadOptions& options);

// Copies the file's tensors into those of the model by name, converting floating-point types; outside
// autograd. Either everything fits or nothing is copied and a StateError lists what does not. `call` begins
// the message: `load("PATH")`.
void load_into(const std::vector<NamedTensor>& destination, const TensorFile& file, const std::string& call);

}  // namespace trislot
