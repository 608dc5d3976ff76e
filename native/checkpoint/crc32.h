// The checksum of zip archives (ISO 3309, reflected polynomial edb88320), eight bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trislot {

// `crc` of what came before, 0 at the start.
uint32_t crc32(uint32_t crc, const void* data, size_t bytes);

}  // namespace trislot
