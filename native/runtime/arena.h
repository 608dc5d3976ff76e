// Large blocks of host memory, kept for the next step instead of given back to the system: a training step frees and
// asks for the same hundreds of megabytes again, and fetching fresh pages for them costs as much as a tenth of the
// step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace trislot {

class Arena {
 public:
  // At least `size` bytes at a multiple of 64, or null where the system has none. Best fit, lowest address first.
  void* allocate(size_t size);

  // Gives a block back and returns its size; 0 for a pointer that is not of this arena.
  size_t release(void* pointer);

  // Bytes of the block at `pointer`; 0 for a pointer that is not of this arena.
  size_t size_of(void* pointer);

  // Gives unused memory back to the system.
  void trim();

 private:
  struct Block {
    size_t size;
    bool used;
    bool begins_segment;
  };
  using Blocks = std::map<char*, Block>;

  bool grow(size_t size);
  size_t free_bytes() const;
  void give_back();
  void insert_free(Blocks::iterator block);
  void erase_free(Blocks::iterator block);

  std::mutex mutex_;
  Blocks blocks_;  // all blocks of all segments, by address
  std::set<std::pair<size_t, char*>> free_;
};

}  // namespace trislot
