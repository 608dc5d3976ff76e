// The register block of every matrix product here: a few rows of A times one packed panel of B.
#pragma once

#include "kernels/simd.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace trislot::TRISLOT_ISA {
namespace {

// Columns of a panel are two vectors; rows of a block are as many as leave registers for the panel's row.
constexpr int64_t kPanel = 2 * kLanes;
constexpr int kBlockRows = kLanes == 16 ? 12 : 6;

// c[rows, kPanel] = a[rows, depth] * b[depth, kPanel] (+ c); element (i, k) of a is a[i * a_row + k * a_depth].
template <int rows, bool accumulates>
inline void block_product(const float* a, int64_t a_row, int64_t a_depth, const float* b, int64_t depth, float* c,
                          int64_t c_row) {
  Vec sum[rows][2];
  for (int i = 0; i < rows; ++i) {
    sum[i][0] = accumulates ? load(c + i * c_row) : Vec{};
    sum[i][1] = accumulates ? load(c + i * c_row + kLanes) : Vec{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vec b0 = load(b + k * kPanel), b1 = load(b + k * kPanel + kLanes);
    const float* column = a + k * a_depth;
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Vec factor = splat(column[i * a_row]);
      sum[i][0] += factor * b0;
      sum[i][1] += factor * b1;
    }
  }
  for (int i = 0; i < rows; ++i) {
    store(c + i * c_row, sum[i][0]);
    store(c + i * c_row + kLanes, sum[i][1]);
  }
}

#ifdef __AVX512BF16__
typedef uint32_t UnalignedWords __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Word __attribute__((may_alias, aligned(2)));

inline __m512bh pairs_at(const uint32_t* p) { return (__m512bh) * reinterpret_cast<const UnalignedWords*>(p); }

inline __m512bh splat_pair(const void* p) { return (__m512bh)_mm512_set1_epi32(*static_cast<const Word*>(p)); }

// As block_product; a_row and a_depth count bfloat16 values, b holds pairs [depth / 2][kPanel].
template <int rows, bool accumulates>
inline void block_product(const BFloat16* a, int64_t a_row, int64_t a_depth, const uint32_t* b, int64_t pairs, float* c,
                          int64_t c_row) {
  __m512 sum[rows][2];
  for (int i = 0; i < rows; ++i) {
    sum[i][0] = accumulates ? (__m512)load(c + i * c_row) : _mm512_setzero_ps();
    sum[i][1] = accumulates ? (__m512)load(c + i * c_row + kLanes) : _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < pairs; ++k) {
    const __m512bh b0 = pairs_at(b + k * kPanel), b1 = pairs_at(b + k * kPanel + kLanes);
    const BFloat16* column = a + k * a_depth;
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const __m512bh factor = splat_pair(column + i * a_row);
      sum[i][0] = _mm512_dpbf16_ps(sum[i][0], factor, b0);
      sum[i][1] = _mm512_dpbf16_ps(sum[i][1], factor, b1);
    }
  }
  for (int i = 0; i < rows; ++i) {
    store(c + i * c_row, (Vec)sum[i][0]);
    store(c + i * c_row + kLanes, (Vec)sum[i][1]);
  }
}
#endif

template <int rows, bool accumulates, typename A, typename B>
inline void last_rows(int64_t left, const A* a, int64_t a_row, int64_t a_depth, const B* b, int64_t depth, float* c,
                      int64_t c_row) {
  if (left == rows) return block_product<rows, accumulates>(a, a_row, a_depth, b, depth, c, c_row);
  if constexpr (rows > 1) last_rows<rows - 1, accumulates>(left, a, a_row, a_depth, b, depth, c, c_row);
}

// As block_product, for any number of rows.
template <bool accumulates, typename A = float, typename B = float>
inline void panel_product(int64_t rows, const A* a, int64_t a_row, int64_t a_depth, const B* b, int64_t depth, float* c,
                          int64_t c_row) {
  // Blocks of even height: 16 rows are 8 + 8, not 12 + 4.
  int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t i = 0; i < rows; --blocks) {
    const int64_t height = (rows - i + blocks - 1) / blocks;
    last_rows<kBlockRows, accumulates>(height, a + i * a_row, a_row, a_depth, b, depth, c + i * c_row, c_row);
    i += height;
  }
}

constexpr int64_t kDepth = 512;            // of a product that is summed at a time, so that a panel stays in the cache
constexpr int64_t kRows = 8 * kBlockRows;  // rows that a thread takes at a time

// One panel of `height` rows of sums, with bias and addend, to its place in c.
template <typename T>
inline void store_panel(const float* sums, int64_t height, int64_t row, int64_t panel, int64_t columns,
                        const float* bias, const T* addend, T* c, int64_t c_stride) {
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < kPanel; j += kLanes) {
      const int64_t column = panel * kPanel + j, left = columns - column, at = (row + i) * c_stride + column;
      if (left <= 0) break;
      Vec value = load(sums + i * kPanel + j);
      if (bias != nullptr) value += load_some(bias + column, left);
      if (addend != nullptr) value += load_some(addend + at, left);
      store_some(c + at, value, left);
    }
  }
}

// b[depth][columns] with any strides into panels [panel][depth][kPanel].
void pack_panels(const float* b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns, float* out) {
  const int64_t panels = (columns + kPanel - 1) / kPanel;
  in_parallel(panels * depth, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / depth, k = i % depth;
      const float* from = b + k * b_depth + panel * kPanel * b_column;
      float* to = out + i * kPanel;
      const int64_t count = columns - panel * kPanel < kPanel ? columns - panel * kPanel : kPanel;
      for (int64_t j = 0; j < count; ++j) to[j] = from[j * b_column];
      for (int64_t j = count; j < kPanel; ++j) to[j] = 0;
    }
  });
}

// Rows of a as float32: a itself where it is that.
inline const float* as_floats(const float* a, int64_t, int64_t, int64_t, float*, int64_t& a_row) {
  static_cast<void>(a_row);
  return a;
}
inline const float* as_floats(const BFloat16* a, int64_t row_stride, int64_t rows, int64_t width, float* space,
                              int64_t& a_row) {
  a_row = rounded_up(width, kLanes);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < width; k += kLanes) {
      store(space + i * a_row + k, load_some(a + i * row_stride + k, width - k));
    }
  }
  return space;
}

template <typename T>
void product(const ProductShape& shape, const T* a, int64_t a_stride, const float* b, int64_t b_depth, int64_t b_column,
             const float* bias, const T* addend, T* c, int64_t c_stride, float* packed, float* workspace,
             int64_t thread_stride) {
  const auto [rows, depth, columns] = shape;
  pack_panels(b, b_depth, b_column, depth, columns, packed);
  const int64_t panels = (columns + kPanel - 1) / kPanel;
  in_parallel((rows + kBlockRows - 1) / kBlockRows, [&](int64_t first, int64_t last, int64_t thread) {
    float* sums = workspace + thread * thread_stride;
    float* space = sums + kRows * kPanel;
    const int64_t end = last * kBlockRows < rows ? last * kBlockRows : rows;
    for (int64_t row = first * kBlockRows; row < end; row += kRows) {
      const int64_t height = end - row < kRows ? end - row : kRows;
      int64_t a_row = a_stride;
      const float* from = as_floats(a + row * a_stride, a_stride, height, depth, space, a_row);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const float* weights = packed + panel * depth * kPanel;
        for (int64_t k = 0; k < depth; k += kDepth) {
          const int64_t part = depth - k < kDepth ? depth - k : kDepth;
          (k == 0 ? panel_product<false> : panel_product<true>)(height, from + k, a_row, 1, weights + k * kPanel, part,
                                                                sums, kPanel);
        }
        store_panel(sums, height, row, panel, columns, bias, addend, c, c_stride);
      }
    }
  });
}

int64_t product_workspace(const ProductShape& shape) { return kRows * (kPanel + rounded_up(shape.depth, kLanes)); }

int64_t packed_size(const ProductShape& shape) { return (shape.columns + kPanel - 1) / kPanel * kPanel * shape.depth; }

// c[rows][columns] = the sum over `depth` of a[k][rows] * b[k][columns].
template <typename T>
void outer_sum(const ProductShape& shape, const T* a, int64_t a_stride, const T* b, int64_t b_stride, float* c,
               int64_t c_stride, float* workspace, int64_t thread_stride) {
  const auto [rows, depth, columns] = shape;
  const int64_t panels = (columns + kPanel - 1) / kPanel, heights = (rows + kRows - 1) / kRows;
  in_parallel(panels * heights, [&](int64_t first, int64_t last, int64_t thread) {
    float* panel_space = workspace + thread * thread_stride;
    float* sums = panel_space + kDepth * kPanel;
    float* space = sums + kRows * kPanel;
    for (int64_t task = first; task < last; ++task) {
      const int64_t row = task / panels * kRows, column = task % panels * kPanel;
      const int64_t height = rows - row < kRows ? rows - row : kRows;
      const int64_t width = columns - column < kPanel ? columns - column : kPanel;
      for (int64_t k = 0; k < depth; k += kDepth) {
        const int64_t part = depth - k < kDepth ? depth - k : kDepth;
        for (int64_t i = 0; i < part; ++i) {
          for (int64_t j = 0; j < kPanel; j += kLanes) {
            const int64_t left = width - j;
            store(panel_space + i * kPanel + j,
                  left <= 0 ? Vec{} : load_some(b + (k + i) * b_stride + column + j, left));
          }
        }
        int64_t a_depth = a_stride;
        const float* from = as_floats(a + k * a_stride + row, a_stride, part, height, space, a_depth);
        (k == 0 ? panel_product<false> : panel_product<true>)(height, from, 1, a_depth, panel_space, part, sums,
                                                              kPanel);
      }
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < width; j += kLanes) {
          store_some(c + (row + i) * c_stride + column + j, load(sums + i * kPanel + j), width - j);
        }
      }
    }
  });
}

int64_t outer_sum_workspace(const ProductShape&) {
  return kDepth * (kPanel + rounded_up(kRows, kLanes)) + kRows * kPanel;
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
