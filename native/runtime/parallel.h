// Loops over LibTorch's own threads. LibTorch's parallel_for is a template that needs the compiler's OpenMP, whose run-time
// library may be another one than LibTorch's (clang's always is), and two of them fight for the cores. So the library that
// LibTorch has loaded is called by its functions, whatever the compiler; where it is another one, loops are serial.
// C headers only, see kernels/simd.h.
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

// Runs body(begin, end, thread) over [0, count) cut into one part a thread; the cut depends on the two numbers only. The
// body must not throw.
template <typename Body>
void in_parallel(int64_t count, const Body& body) {
  if (count > 1 && GOMP_parallel != nullptr && omp_in_parallel() == 0) {
    struct Work {
      int64_t count;
      const Body& body;
    } work{count, body};
    const auto run = [](void* data) {
      const auto& work = *static_cast<const Work*>(data);
      const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
      const int64_t begin = work.count * thread / threads, end = work.count * (thread + 1) / threads;
      if (begin < end) work.body(begin, end, thread);
    };
    GOMP_parallel(run, &work, /*threads=*/0, /*flags=*/0);
  } else if (count > 0) {
    body(int64_t{0}, count, int64_t{0});
  }
}

}  // namespace
}  // namespace trislot
