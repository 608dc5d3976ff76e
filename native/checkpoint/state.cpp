#include "checkpoint/state.h"

#include <c10/core/GradMode.h>

#include <string_view>
#include <unordered_map>

#include "checkpoint/dtype.h"

namespace trislot {
namespace {

using ByName = std::unordered_map<std::string_view, const at::Tensor*>;

ByName by_name(const std::vector<NamedTensor>& tensors) {
  ByName index;
  for (const auto& [name, tensor] : tensors) index.emplace(name, &tensor);
  return index;
}

std::string dtype_text(const at::Tensor& tensor) {
  const auto* row = find_dtype(&DtypeNames::dtype, tensor.scalar_type());
  return row ? std::string(row->name) : c10::toString(tensor.scalar_type());
}

// `3 missing (a, b, c)`, cut after eight
std::string listed(const std::vector<std::string>& names, const char* kind) {
  constexpr size_t kShown = 8;
  std::string text = std::to_string(names.size()) + " " + kind + " (";
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += ", … " + std::to_string(names.size()) + " in all";
  return text + ")";
}

}  // namespace

LoadReport compare_names(const std::vector<NamedTensor>& expected, const std::vector<NamedTensor>& found) {
  const auto in_file = by_name(found), in_model = by_name(expected);
  LoadReport report;
  for (const auto& [name, model] : expected) {
    const auto entry = in_file.find(name);
    if (entry == in_file.end()) {
      report.missing.push_back(name);
      continue;
    }
    const auto& file = *entry->second;
    const bool converts =
        file.scalar_type() == model.scalar_type() || (file.is_floating_point() && model.is_floating_point());
    if (!converts) {
      report.misshapen.push_back(name + ": file " + dtype_text(file) + " " + shape_text(file.sizes()) + ", model " +
                                 dtype_text(model) + " " + shape_text(model.sizes()));
    } else if (file.sizes() != model.sizes()) {
      report.misshapen.push_back(name + ": file " + shape_text(file.sizes()) + ", model " + shape_text(model.sizes()));
    }
  }
  for (const auto& [name, tensor] : found) {
    if (!in_model.contains(name)) report.unexpected.push_back(name);
  }
  return report;
}

void load_into(const std::vector<NamedTensor>& destination, const TensorFile& file, const std::string& call) {
  auto report = compare_names(destination, file.tensors);
  if (!report.fits()) {
    std::string message;
    const auto add = [&](const std::vector<std::string>& names, const char* kind) {
      if (!names.empty()) message += (message.empty() ? "" : ", ") + listed(names, kind);
    };
    add(report.missing, "missing");
    add(report.unexpected, "unexpected");
    add(report.misshapen, "misshapen");
    throw StateError(call + ": expected the names and shapes of the model, got " + message, std::move(report));
  }
  const c10::NoGradGuard no_grad;
  const auto in_file = by_name(file.tensors);
  for (const auto& [name, tensor] : destination) {
    auto target = tensor;  // another handle to the same tensor
    target.copy_(*in_file.at(name));
  }
}

}  // namespace trislot
