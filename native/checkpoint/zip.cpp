#include "checkpoint/zip.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

namespace trislot {
namespace {

constexpr uint64_t kMaxDirectory = 16 << 20;  // bytes

// Nothing is ever unpacked, but such a name has no honest use.
bool leaves_archive(std::string_view name) {
  if (name.empty() || name[0] == '/' || name.find_first_of(std::string_view("\\:\0", 3)) != std::string_view::npos) {
    return true;
  }
  for (size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return true;
    begin = end + 1;
  }
  return false;
}

struct ZipDirectory {
  uint64_t begin, size, count;
};

ZipDirectory find_directory(const InputFile& file) {
  constexpr uint64_t kEnd = 22, kLocator = 20, kEnd64 = 56;
  // The end record is the last thing in the file, but for a comment of at most 65535 bytes.
  const auto tail_size = std::min<uint64_t>(file.size(), kEnd + 65535);
  std::string tail(tail_size, '\0');
  const auto tail_begin = file.size() - tail_size;
  file.read(tail.data(), tail_size, tail_begin);
  auto at = static_cast<int64_t>(tail_size) - static_cast<int64_t>(kEnd);
  const auto ends_here = [&](int64_t i) {
    const char* record = tail.data() + i;
    return load<uint32_t>(record) == 0x06054b50 && load<uint16_t>(record + 20) == tail_size - i - kEnd;
  };
  while (at >= 0 && !ends_here(at)) --at;
  if (at < 0) file.fail("a whole zip archive", "one without an end record; the file may have been cut short");

  const char* end = tail.data() + at;
  ZipDirectory directory{load<uint32_t>(end + 16), load<uint32_t>(end + 12), load<uint16_t>(end + 10)};
  auto limit = tail_begin + static_cast<uint64_t>(at);
  if (limit >= kLocator) {
    char locator[kLocator];
    file.read(locator, kLocator, limit - kLocator);
    if (load<uint32_t>(locator) == 0x07064b50) {
      const auto position = load<uint64_t>(locator + 8);
      if (position > limit - kLocator || limit - kLocator - position < kEnd64) {
        file.fail("the zip64 end record before its locator", "byte " + std::to_string(position));
      }
      char record[kEnd64];
      file.read(record, kEnd64, position);
      if (load<uint32_t>(record) != 0x06064b50) file.fail("a zip64 end record", "other bytes");
      directory = {load<uint64_t>(record + 48), load<uint64_t>(record + 40), load<uint64_t>(record + 32)};
      limit = position;
    }
  }
  if (directory.begin > limit || directory.size > limit - directory.begin) {
    file.fail("the zip directory to lie in the file",
              std::to_string(directory.size) + " bytes at byte " + std::to_string(directory.begin));
  }
  if (directory.size > kMaxDirectory) {
    file.fail("a zip directory of at most " + std::to_string(kMaxDirectory) + " bytes", std::to_string(directory.size));
  }
  return directory;
}

}  // namespace

ZipEntries read_zip(const InputFile& file) {
  constexpr uint64_t kHeader = 46, kLocalHeader = 30;
  const auto directory = find_directory(file);
  std::string bytes(directory.size, '\0');
  file.read(bytes.data(), directory.size, directory.begin);

  ZipEntries entries;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // local header to end of data
  uint64_t at = 0;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const char* header = bytes.data() + at;
    const auto rest = directory.size - at;
    if (rest < kHeader || load<uint32_t>(header) != 0x02014b50) {
      file.fail("a zip directory of " + std::to_string(directory.count) + " entries", std::to_string(i));
    }
    const auto flags = load<uint16_t>(header + 8), method = load<uint16_t>(header + 10);
    uint64_t packed = load<uint32_t>(header + 20), size = load<uint32_t>(header + 24),
             position = load<uint32_t>(header + 42);
    const uint64_t name_size = load<uint16_t>(header + 28), extra_size = load<uint16_t>(header + 30),
                   comment_size = load<uint16_t>(header + 32);
    if (rest - kHeader < name_size + extra_size + comment_size)
      file.fail("a whole zip directory", "its end in an entry");
    const std::string name(header + kHeader, name_size);
    if (leaves_archive(name)) file.fail("names of zip entries to stay inside of the archive", show(name));

    // Zip64: the fields that are all ones stand in the extra field with id 1, in this order.
    std::string_view extra(header + kHeader + name_size, extra_size);
    while (extra.size() >= 4) {
      const auto id = load<uint16_t>(extra.data()), length = load<uint16_t>(extra.data() + 2);
      extra.remove_prefix(4);
      if (length > extra.size()) file.fail("zip entry " + show(name) + " to have a whole extra field", "a part");
      auto field = extra.substr(0, length);
      extra.remove_prefix(length);
      if (id != 1) continue;
      for (auto* value : {&size, &packed, &position}) {
        if (*value != 0xffffffff) continue;
        if (field.size() < 8) file.fail("zip entry " + show(name) + " to have its 64-bit sizes", "a part");
        *value = load<uint64_t>(field.data());
        field.remove_prefix(8);
      }
    }
    at += kHeader + name_size + extra_size + comment_size;

    if (flags & 1) file.fail("zip entry " + show(name) + " to be readable", "an encrypted one");
    if (method != 0) {
      file.fail("zip entry " + show(name) + " to be stored, as torch.save writes it",
                "a compressed one (method " + std::to_string(method) + ")");
    }
    if (packed != size) {
      file.fail("stored zip entry " + show(name) + " to have one size",
                std::to_string(packed) + " and " + std::to_string(size));
    }
    char local[kLocalHeader];
    if (position > directory.begin || directory.begin - position < kLocalHeader) {
      file.fail("zip entry " + show(name) + " to lie before the directory", "byte " + std::to_string(position));
    }
    file.read(local, kLocalHeader, position);
    const uint64_t local_name = load<uint16_t>(local + 26), local_extra = load<uint16_t>(local + 28);
    const auto begin = position + kLocalHeader + local_name + local_extra;
    if (load<uint32_t>(local) != 0x04034b50 || local_name != name_size) {
      file.fail("a local header of zip entry " + show(name) + " at byte " + std::to_string(position), "other bytes");
    }
    if (begin > directory.begin || size > directory.begin - begin) {
      file.fail("zip entry " + show(name) + " to lie before the directory",
                std::to_string(size) + " bytes at byte " + std::to_string(begin));
    }
    std::string repeated(name_size, '\0');
    file.read(repeated.data(), name_size, position + kLocalHeader);
    if (repeated != name) file.fail("zip entry " + show(name) + " to be named so in its local header", show(repeated));
    if (!entries.emplace(name, ZipEntry{begin, size, load<uint32_t>(header + 16)}).second)
      file.fail("every zip entry once", show(name) + " twice");
    ranges.emplace_back(position, begin + size);
  }
  // Entries on the same bytes would let a small file ask for much memory.
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      file.fail("zip entries that do not overlap", "two at byte " + std::to_string(ranges[i].first));
    }
  }
  return entries;
}

}  // namespace trislot
