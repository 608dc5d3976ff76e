// Vectors as wide as the instruction set that this file is compiled for; each kernel source is compiled once a set, in
// a namespace of its own. Only C headers here: an inline function of the standard library, compiled with AVX-512, could
// be the copy that the linker keeps for everybody.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

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

// For what is called in inner loops, where the compiler would otherwise find a function too long.
#define TRISLOT_INLINE inline __attribute__((always_inline))

namespace trislot::TRISLOT_ISA {
namespace {

constexpr int64_t kLanes = TRISLOT_LANES;
typedef float Vec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef float UnalignedVec __attribute__((vector_size(TRISLOT_LANES * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef uint32_t WordVec __attribute__((vector_size(TRISLOT_LANES * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(TRISLOT_LANES * 2)));
typedef uint16_t UnalignedHalfVec __attribute__((vector_size(TRISLOT_LANES * 2), aligned(2), may_alias));

template <int... numbers>
struct Sequence {};
#if TRISLOT_LANES == 16
typedef Sequence<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15> Lanes;
#elif TRISLOT_LANES == 8
typedef Sequence<0, 1, 2, 3, 4, 5, 6, 7> Lanes;
#else
typedef Sequence<0, 1, 2, 3> Lanes;
#endif

inline Vec splat(float value) { return value - Vec{}; }

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

inline Vec widened(HalfVec half) { return reinterpret_cast<Vec>(__builtin_convertvector(half, WordVec) << 16); }
inline Vec load(const BFloat16* p) { return widened(*reinterpret_cast<const UnalignedHalfVec*>(p)); }

// To the nearest bfloat16, ties to even; what is not a number stays so.
inline HalfVec rounded(Vec v) {
#ifdef __AVX512BF16__
  return (HalfVec)_mm512_cvtneps_pbh((__m512)v);
#else
  const WordVec word = reinterpret_cast<WordVec>(v);
  const WordVec nearest = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const WordVec quiet = (word >> 16) | 0x40u;
  const WordVec nan = reinterpret_cast<WordVec>(v != v);
  return __builtin_convertvector((nan & quiet) | (~nan & nearest), HalfVec);
#endif
}
inline void store(BFloat16* p, Vec v) { *reinterpret_cast<UnalignedHalfVec*>(p) = rounded(v); }

// The first `count` elements, zeros behind them; count in [0, kLanes].
#if TRISLOT_LANES == 16
inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }

inline Vec load_some(const float* p, int64_t count) {
  return count >= kLanes ? load(p) : (Vec)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
inline Vec load_some(const BFloat16* p, int64_t count) {
  return count >= kLanes ? load(p) : widened((HalfVec)_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
inline void store_some(float* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
  _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v);
}
inline void store_some(BFloat16* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
  _mm256_mask_storeu_epi16(p, first_lanes(count), (__m256i)rounded(v));
}
#else
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
#endif

// From two rows that are `step` apart, the blocks of `step` lanes that belong to the first or, `upper`, to the second
// of them once rows are columns.
template <int step, bool upper, int... lanes>
TRISLOT_INLINE Vec blocks_of(Vec a, Vec b, Sequence<lanes...>) {
  return Vec{((lanes & step) == 0 ? a : b)[upper ? lanes | step : lanes & ~step]...};
}

// Rows become columns.
template <int step = 1>
TRISLOT_INLINE void transpose(Vec (&square)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    if ((i & step) != 0) continue;
    const Vec a = square[i], b = square[i + step];
    square[i] = blocks_of<step, false>(a, b, Lanes{});
    square[i + step] = blocks_of<step, true>(a, b, Lanes{});
  }
  if constexpr (2 * step < kLanes) transpose<2 * step>(square);
}

template <int step, int... lanes>
TRISLOT_INLINE Vec swapped(Vec v, Sequence<lanes...>) {
  return Vec{v[lanes ^ step]...};
}

template <int step = kLanes / 2>
TRISLOT_INLINE float sum_of(Vec v) {
  v += swapped<step>(v, Lanes{});
  if constexpr (step > 1) return sum_of<step / 2>(v);
  return v[0];
}

template <int step = kLanes / 2>
TRISLOT_INLINE float largest_of(Vec v) {
  const Vec other = swapped<step>(v, Lanes{});
  v = other > v ? other : v;
  if constexpr (step > 1) return largest_of<step / 2>(v);
  return v[0];
}

// The first `count` lanes of v, and `other` behind them.
template <int... lanes>
TRISLOT_INLINE Vec filled_up(Vec v, int64_t count, float other, Sequence<lanes...>) {
  return IntVec{lanes...} < static_cast<int32_t>(count) ? v : splat(other);
}

// exp, to about one unit in the last place (Cephes' polynomial). Results below 2^-125 saturate; those above 2^127.5 are
// infinite, so that SiLU far below 0 is 0 and not a small part of x.
TRISLOT_INLINE Vec exp_of(Vec x) {
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

// exp for results that T can tell apart.
template <typename T>
TRISLOT_INLINE Vec exp_to(Vec x) {
  return exp_of(x);
}
#if TRISLOT_LANES == 16
// To 3e-6, a thousandth of what rounding to bfloat16 takes: 2 to the fraction of x / ln 2 by the polynomial of degree 4
// with the smallest relative error (bench/reference/exp_error.py), times 2 to the integer below.
template <>
TRISLOT_INLINE Vec exp_to<BFloat16>(Vec x) {
  constexpr int kAboveFloor = 9;      // of the instruction: what is above the integer below, without exceptions
  constexpr __mmask16 kAll = 0xffff;  // GCC warns of the forms without a mask
  const __m512 y = (__m512)(x * 1.44269504088896341f);
  const Vec f = (Vec)_mm512_maskz_reduce_ps(kAll, y, kAboveFloor);
  Vec p = splat(1.34266831e-2f);
  p = p * f + 5.22424762e-2f;
  p = p * f + 2.41280204e-1f;
  p = p * f + 6.93044845e-1f;
  p = p * f + 1.0f;
  return (Vec)_mm512_maskz_scalef_ps(kAll, (__m512)p, y);
}
#endif

template <typename T>
TRISLOT_INLINE Vec sigmoid(Vec x) {
  return 1.0f / (1.0f + exp_to<T>(-x));
}

inline int64_t rounded_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace
}  // namespace trislot::TRISLOT_ISA
