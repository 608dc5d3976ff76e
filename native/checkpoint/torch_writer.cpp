#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/crc32.h"
#include "checkpoint/dtype.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/torch_file.h"

namespace trislot {
namespace {

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A zip archive of stored entries, with zip64 where 32 bits do not do.
class ZipWriter {
 public:
  explicit ZipWriter(const std::string& path) : file_("writeTorchFile", path) {}

  void add(const std::string& name, const void* data, uint64_t size) {
    constexpr uint64_t kAlign = 64, kLocalHeader = 30;
    const auto position = at_;
    const auto crc = crc32(0, data, size);
    const bool large = size >= kAll;
    auto extra = large ? raw<uint16_t>(1) + raw<uint16_t>(16) + raw(size) + raw(size) : "";
    // Padding is an extra field of its own, of 4 bytes at least.
    const auto unpadded = position + kLocalHeader + name.size() + extra.size() + 4;
    const auto padding = (kAlign - unpadded % kAlign) % kAlign;
    extra += "FB" + raw(static_cast<uint16_t>(padding)) + std::string(padding, 'Z');
    const auto head = raw<uint16_t>(large ? 45 : 20) + raw(kUtf8) + raw<uint16_t>(0) + raw<uint16_t>(0) + raw(kDate) +
                      raw(crc) + raw(short_of(size)) + raw(short_of(size)) + raw(static_cast<uint16_t>(name.size()));
    write(raw(0x04034b50u) + head + raw(static_cast<uint16_t>(extra.size())) + name + extra);
    file_.write(data, size);
    at_ += size;

    std::string sizes;
    if (large) sizes += raw(size) + raw(size);
    if (position >= kAll) sizes += raw(position);
    if (!sizes.empty()) sizes = raw<uint16_t>(1) + raw(static_cast<uint16_t>(sizes.size())) + sizes;
    directory_ += raw(0x02014b50u) + raw<uint16_t>(45) + head + raw(static_cast<uint16_t>(sizes.size())) +
                  std::string(10, '\0') + raw(short_of(position)) + name + sizes;
    ++count_;
  }

  void commit() {
    const auto begin = at_;
    write(directory_);
    const auto end = at_;
    write(raw(0x06064b50u) + raw<uint64_t>(44) + raw<uint16_t>(45) + raw<uint16_t>(45) + raw(0u) + raw(0u) +
          raw(count_) + raw(count_) + raw(end - begin) + raw(begin));
    write(raw(0x07064b50u) + raw(0u) + raw(end) + raw(1u));
    const auto few = static_cast<uint16_t>(std::min<uint64_t>(count_, 0xffff));
    write(raw(0x06054b50u) + raw(0u) + raw(few) + raw(few) + raw(short_of(end - begin)) + raw(short_of(begin)) +
          raw<uint16_t>(0));
    file_.commit();
  }

 private:
  static constexpr uint64_t kAll = 0xffffffff;               // stands for what is in the zip64 field
  static constexpr uint16_t kUtf8 = 0x0800, kDate = 0x0021;  // 1980-01-01

  static uint32_t short_of(uint64_t value) { return static_cast<uint32_t>(std::min(value, kAll)); }

  void write(const std::string& bytes) {
    file_.write(bytes.data(), bytes.size());
    at_ += bytes.size();
  }

  OutputFile file_;
  uint64_t at_ = 0, count_ = 0;
  std::string directory_;
};

std::string pickled_text(const std::string& text) { return "X" + raw(static_cast<uint32_t>(text.size())) + text; }

std::string pickled_number(int64_t value) {
  if (value >= 0 && value < 256) return "K" + raw(static_cast<uint8_t>(value));
  if (value >= 0 && value <= INT32_MAX) return "J" + raw(static_cast<int32_t>(value));
  return "\x8a\x08" + raw(value);
}

std::string pickled_tuple(const std::vector<int64_t>& values) {
  std::string items;
  for (const auto value : values) items += pickled_number(value);
  return "(" + items + "t";
}

const std::string kEmptyDict = "ccollections\nOrderedDict\n)R";

// What torch.save writes of a tensor whose storage holds nothing else.
std::string pickled_tensor(const TensorEntry& entry, size_t key, uint64_t bytes) {
  const auto& row = *find_dtype(&DtypeNames::dtype, entry.dtype);
  const auto count = static_cast<int64_t>(bytes / c10::elementSize(entry.dtype));
  std::vector<int64_t> strides(entry.shape.size());
  int64_t stride = 1;
  for (size_t i = strides.size(); i-- > 0; stride *= std::max<int64_t>(entry.shape[i], 1)) strides[i] = stride;
  const auto storage = "(" + pickled_text("storage") + "ctorch\n" + std::string(row.storage) + "\n" +
                       pickled_text(std::to_string(key)) + pickled_text("cpu") + pickled_number(count) + "tQ";
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pickled_number(0) + pickled_tuple(entry.shape) +
         pickled_tuple(strides) + "\x89" + kEmptyDict + "tR";
}

}  // namespace

void write_torch_file(const std::string& path, const std::vector<TensorEntry>& tensors, const TensorSource& source) {
  const auto bytes = check_entries("writeTorchFile(\"" + path + "\")", tensors);
  ZipWriter zip(path);
  std::string items;
  for (size_t i = 0; i < tensors.size(); ++i) {
    items += pickled_text(tensors[i].name) + pickled_tensor(tensors[i], i, bytes[i]);
  }
  const auto pickle = "\x80\x02" + kEmptyDict + "(" + items + "u.";
  zip.add("archive/data.pkl", pickle.data(), pickle.size());
  zip.add("archive/byteorder", "little", 6);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto tensor = source(i).detach().to(at::kCPU).contiguous();
    zip.add("archive/data/" + std::to_string(i), tensor.const_data_ptr(), tensor.nbytes());
  }
  zip.add("archive/version", "3\n", 2);
  zip.commit();
}

}  // namespace trislot
