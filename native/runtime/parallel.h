// Loops over LibTorch's own threads. LibTorch's parallel_for is a template that needs the compiler's OpenMP, whose
// run-time library may be another one than LibTorch's (clang's always is), and two of them fight for the cores. So the
// library that LibTorch has loaded is called by its functions, whatever the compiler; where it is another one, loops
// are serial. C headers only, see kernels/simd.h.
#pragma once

#include <stdint.h>

extern "C" {
__attribute__((weak)) void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
__attribute__((weak)) int omp_get_num_threads();
__attribute__((weak)) int omp_get_thread_num();
__attribute__((weak)) int omp_in_parallel();
}

namespace trislot {
namespace {

// Runs body(begin, end, thread) over parts of [0, count) until all is done; a thread that is free takes the next part,
// of about an eighth of its fair share, so that a core that is slowed down by others holds nobody up. What is computed
// for an index must not depend on the part that it is in. The body must not throw.
template <typename Body>
void in_parallel(int64_t count, const Body& body) {
  if (count > 1 && GOMP_parallel != nullptr && omp_in_parallel() == 0) {
    struct Work {
      int64_t count, next;
      const Body& body;
    } work{count, 0, body};
    const auto run = [](void* data) {
      auto& work = *static_cast<Work*>(data);
      const int64_t share = work.count / (8 * omp_get_num_threads()), part = share > 1 ? share : 1;
      const int64_t thread = omp_get_thread_num();
      while (true) {
        const int64_t begin = __atomic_fetch_add(&work.next, part, __ATOMIC_RELAXED);
        if (begin >= work.count) return;
        work.body(begin, begin + part < work.count ? begin + part : work.count, thread);
      }
    };
    GOMP_parallel(run, &work, /*threads=*/0, /*flags=*/0);
  } else if (count > 0) {
    body(int64_t{0}, count, int64_t{0});
  }
}

}  // namespace
}  // namespace trislot
