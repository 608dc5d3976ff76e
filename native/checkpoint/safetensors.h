// The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
// https://github.com/huggingface/safetensors
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"

namespace trislot {

struct TensorInfo {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes, counted from data_begin
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of the header
  std::map<std::string, std::string> metadata;
  uint64_t data_begin;  // byte of the file
};

// Names, dtypes, shapes and metadata, as strictly checked as by read_safetensors, without reading the data.
SafetensorsHeader inspect_safetensors(const std::string& path);

// Throws FileError for whatever is not exactly the format; never allocates more than about twice the file.
TensorFile read_safetensors(const std::string& path);

// The same, one tensor at a time.
std::unique_ptr<TensorReader> open_safetensors(const std::string& path);

// Names are UTF-8 and there once, types and shapes those that files may have; else a FileError that begins with `call`.
// Gives the bytes of each tensor.
std::vector<uint64_t> check_entries(const std::string& call, const std::vector<TensorEntry>& tensors);

// Writes the file whole or not at all: into `<path>.<pid>-<n>.partial`, synced, then renamed over `path`.
// Tensors of any device and layout, float64/32/16, bfloat16, int64/32, uint8 or bool. The same arguments give
// the same bytes.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

// The same, asking `source` for each tensor when it is its turn.
void write_safetensors(const std::string& path, const std::vector<TensorEntry>& tensors, const TensorSource& source,
                       const std::map<std::string, std::string>& metadata);

}  // namespace trislot
