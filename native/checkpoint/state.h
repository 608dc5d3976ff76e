// Names and shapes of a file against those of a model, all differences at once.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "checkpoint/tensor_file.h"

namespace trislot {

struct LoadReport {
  std::vector<std::string> missing, unexpected;  // in the model only; in the file only
  std::vector<std::string> misshapen;            // `name: file [3], model [4]`

  bool fits() const { return missing.empty() && unexpected.empty() && misshapen.empty(); }
};

struct StateError : FileError {
  StateError(const std::string& message, LoadReport report) : FileError(message), report(std::move(report)) {}
  LoadReport report;
};

// In the order of `expected`, then of `found`. Floating-point types stand for one another, other types for
// themselves.
LoadReport compare_names(const std::vector<NamedTensor>& expected, const std::vector<NamedTensor>& found);

// Copies the file's tensors into those of the model by name, converting floating-point types; outside
// autograd. Either everything fits or nothing is copied and a StateError lists what does not. `call` begins
// the message: `load("PATH")`.
void load_into(const std::vector<NamedTensor>& destination, const TensorFile& file, const std::string& call);

}  // namespace trislot
