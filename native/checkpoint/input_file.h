// A file that is read at offsets, with errors that name it. Nothing that a file says of itself is believed
// unchecked.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

#include "checkpoint/tensor_file.h"

namespace trislot {

static_assert(std::endian::native == std::endian::little,
              "checkpoint files are little-endian and are read as they are");

// The length of the UTF-8 character at the start of `text`, or 0 if there is none (RFC 3629: no overlong
// forms, no surrogates).
inline size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const auto first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0 && follows(1)) return 2;
  if (first >= 0xe0 && first < 0xf0 && follows(1) && follows(2)) {
    const bool valid = first == 0xe0 ? byte(1) >= 0xa0 : first == 0xed ? byte(1) < 0xa0 : true;
    return valid ? 3 : 0;
  }
  if (first >= 0xf0 && first < 0xf5 && follows(1) && follows(2) && follows(3)) {
    const bool valid = first == 0xf0 ? byte(1) >= 0x90 : first == 0xf4 ? byte(1) < 0x90 : true;
    return valid ? 4 : 0;
  }
  return 0;
}

// Quoted for a message: one line of valid UTF-8 and some 80 characters at most, whatever the text is.
inline std::string show(std::string_view text) {
  constexpr auto kHex = "0123456789abcdef";
  std::string shown = "\"";
  for (int count = 0; !text.empty(); ++count) {
    if (count == 80) return shown + "…\"";
    const auto c = static_cast<unsigned char>(text[0]);
    const auto length = utf8_length(text);
    if (length == 0 || c < 0x20 || c == 0x7f) {
      shown += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
    } else {
      if (c == '"' || c == '\\') shown += '\\';
      shown += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return shown + "\"";
}

// A little-endian number at any address.
template <typename T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline std::string error_text(int code) { return std::generic_category().message(code); }

// For messages; refuses paths that the system would cut short.
inline std::string call_with(const std::string& call, const std::string& path) {
  if (path.find('\0') == std::string::npos) return call + "(\"" + path + "\")";
  throw FileError(call + ": expected a path without zero bytes, got " + show(path));
}

class InputFile {
 public:
  InputFile(const std::string& call, const std::string& path) : call_(call_with(call, path)) {
    // Without O_NONBLOCK a named pipe would wait here for its writer.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail("a readable file", error_text(errno));
    struct stat status;
    const bool known = ::fstat(descriptor_, &status) == 0;
    const int code = errno;
    if (!known || !S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      fail("a readable file", !known ? error_text(code) : S_ISDIR(status.st_mode) ? "a directory" : "a device or pipe");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { ::close(descriptor_); }

  uint64_t size() const { return size_; }

  // All `bytes` from `offset`, or a FileError.
  void read(void* to, uint64_t bytes, uint64_t offset) const {
    if (offset > size_ || bytes > size_ - offset) {
      fail(std::to_string(bytes) + " bytes at byte " + std::to_string(offset),
           "a file of " + std::to_string(size_) + " bytes");
    }
    auto* at = static_cast<char*>(to);
    while (bytes > 0) {
      const auto part = static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 30));
      const auto got = ::pread(descriptor_, at, part, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("to read byte " + std::to_string(offset), error_text(errno));
      if (got == 0) fail("a file that nobody changes", "its end at byte " + std::to_string(offset));
      at += got;
      offset += static_cast<uint64_t>(got);
      bytes -= static_cast<uint64_t>(got);
    }
  }

  // A new tensor straight from the file; the caller has checked that the shape's bytes are there.
  at::Tensor read_tensor(at::IntArrayRef shape, at::ScalarType dtype, uint64_t offset, std::string_view name) const {
    auto tensor = at::empty(shape, at::TensorOptions(dtype));
    const auto bytes = tensor.nbytes();
    read(tensor.mutable_data_ptr(), bytes, offset);
    if (dtype == at::kBool) {
      const auto* values = static_cast<const uint8_t*>(tensor.const_data_ptr());
      const auto* odd = std::find_if(values, values + bytes, [](uint8_t value) { return value > 1; });
      if (odd != values + bytes) fail("booleans of " + show(name) + " to be 0 or 1", std::to_string(*odd));
    }
    return tensor;
  }

  [[noreturn]] void fail(const std::string& expected, const std::string& got) const {
    throw FileError(call_ + ": expected " + expected + ", got " + got);
  }

 private:
  std::string call_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace trislot
