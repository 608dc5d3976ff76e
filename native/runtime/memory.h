// Counts what LibTorch holds in host memory, so that leaks show and peaks can be quoted.
#pragma once

#include <cstdint>

namespace trislot {

struct MemoryCount {
  int64_t live_bytes, peak_bytes, live_allocations;
};

// Puts a counting allocator in front of LibTorch's own, for the whole process. To be called before the
// first tensor of any thread; further calls do nothing.
void count_cpu_memory();

MemoryCount memory_count();

// The next peak is counted from what is live now.
void reset_peak_memory();

}  // namespace trislot
