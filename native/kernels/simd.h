// Vectors as wide as the instruction set that this file is compiled for; each kernel source is compiled once a set, in
// a namespace of its own. Only C headers here: an inline function of the standard library, compiled with AVX-512, could
// be the copy that the linker keeps for everybody.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/table.h"
#include "runtime/parallel.h"

#if defined(__AVX512BF16__)
#define TRISLOT_ISA avx512bf16
#define TRISLOT_LANES 16
#elif defined(__AVX512F__)
#define TRISLOT_ISA avx512
#define TRISLOT_LANES 16
#elif defined(__AVX2__)
#define TRISLOT_ISA avx2
#define TRISLOT_LANES 8
#else
#define TRISLOT_ISA baseline
#define TRISLOT_LANES 4
#endif

namespace trislot::TRISLOT_ISA {
namespace {

constexpr int64_t kLanes = TRISLOT_LANES;
typedef float Vec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef float UnalignedVec __attribute__((vector_size(TRISLOT_LANES * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef uint32_t WordVec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(TRISLOT_LANES * 2)));
typedef uint16_t UnalignedHalfVec __attribute__((vector_size(TRISLOT_LANES * 2), aligned(2), may_alias));

inline Vec splat(float value) { return value - Vec{}; }

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

inline Vec load(const BFloat16* p) {
  const HalfVec half = *reinterpret_cast<const UnalignedHalfVec*>(p);
  return reinterpret_cast<Vec>(__builtin_convertvector(half, WordVec) << 16);
}

// Rounds to the nearest, ties to even; what is not a number stays so.
inline void store(BFloat16* p, Vec v) {
  const WordVec word = reinterpret_cast<WordVec>(v);
  const WordVec rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const WordVec quiet = (word >> 16) | 0x40u;
  const WordVec nan = reinterpret_cast<WordVec>(v != v);
  *reinterpret_cast<UnalignedHalfVec*>(p) = __builtin_convertvector((nan & quiet) | (~nan & rounded), HalfVec);
}

// The first `count` elements, zeros behind them; count in [0, kLanes].
template <typename T>
inline Vec load_some(const T* p, int64_t count) {
  if (count >= kLanes) return load(p);
  T lanes[kLanes];
  memset(lanes, 0, sizeof lanes);
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

template <typename T>
inline void store_some(T* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
  T lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

inline float sum_of(Vec v) {
  float total = 0;
  for (int64_t i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// exp, to about one unit in the last place (Cephes' polynomial). Results below 2^-125 saturate; those above 2^127.5 are
// infinite, so that SiLU far below 0 is 0 and not a small part of x.
inline Vec exp_of(Vec x) {
  const Vec low = splat(-87.0f), high = splat(89.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = (x * 1.44269504088896341f + magic) - magic;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const IntVec exponent = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return p * reinterpret_cast<Vec>(exponent);
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp_of(-x)); }

inline int64_t rounded_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace
}  // namespace trislot::TRISLOT_ISA
