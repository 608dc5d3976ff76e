// LibTorch's host memory: counted, so that leaks show and peaks can be quoted, and kept from step to step (arena.h).
#pragma once

#include <cstdint>

namespace trislot {

struct MemoryCount {
  int64_t live_bytes, peak_bytes, live_allocations;
};

// Puts an allocator of our own in front of LibTorch's, for the whole process. To be called before the
// first tensor of any thread; further calls do nothing.
void count_cpu_memory();

MemoryCount memory_count();

// Gives the memory that no tensor uses back to the system.
void trim_cpu_memory();

// To be the first member of an object that holds much memory: trims when all other members are gone.
struct TrimsMemory {
  TrimsMemory() = default;
  TrimsMemory(const TrimsMemory&) = delete;
  TrimsMemory& operator=(const TrimsMemory&) = delete;
  ~TrimsMemory() { trim_cpu_memory(); }
};

// The next peak is counted from what is live now.
void reset_peak_memory();

}  // namespace trislot
