#include "checkpoint/tensor_file.h"

#include "checkpoint/safetensors.h"
#include "checkpoint/torch_file.h"

namespace trislot {

std::unique_ptr<TensorReader> open_tensors(const std::string& path, const std::string& part) {
  if (!path.ends_with(".safetensors")) return open_torch_file(path, part);
  auto reader = open_safetensors(path);
  if (!part.empty()) {
    throw FileError("readSafetensors(\"" + path +
                    "\"): expected no part to be named, because the format has none, got " + part);
  }
  return reader;
}

TensorFile read_all(const TensorReader& reader) {
  reader.verify();
  TensorFile file{{}, reader.metadata};
  file.tensors.reserve(reader.tensors.size());
  for (size_t i = 0; i < reader.tensors.size(); ++i) file.tensors.push_back({reader.tensors[i].name, reader.read(i)});
  return file;
}

void convert_file(const std::string& from, const std::string& to, const std::string& part) {
  const auto reader = open_tensors(from, part);
  reader->verify();
  const auto source = [&](size_t index) { return reader->read(index); };
  if (to.ends_with(".safetensors")) {
    auto metadata = reader->metadata;
    if (reader->format != "safetensors")
      metadata.erase("root"), metadata.erase("unread");  // of the file, not of the tensors
    write_safetensors(to, reader->tensors, source, metadata);
  } else {
    write_torch_file(to, reader->tensors, source);
  }
}

}  // namespace trislot
