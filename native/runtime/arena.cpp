#include "runtime/arena.h"

#ifndef _WIN32
#include <sys/mman.h>
#endif

#include <iterator>

namespace trislot {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSegment = size_t{32} << 20;
constexpr size_t kSmallestRest = size_t{64} << 10;  // a smaller rest stays with its block

size_t rounded_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

void Arena::insert_free(Blocks::iterator block) { free_.emplace(block->second.size, block->first); }
void Arena::erase_free(Blocks::iterator block) { free_.erase({block->second.size, block->first}); }

bool Arena::grow(size_t size) {
#ifdef _WIN32
  return false;
#else
  size = rounded_up(size, kHugePage);
  if (size < kSegment) size = kSegment;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
#ifdef MADV_HUGEPAGE
  madvise(memory, size, MADV_HUGEPAGE);
#endif
  insert_free(blocks_.emplace(static_cast<char*>(memory), Block{size, false, true}).first);
  return true;
#endif
}

void* Arena::allocate(size_t size) {
  size = rounded_up(size, kAlignment);
  const std::lock_guard lock(mutex_);
  auto fit = free_.lower_bound({size, nullptr});
  if (fit == free_.end()) {
    // What lies free in pieces that do not fit is given back before more is taken.
    if (free_bytes() >= size) give_back();
    if (!grow(size)) {
      give_back();
      if (!grow(size)) return nullptr;
    }
    fit = free_.lower_bound({size, nullptr});
  }
  const auto block = blocks_.find(fit->second);
  free_.erase(fit);
  const size_t rest = block->second.size - size;
  if (rest >= kSmallestRest) {
    block->second.size = size;
    insert_free(blocks_.emplace_hint(std::next(block), block->first + size, Block{rest, false, false}));
  }
  block->second.used = true;
  return block->first;
}

size_t Arena::release(void* pointer) {
  const std::lock_guard lock(mutex_);
  auto block = blocks_.find(static_cast<char*>(pointer));
  if (block == blocks_.end()) return 0;
  const size_t size = block->second.size;
  block->second.used = false;
  // Neighbours of one segment become one block again.
  const auto next = std::next(block);
  if (next != blocks_.end() && !next->second.used && !next->second.begins_segment) {
    erase_free(next);
    block->second.size += next->second.size;
    blocks_.erase(next);
  }
  if (!block->second.begins_segment) {
    const auto previous = std::prev(block);
    if (!previous->second.used) {
      erase_free(previous);
      previous->second.size += block->second.size;
      blocks_.erase(block);
      block = previous;
    }
  }
  insert_free(block);
  return size;
}

size_t Arena::size_of(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<char*>(pointer));
  return block == blocks_.end() ? 0 : block->second.size;
}

size_t Arena::free_bytes() const {
  size_t sum = 0;
  for (const auto& [size, block] : free_) sum += size;
  return sum;
}

void Arena::trim() {
  const std::lock_guard lock(mutex_);
  give_back();
}

// Segments without a used block; the lock is held.
void Arena::give_back() {
#ifndef _WIN32
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto next = std::next(block);
    const bool whole =
        !block->second.used && block->second.begins_segment && (next == blocks_.end() || next->second.begins_segment);
    if (whole) {
      erase_free(block);
      munmap(block->first, block->second.size);
      blocks_.erase(block);
    }
    block = next;
  }
#endif
}

}  // namespace trislot
