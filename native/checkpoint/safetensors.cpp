#include "checkpoint/safetensors.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "checkpoint/dtype.h"
#include "checkpoint/input_file.h"
#include "checkpoint/output_file.h"

namespace trislot {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr std::string_view kMetadata = "__metadata__";

void append_utf8(std::string& text, uint32_t code) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

// Reads exactly the JSON that the format allows. It follows the schema, so nesting costs no stack: a value of
// another kind is an error where it starts.
class HeaderParser {
 public:
  HeaderParser(const InputFile& file, std::string_view text) : file_(file), text_(text) {}

  void parse(SafetensorsHeader& header) {
    std::unordered_set<std::string> names;
    members([&](std::string name) {
      if (!names.insert(name).second) file_.fail("every name once", show(name) + " twice");
      if (name == kMetadata) {
        parse_metadata(header.metadata);
      } else {
        header.tensors.push_back(parse_tensor(std::move(name)));
      }
    });
    skip_space();
    if (at_ < text_.size()) file_.fail("the header to end after its object", here());
  }

 private:
  void parse_metadata(std::map<std::string, std::string>& metadata) {
    members([&](const std::string& key) {
      skip_space();
      if (peek() != '"') file_.fail("metadata " + show(key) + " to be a string", here());
      if (!metadata.emplace(key, string()).second) file_.fail("every metadata key once", show(key) + " twice");
    });
  }

  TensorInfo parse_tensor(std::string name) {
    TensorInfo info{std::move(name), at::kFloat, {}, 0, 0};
    const auto of = [&](const char* what) { return what + (" of " + show(info.name)); };
    bool dtype = false, shape = false, offsets = false;
    const auto once = [&](bool& seen, const std::string& key) {
      if (seen) file_.fail("every key of " + show(info.name) + " once", show(key) + " twice");
      seen = true;
    };
    members([&](const std::string& key) {
      if (key == "dtype") {
        once(dtype, key);
        const auto text = string();
        const auto* row = find_dtype(&DtypeNames::safetensors, text);
        if (!row) file_.fail(of("dtype") + " to be F64, F32, F16, BF16, I64, I32, U8 or BOOL", show(text));
        info.dtype = row->dtype;
      } else if (key == "shape") {
        once(shape, key);
        info.shape = integers(of("shape"), kMaxDimensions);
      } else if (key == "data_offsets") {
        once(offsets, key);
        const auto range = integers(of("data_offsets"), 2);
        if (range.size() != 2) file_.fail(of("data_offsets") + " to be [begin, end]", shape_text(range));
        info.begin = static_cast<uint64_t>(range[0]);
        info.end = static_cast<uint64_t>(range[1]);
      } else {
        file_.fail("keys of " + show(info.name) + " to be dtype, shape and data_offsets", show(key));
      }
    });
    if (!dtype || !shape || !offsets) {
      file_.fail(show(info.name) + " to have dtype, shape and data_offsets",
                 std::string("no ") + (!dtype   ? "dtype"
                                       : !shape ? "shape"
                                                : "data_offsets"));
    }
    return info;
  }

  // An object; `member` is called with each key and reads the value.
  template <typename Member>
  void members(Member member) {
    expect('{');
    skip_space();
    if (peek() == '}') return expect('}');
    while (true) {
      auto key = string();
      expect(':');
      member(std::move(key));
      skip_space();
      if (peek() != ',') return expect('}');
      expect(',');
    }
  }

  std::vector<int64_t> integers(const std::string& what, size_t max_count) {
    std::vector<int64_t> values;
    expect('[');
    skip_space();
    if (peek() == ']') return expect(']'), values;
    while (true) {
      if (values.size() == max_count)
        file_.fail(what + " to have at most " + std::to_string(max_count) + " items", "more");
      skip_space();
      const auto begin = at_;
      int64_t value = 0;
      for (; peek() >= '0' && peek() <= '9'; ++at_) {
        if (__builtin_mul_overflow(value, int64_t{10}, &value) || __builtin_add_overflow(value, peek() - '0', &value)) {
          file_.fail(what + " to hold numbers below 2^63", show(text_.substr(begin, 24)));
        }
      }
      const bool leading_zero = at_ - begin > 1 && text_[begin] == '0';
      if (leading_zero) at_ = begin;
      if (at_ == begin) file_.fail(what + " to hold whole numbers from 0", here());
      values.push_back(value);
      skip_space();
      if (peek() != ',') return expect(']'), values;
      expect(',');
    }
  }

  std::string string() {
    expect('"');
    std::string value;
    while (true) {
      if (at_ == text_.size()) file_.fail("'\"' at the end of a string", "the end of the header");
      const char c = text_[at_];
      if (c == '"') return ++at_, value;
      if (c == '\\') {
        ++at_;
        escape(value);
      } else {
        const auto length = utf8_length(text_.substr(at_));
        if (length == 0) file_.fail("the header to be UTF-8", here());
        if (static_cast<unsigned char>(c) < 0x20) file_.fail("no control character in a string", here());
        value += text_.substr(at_, length);
        at_ += length;
      }
    }
  }

  void escape(std::string& value) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    const auto known = kNames.find(peek());
    if (peek() != '\0' && known != std::string_view::npos) {
      ++at_;
      value += kValues[known];
      return;
    }
    uint32_t code = code_unit();
    if (code >= 0xd800 && code < 0xdc00 && peek() == '\\') {
      ++at_;
      const auto low = code_unit();
      code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xd800;
    }
    if (code >= 0xd800 && code < 0xe000) file_.fail("surrogates to be escaped in pairs", "half of one");
    append_utf8(value, code);
  }

  uint32_t code_unit() {
    if (peek() != 'u') file_.fail("an escape that JSON has", here());
    ++at_;
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) file_.fail("four hexadecimal digits after \\u", here());
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    return code;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r') ++at_;
  }

  void expect(char c) {
    skip_space();
    if (peek() != c || at_ == text_.size()) file_.fail(std::string("'") + c + "' in the header", here());
    ++at_;
  }

  std::string here() const {
    if (at_ == text_.size()) return "the end of the header";
    return show(text_.substr(at_, std::max<size_t>(utf8_length(text_.substr(at_)), 1))) + " at byte " +
           std::to_string(8 + at_);
  }

  const InputFile& file_;
  std::string_view text_;
  size_t at_ = 0;
};

// The tensors cover the data exactly: none shares a byte with another and no byte is left over.
void check_ranges(const InputFile& file, const SafetensorsHeader& header) {
  const auto data_size = file.size() - header.data_begin;
  std::vector<const TensorInfo*> order;
  for (const auto& info : header.tensors) {
    const auto range = "[" + std::to_string(info.begin) + ", " + std::to_string(info.end) + "]";
    if (info.begin > info.end) file.fail("data_offsets of " + show(info.name) + " to be in order", range);
    if (info.end > data_size) {
      file.fail("data_offsets of " + show(info.name) + " to lie in the " + std::to_string(data_size) + " bytes of data",
                range);
    }
    const auto bytes = byte_count(info.shape, info.dtype);
    if (!bytes) file.fail("the shape of " + show(info.name) + " to be possible", shape_text(info.shape));
    if (*bytes != info.end - info.begin) {
      file.fail(show(info.name) + " to take " + std::to_string(*bytes) + " bytes (" +
                    std::string(find_dtype(&DtypeNames::dtype, info.dtype)->safetensors) + " " +
                    shape_text(info.shape) + ")",
                std::to_string(info.end - info.begin));
    }
    order.push_back(&info);
  }
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t end = 0;
  for (const auto* info : order) {
    if (info->begin != end) {
      file.fail(show(info->name) + " to begin at byte " + std::to_string(end) + " of the data",
                std::to_string(info->begin) + (info->begin < end ? ", an overlap" : ", a hole"));
    }
    end = info->end;
  }
  if (end != data_size) {
    file.fail("the file to end after the " + std::to_string(end) + " bytes of its tensors",
              std::to_string(data_size - end) + " bytes more");
  }
}

SafetensorsHeader read_header(const InputFile& file) {
  if (file.size() < 8) file.fail("a file of at least 8 bytes", std::to_string(file.size()));
  uint64_t length = 0;
  file.read(&length, 8, 0);
  if (length > kMaxHeader) {
    file.fail("a header of at most " + std::to_string(kMaxHeader) + " bytes (is this a safetensors file?)",
              std::to_string(length));
  }
  if (length > file.size() - 8) {
    file.fail("the header to end in the file",
              std::to_string(length) + " bytes of header in a file of " + std::to_string(file.size()));
  }
  std::string text(length, '\0');
  file.read(text.data(), length, 8);
  if (text.empty() || text[0] != '{') {
    file.fail("the header to start with '{'", text.empty() ? "an empty header" : show(text.substr(0, 1)));
  }
  SafetensorsHeader header;
  header.data_begin = 8 + length;
  HeaderParser(file, text).parse(header);
  check_ranges(file, header);
  return header;
}

std::string quote(const std::string& text) {
  std::string quoted = "\"";
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c >= 0x20) {
      quoted += static_cast<char>(c);
    } else {
      constexpr auto kHex = "0123456789abcdef";
      quoted += {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
    }
  }
  return quoted + "\"";
}

void check_text(const std::string& call, const std::string& text, const char* what) {
  for (std::string_view rest = text; !rest.empty();) {
    const auto length = utf8_length(rest);
    if (length == 0) throw FileError(call + ": expected " + what + " to be UTF-8, got " + show(text));
    rest.remove_prefix(length);
  }
}

std::string make_header(const std::string& call, const std::vector<TensorEntry>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  const auto bytes = check_entries(call, tensors);
  std::string header = "{";
  if (!metadata.empty()) {
    header += quote(std::string(kMetadata)) + ":{";
    for (const auto& [key, value] : metadata) {
      check_text(call, key, "metadata keys"), check_text(call, value, "metadata values");
      header += (header.back() == '{' ? "" : ",") + quote(key) + ":" + quote(value);
    }
    header += "}";
  }
  uint64_t begin = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, dtype, sizes] = tensors[i];
    const auto end = begin + bytes[i];
    std::string shape;
    for (const auto size : sizes) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    header += (header.size() == 1 ? "" : ",") + quote(name) + ":{\"dtype\":\"" +
              std::string(find_dtype(&DtypeNames::dtype, dtype)->safetensors) + "\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
    begin = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeader) {
    throw FileError(call + ": expected a header of at most " + std::to_string(kMaxHeader) + " bytes, got " +
                    std::to_string(header.size()));
  }
  return header;
}

class SafetensorsReader final : public TensorReader {
 public:
  explicit SafetensorsReader(const std::string& path) : file_("readSafetensors", path), header_(read_header(file_)) {
    format = "safetensors";
    metadata = header_.metadata;
    for (const auto& info : header_.tensors) tensors.push_back({info.name, info.dtype, info.shape});
  }

  at::Tensor read(size_t index) const override {
    const auto& info = header_.tensors[index];
    return file_.read_tensor(info.shape, info.dtype, header_.data_begin + info.begin, info.name);
  }

 private:
  InputFile file_;
  SafetensorsHeader header_;
};

}  // namespace

std::vector<uint64_t> check_entries(const std::string& call, const std::vector<TensorEntry>& tensors) {
  const auto fail = [&](const std::string& expected, const std::string& got) {
    throw FileError(call + ": expected " + expected + ", got " + got);
  };
  std::unordered_set<std::string> names{std::string(kMetadata)};
  std::vector<uint64_t> bytes;
  for (const auto& [name, dtype, shape] : tensors) {
    check_text(call, name, "names");
    if (!names.insert(name).second) {
      fail(name == kMetadata ? "a name that the format leaves free" : "every name once", show(name));
    }
    if (!find_dtype(&DtypeNames::dtype, dtype)) {
      fail(show(name) + " to be float64, float32, float16, bfloat16, int64, int32, uint8 or bool",
           c10::toString(dtype));
    }
    if (shape.size() > kMaxDimensions) {
      fail(show(name) + " to have at most " + std::to_string(kMaxDimensions) + " dimensions",
           std::to_string(shape.size()));
    }
    bytes.push_back(*byte_count(shape, dtype));
  }
  return bytes;
}

SafetensorsHeader inspect_safetensors(const std::string& path) {
  return read_header(InputFile("inspectSafetensors", path));
}

std::unique_ptr<TensorReader> open_safetensors(const std::string& path) {
  return std::make_unique<SafetensorsReader>(path);
}

TensorFile read_safetensors(const std::string& path) { return read_all(*open_safetensors(path)); }

void write_safetensors(const std::string& path, const std::vector<TensorEntry>& tensors, const TensorSource& source,
                       const std::map<std::string, std::string>& metadata) {
  const auto header = make_header("writeSafetensors(\"" + path + "\")", tensors, metadata);
  OutputFile file("writeSafetensors", path);
  const uint64_t length = header.size();
  file.write(&length, 8);
  file.write(header.data(), length);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto tensor = source(i).detach().to(at::kCPU).contiguous();
    file.write(tensor.const_data_ptr(), tensor.nbytes());
  }
  file.commit();
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined()) {
      throw FileError("writeSafetensors(\"" + path + "\"): expected " + show(name) +
                      " to be a tensor, got an undefined one");
    }
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  write_safetensors(
      path, entries, [&](size_t i) { return tensors[i].tensor; }, metadata);
}

}  // namespace trislot
