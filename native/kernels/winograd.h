// The transforms of Winograd's F(4x4, 3x3) convolution (Lavin and Gray, arXiv 1509.09308) for any pair of points +-a,
// +-b beside 0 and infinity: y = A^T [(G w G^T) * (B^T x B)] A, and the adjoint of each, which the gradients need.
//
// a = 3/4, b = 3/2 instead of the usual 1 and 2: every coefficient below is still exact in float32, and the rounding
// error is half as large, 1.5 times that of a direct convolution (bench/reference/winograd_error.py).
#pragma once

#include "kernels/simd.h"

namespace trislot::TRISLOT_ISA {
namespace {

constexpr float kA = 0.75f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;
constexpr float kProduct = kA2 * kB2, kSum = kA2 + kB2;
constexpr int kTile = 4, kWindow = 6, kPoints = kWindow * kWindow;

// out = B^T in: a window of 6 input values.
TRISLOT_INLINE void input_1d(const Vec in[6], Vec out[6]) {
  out[0] = kProduct * in[0] - kSum * in[2] + in[4];
  const Vec even_a = in[4] - kB2 * in[2], odd_a = kA * (in[3] - kB2 * in[1]);
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  const Vec even_b = in[4] - kA2 * in[2], odd_b = kB * (in[3] - kA2 * in[1]);
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = kProduct * in[1] - kSum * in[3] + in[5];
}

// out = A^T in: 6 points give 4 output values.
TRISLOT_INLINE void output_1d(const Vec in[6], Vec out[4]) {
  const Vec sum_a = in[1] + in[2], difference_a = in[1] - in[2];
  const Vec sum_b = in[3] + in[4], difference_b = in[3] - in[4];
  out[0] = in[0] + sum_a + sum_b;
  out[1] = kA * difference_a + kB * difference_b;
  out[2] = kA2 * sum_a + kB2 * sum_b;
  out[3] = kA3 * difference_a + kB3 * difference_b + in[5];
}

// out = A in: the adjoint of output_1d.
TRISLOT_INLINE void output_adjoint_1d(const Vec in[4], Vec out[6]) {
  out[0] = in[0];
  const Vec even_a = in[0] + kA2 * in[2], odd_a = kA * in[1] + kA3 * in[3];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  const Vec even_b = in[0] + kB2 * in[2], odd_b = kB * in[1] + kB3 * in[3];
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = in[3];
}

constexpr float kScale0 = 1 / kProduct;
constexpr float kScaleA = 1 / (2 * kA2 * (kA2 - kB2));
constexpr float kScaleB = 1 / (2 * kB2 * (kB2 - kA2));

// out = G in: 3 weights at 6 points.
TRISLOT_INLINE void weight_1d(const Vec in[3], Vec out[6]) {
  out[0] = kScale0 * in[0];
  const Vec even_a = kScaleA * (in[0] + kA2 * in[2]), odd_a = kScaleA * kA * in[1];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  const Vec even_b = kScaleB * (in[0] + kB2 * in[2]), odd_b = kScaleB * kB * in[1];
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = in[2];
}

// out = G^T in: the adjoint of weight_1d.
TRISLOT_INLINE void weight_adjoint_1d(const Vec in[6], Vec out[3]) {
  const Vec sum_a = kScaleA * (in[1] + in[2]), difference_a = kScaleA * (in[1] - in[2]);
  const Vec sum_b = kScaleB * (in[3] + in[4]), difference_b = kScaleB * (in[3] - in[4]);
  out[0] = kScale0 * in[0] + sum_a + sum_b;
  out[1] = kA * difference_a + kB * difference_b;
  out[2] = kA2 * sum_a + kB2 * sum_b + in[5];
}

// Applies a transform of `from` values to `to` values to the columns, then to the rows, of a from x from square.
template <int from, int to, typename Transform>
TRISLOT_INLINE void transform_2d(const Vec (&in)[from][from], Vec (&out)[to][to], const Transform& transform) {
  Vec half[to][from];
  for (int j = 0; j < from; ++j) {
    Vec column[from], result[to];
    for (int i = 0; i < from; ++i) column[i] = in[i][j];
    transform(column, result);
    for (int i = 0; i < to; ++i) half[i][j] = result[i];
  }
  for (int i = 0; i < to; ++i) transform(half[i], out[i]);
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
