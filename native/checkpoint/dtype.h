// The element types that files may hold, with their names in both formats.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trislot {

struct DtypeNames {
  at::ScalarType dtype;
  std::string_view safetensors, storage, name;
};

inline constexpr DtypeNames kDtypes[] = {
    {at::kDouble, "F64", "DoubleStorage", "float64"},
    {at::kFloat, "F32", "FloatStorage", "float32"},
    {at::kHalf, "F16", "HalfStorage", "float16"},
    {at::kLong, "I64", "LongStorage", "int64"},
    {at::kBFloat16, "BF16", "BFloat16Storage", "bfloat16"},
    {at::kInt, "I32", "IntStorage", "int32"},
    {at::kByte, "U8", "ByteStorage", "uint8"},
    {at::kBool, "BOOL", "BoolStorage", "bool"},
};

// The row whose `column` is `value`, or null.
template <typename Column, typename Key>
const DtypeNames* find_dtype(Column DtypeNames::*column, const Key& value) {
  for (const auto& row : kDtypes) {
    if (row.*column == value) return &row;
  }
  return nullptr;
}

inline std::string shape_text(c10::ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// More dimensions than any checkpoint has; bounds what a hostile shape costs.
inline constexpr size_t kMaxDimensions = 16;

// The bytes of a tensor, or nothing for a negative size or 2^62 bytes and more. A size of 0 does not hide the
// others: LibTorch multiplies all of them.
inline std::optional<uint64_t> byte_count(c10::ArrayRef<int64_t> shape, at::ScalarType dtype) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (const auto size : shape) {
    if (size < 0) return std::nullopt;
    empty |= size == 0;
    if (size > 0 && (__builtin_mul_overflow(bytes, size, &bytes) || bytes >= int64_t{1} << 62)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

}  // namespace trislot
