#include "checkpoint/state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "checkpoint/dtype.h"

namespace trislot {
namespace {

// Where each name is in a list.
template <typename Named>
std::unordered_map<std::string_view, size_t> index_of(const std::vector<Named>& list) {
  std::unordered_map<std::string_view, size_t> index;
  for (size_t i = 0; i < list.size(); ++i) index.emplace(list[i].name, i);
  return index;
}

std::vector<TensorEntry> entries_of(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  return entries;
}

std::string dtype_text(at::ScalarType dtype) {
  const auto* row = find_dtype(&DtypeNames::dtype, dtype);
  return row ? std::string(row->name) : c10::toString(dtype);
}

// `3 missing (a, b, c)`, cut after eight
std::string listed(const std::vector<std::string>& names, const char* kind) {
  constexpr size_t kShown = 8;
  std::string text = std::to_string(names.size()) + " " + kind + " (";
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += ", … " + std::to_string(names.size()) + " in all";
  return text + ")";
}

// The rows that a tensor takes over, or null where it is copied as a whole.
const std::vector<int64_t>* rows_of(const LoadOptions& options, const std::string& name) {
  const auto entry = options.rows.find(name);
  return entry == options.rows.end() ? nullptr : &entry->second;
}

bool rows_fit(const std::vector<int64_t>& rows, c10::IntArrayRef model, c10::IntArrayRef file) {
  if (model.empty() || file.empty() || model.slice(1) != file.slice(1)) return false;
  if (static_cast<int64_t>(rows.size()) != model[0]) return false;
  return std::all_of(rows.begin(), rows.end(), [&](int64_t row) { return row >= -1 && row < file[0]; });
}

LoadReport compare(const std::vector<NamedTensor>& expected, const std::vector<TensorEntry>& found,
                   const LoadOptions& options) {
  const auto in_file = index_of(found), in_model = index_of(expected);
  LoadReport report;
  for (const auto& [name, model] : expected) {
    const auto entry = in_file.find(name);
    if (entry == in_file.end()) {
      report.missing.push_back(name);
      continue;
    }
    const auto& file = found[entry->second];
    const bool converts =
        file.dtype == model.scalar_type() || (at::isFloatingType(file.dtype) && model.is_floating_point());
    const auto* rows = rows_of(options, name);
    if (!converts) {
      report.misshapen.push_back(name + ": file " + dtype_text(file.dtype) + " " + shape_text(file.shape) + ", model " +
                                 dtype_text(model.scalar_type()) + " " + shape_text(model.sizes()));
    } else if (rows ? !rows_fit(*rows, model.sizes(), file.shape) : model.sizes() != file.shape) {
      report.misshapen.push_back(name + ": file " + shape_text(file.shape) + ", model " + shape_text(model.sizes()));
    } else {
      report.loaded.push_back(name);
    }
  }
  for (const auto& entry : found) {
    if (!in_model.contains(entry.name)) report.unexpected.push_back(entry.name);
  }
  return report;
}

[[noreturn]] void refuse(const std::string& call, LoadReport report) {
  std::string message;
  const auto add = [&](const std::vector<std::string>& names, const char* kind) {
    if (!names.empty()) message += (message.empty() ? "" : ", ") + listed(names, kind);
  };
  add(report.missing, "missing");
  add(report.unexpected, "unexpected");
  add(report.misshapen, "misshapen");
  throw StateError(call + ": expected the names and shapes of the model, got " + message, std::move(report));
}

}  // namespace

LoadReport compare_names(const std::vector<NamedTensor>& expected, const std::vector<NamedTensor>& found) {
  return compare(expected, entries_of(found), {});
}

Loaded load_weights(const std::vector<NamedTensor>& destination, const std::string& path, const LoadOptions& options) {
  const auto reader = open_tensors(path, options.part);
  auto report = compare(destination, reader->tensors, options);
  if (options.partial ? report.loaded.empty() : !report.fits()) {
    refuse("loadWeights(\"" + path + "\")", std::move(report));
  }
  reader->verify();
  const c10::NoGradGuard no_grad;
  const auto in_file = index_of(reader->tensors), in_model = index_of(destination);
  for (const auto& name : report.loaded) {
    auto target = destination[in_model.at(name)].tensor;
    const auto source = reader->read(in_file.at(name));
    const auto* rows = rows_of(options, name);
    if (!rows) {
      target.copy_(source);
      continue;
    }
    for (size_t row = 0; row < rows->size(); ++row) {
      if ((*rows)[row] >= 0) target.select(0, static_cast<int64_t>(row)).copy_(source.select(0, (*rows)[row]));
    }
  }
  return {std::move(report), reader->metadata};
}

void load_into(const std::vector<NamedTensor>& destination, const TensorFile& file, const std::string& call) {
  auto report = compare_names(destination, file.tensors);
  if (!report.fits()) refuse(call, std::move(report));
  const c10::NoGradGuard no_grad;
  const auto in_file = index_of(file.tensors);
  for (const auto& [name, tensor] : destination) {
    auto target = tensor;  // another handle to the same tensor
    target.copy_(file.tensors[in_file.at(name)].tensor);
  }
}

}  // namespace trislot
