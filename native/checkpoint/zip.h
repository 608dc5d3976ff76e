// Where the entries of a zip archive lie; for archives whose entries are stored as they are.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "checkpoint/input_file.h"

namespace trislot {

struct ZipEntry {
  uint64_t begin, size;  // of the data, bytes of the file
  uint32_t crc;          // as the directory has it; 0 also where none was computed
};

using ZipEntries = std::unordered_map<std::string, ZipEntry>;

// Reads the directory, zip64 or not. Every entry is checked to be stored, not encrypted, named alike in both
// of its headers and without a way out of the archive, before the directory and apart from all others; else a
// FileError. Checksums are left to the caller.
ZipEntries read_zip(const InputFile& file);

}  // namespace trislot
