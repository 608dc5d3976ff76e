#include "runtime/memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>

#include "runtime/arena.h"

#if defined(__GLIBC__)
#include <malloc.h>
#elif defined(__APPLE__)
#include <malloc/malloc.h>
#endif

namespace trislot {
namespace {

std::atomic<int64_t> live_bytes{0}, peak_bytes{0}, live_allocations{0};

constexpr size_t kLarge = size_t{32} << 10;  // blocks from this size on come from the arena

// Never freed: tensors may outlive everything else at exit.
Arena& arena() {
  static Arena* const instance = new Arena;
  return *instance;
}

// LibTorch frees by the pointer alone, so the size of a small block is asked of the C library.
int64_t small_size(void* pointer) {
#if defined(__GLIBC__)
  return static_cast<int64_t>(malloc_usable_size(pointer));
#elif defined(__APPLE__)
  return static_cast<int64_t>(malloc_size(pointer));
#else
  return 0;
#endif
}

void release(void* pointer) {
  if (pointer == nullptr) return;
  --live_allocations;
  if (const auto size = arena().release(pointer); size > 0) {
    live_bytes -= static_cast<int64_t>(size);
    return;
  }
  live_bytes -= small_size(pointer);
  c10::free_cpu(pointer);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* pointer = size >= kLarge ? arena().allocate(size) : nullptr;
    const bool large = pointer != nullptr;
    if (!large) pointer = c10::alloc_cpu(size);
    if (pointer != nullptr) {
      const auto now = live_bytes += large ? static_cast<int64_t>(arena().size_of(pointer)) : small_size(pointer);
      auto peak = peak_bytes.load();
      while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
      }
      ++live_allocations;
    }
    return {pointer, pointer, &release, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* destination, const void* source, size_t count) const override {
    default_copy_data(destination, source, count);
  }
};

}  // namespace

void count_cpu_memory() {
  static const bool counts = [] {
    c10::SetCPUAllocator(new CountingAllocator, /*priority=*/255);
    return true;
  }();
  static_cast<void>(counts);
}

MemoryCount memory_count() { return {live_bytes.load(), peak_bytes.load(), live_allocations.load()}; }

void trim_cpu_memory() { arena().trim(); }

void reset_peak_memory() { peak_bytes = live_bytes.load(); }

}  // namespace trislot
