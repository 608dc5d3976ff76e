// Products of matrices: a register block of a few rows of the left factor times one packed panel of the right one, in
// float32 or, for bfloat16 images where the processor can (AVX512-BF16), on pairs of bfloat16 that are summed in
// float32 at twice the rate.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace trislot::TRISLOT_ISA {
namespace {

// Columns of a panel are two vectors; rows of a block are as many as leave registers for the panel's row.
constexpr int64_t kPanel = 2 * kLanes;
constexpr int kBlockRows = kLanes == 16 ? 12 : 6;

int64_t panels_of(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

// How the factors of a product lie in memory. The right one lies in words of 32 bits, each of which holds kDeep
// neighbours along the depth, as panels [word][kPanel]; the left one is read a word at a time.
struct Floats {
  typedef float Input;
  typedef float Word;
  typedef Vec Words;
  static constexpr int64_t kDeep = 1;

  TRISLOT_INLINE static Words load_words(const float* p) { return load(p); }
  TRISLOT_INLINE static Words splat_word(const float* p) { return splat(*p); }
  TRISLOT_INLINE static Vec add_product(Vec sum, Words a, Words b) { return sum + a * b; }

  // A vector of words from one vector of each neighbour.
  TRISLOT_INLINE static void store(float* to, const Vec (&values)[1]) { trislot::TRISLOT_ISA::store(to, values[0]); }

  // The bits of a vector of words from their neighbours along p, of which `count` are there; zeros behind them.
  template <typename T>
  TRISLOT_INLINE static Vec along(const T* p, int64_t count) {
    return load_some(p, count);
  }
};

#ifdef __AVX512BF16__
struct Pairs {
  typedef BFloat16 Input;
  typedef uint32_t Word;
  typedef __m512bh Words;
  typedef uint32_t UnalignedWords __attribute__((vector_size(64), aligned(4), may_alias));
  static constexpr int64_t kDeep = 2;

  TRISLOT_INLINE static Words load_words(const uint32_t* p) {
    return (Words) * reinterpret_cast<const UnalignedWords*>(p);
  }
  TRISLOT_INLINE static Words splat_word(const BFloat16* p) {
    typedef int32_t PairBits __attribute__((may_alias, aligned(2)));
    return (Words)_mm512_set1_epi32(*reinterpret_cast<const PairBits*>(p));
  }
  TRISLOT_INLINE static Vec add_product(Vec sum, Words a, Words b) { return (Vec)_mm512_dpbf16_ps((__m512)sum, a, b); }

  TRISLOT_INLINE static void store(uint32_t* to, const Vec (&values)[2]) {
    const auto halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)values[1], (__m512)values[0]);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    *reinterpret_cast<UnalignedWords*>(to) = (UnalignedWords)_mm512_permutexvar_epi16(order, halves);
  }
  TRISLOT_INLINE static Vec along(const BFloat16* p, int64_t count) {
    const uint32_t mask = count >= 2 * kLanes ? 0xffffffffu : (1u << count) - 1;
    return (Vec)_mm512_maskz_loadu_epi16(mask, p);
  }
  TRISLOT_INLINE static Vec along(const float* p, int64_t count) {
    const Vec second = count > kLanes ? load_some(p + kLanes, count - kLanes) : Vec{};
    return (Vec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)load_some(p, count));
  }
};
#endif

// Words of 32 bits that hold so many values along the depth.
template <typename Values>
constexpr int64_t words_of(int64_t depth) {
  return (depth + Values::kDeep - 1) / Values::kDeep;
}

// A left factor: word k of row i begins at data[i * row + k * depth].
template <typename Values>
struct Left {
  const typename Values::Input* data;
  int64_t row, depth;
};

// c[rows, kPanel] = left * right (+ c), with a panel of the right factor of so many words.
template <int rows, bool accumulates, typename Values>
inline void block_product(const Left<Values>& left, const typename Values::Word* right, int64_t words, float* c,
                          int64_t c_row) {
  Vec sum[rows][2];
  for (int i = 0; i < rows; ++i) {
    sum[i][0] = accumulates ? load(c + i * c_row) : Vec{};
    sum[i][1] = accumulates ? load(c + i * c_row + kLanes) : Vec{};
  }
  const auto [data, row, depth] = left;
  for (int64_t k = 0; k < words; ++k) {
    const auto b0 = Values::load_words(right + k * kPanel), b1 = Values::load_words(right + k * kPanel + kLanes);
    const auto* column = data + k * depth;
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const auto factor = Values::splat_word(column + i * row);
      sum[i][0] = Values::add_product(sum[i][0], factor, b0);
      sum[i][1] = Values::add_product(sum[i][1], factor, b1);
    }
  }
  for (int i = 0; i < rows; ++i) {
    store(c + i * c_row, sum[i][0]);
    store(c + i * c_row + kLanes, sum[i][1]);
  }
}

template <int rows, bool accumulates, typename Values>
inline void last_rows(int64_t count, const Left<Values>& left, const typename Values::Word* right, int64_t words,
                      float* c, int64_t c_row) {
  if (count == rows) return block_product<rows, accumulates>(left, right, words, c, c_row);
  if constexpr (rows > 1) last_rows<rows - 1, accumulates>(count, left, right, words, c, c_row);
}

// As block_product, for any number of rows.
template <bool accumulates, typename Values>
inline void panel_product(int64_t rows, const Left<Values>& left, const typename Values::Word* right, int64_t words,
                          float* c, int64_t c_row) {
  // Blocks of even height: 16 rows are 8 + 8, not 12 + 4.
  int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t i = 0; i < rows; --blocks) {
    const int64_t height = (rows - i + blocks - 1) / blocks;
    const Left<Values> part = {left.data + i * left.row, left.row, left.depth};
    last_rows<kBlockRows, accumulates>(height, part, right, words, c + i * c_row, c_row);
    i += height;
  }
}

// c[rows][columns] = left * right (+ c), of all panels of the right factor; `words` along the depth.
template <bool accumulates, typename Values>
void all_panels(int64_t rows, const Left<Values>& left, const typename Values::Word* right, int64_t words,
                int64_t columns, float* c, int64_t c_row) {
  for (int64_t j = 0; j < columns; j += kPanel) {
    panel_product<accumulates>(rows, left, right + j * words, words, c + j, c_row);
  }
}

template <typename Values, typename T>
constexpr bool kReadsInPlace = sizeof(T) == sizeof(typename Values::Input);

// The matrix [rows][width] as a left factor with the depth along its rows: in place, where an odd width may not be, or
// converted in space [rows][rounded_up(width, kLanes)].
template <typename Values, typename T>
Left<Values> left_rows(const T* from, int64_t stride, int64_t rows, int64_t width, float* space) {
  if constexpr (kReadsInPlace<Values, T>)
    return {from, stride, Values::kDeep};
  else {
    auto* to = reinterpret_cast<typename Values::Input*>(space);
    const int64_t row = rounded_up(width, kLanes);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < width; k += kLanes) {
        store(to + i * row + k, load_some(from + i * stride + k, width - k));
      }
    }
    return {to, row, Values::kDeep};
  }
}

// The matrix [rows][width] as words [word][row_words], the depth along its columns; zeros beyond the width.
template <typename Values, typename T>
inline void pack_words(const T* from, int64_t stride, int64_t rows, int64_t width, typename Values::Word* to,
                       int64_t row_words) {
  for (int64_t word = 0; word < words_of<Values>(rows); ++word) {
    for (int64_t j = 0; j < row_words; j += kLanes) {
      Vec values[Values::kDeep];
      for (int64_t i = 0; i < Values::kDeep; ++i) {
        const int64_t k = word * Values::kDeep + i;
        values[i] = k < rows && j < width ? load_some(from + k * stride + j, width - j) : Vec{};
      }
      Values::store(to + word * row_words + j, values);
    }
  }
}

// Its transpose as a left factor, the depth along its columns: in place or in space [words][rounded_up(width, kLanes)].
template <typename Values, typename T>
Left<Values> left_columns(const T* from, int64_t stride, int64_t rows, int64_t width, float* space) {
  if constexpr (kReadsInPlace<Values, T> && Values::kDeep == 1)
    return {from, 1, stride};
  else {
    auto* to = reinterpret_cast<typename Values::Word*>(space);
    const int64_t row = rounded_up(width, kLanes);
    pack_words<Values>(from, stride, rows, width, to, row);
    return {reinterpret_cast<const typename Values::Input*>(to), Values::kDeep, Values::kDeep * row};
  }
}

// One panel of the matrix [rows][width] as a right factor, the depth along its columns; zeros beyond the width.
template <typename Values, typename T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t width, typename Values::Word* to) {
  pack_words<Values>(from, stride, rows, width, to, kPanel);
}

// One panel of its transpose, the depth along its rows; zeros beyond the last row.
template <typename Values, typename T>
void pack_columns(const T* from, int64_t stride, int64_t rows, int64_t width, typename Values::Word* to) {
  const int64_t words = words_of<Values>(width);
  for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
    for (int64_t word = 0; word < words; word += kLanes) {
      Vec square[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t k = word * Values::kDeep;
        square[l] = lane + l < rows ? Values::along(from + (lane + l) * stride + k, width - k) : Vec{};
      }
      transpose(square);
      for (int64_t j = 0; j < kLanes && word + j < words; ++j) {
        store(reinterpret_cast<float*>(to + (word + j) * kPanel + lane), square[j]);
      }
    }
  }
}

constexpr int64_t kDepth = 512;  // words of a product that are summed at a time, so that a panel stays in the cache
constexpr int64_t kRows = 8 * kBlockRows;  // rows that a thread takes at a time

template <typename T>
void store_rows(const float* from, int64_t from_stride, int64_t rows, int64_t width, T* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; j += kLanes) {
      store_some(to + i * stride + j, load(from + i * from_stride + j), width - j);
    }
  }
}

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

template <typename Values, typename T>
void product(const ProductShape& shape, const T* a, int64_t a_stride, const float* b, int64_t b_depth, int64_t b_column,
             const float* bias, const T* addend, T* c, int64_t c_stride, float* packed, float* workspace,
             int64_t thread_stride) {
  const int64_t rows = shape.rows, depth = shape.depth, columns = shape.columns;
  const int64_t panels = panels_of(columns), words = words_of<Values>(depth);
  auto* right = reinterpret_cast<typename Values::Word*>(packed);
  in_parallel(panels, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const float* from = b + panel * kPanel * b_column;
      const int64_t left = columns - panel * kPanel;
      auto* to = right + panel * words * kPanel;
      b_column == 1 ? pack_rows<Values>(from, b_depth, depth, left, to)
                    : pack_columns<Values>(from, b_column, left, depth, to);
    }
  });
  in_parallel((rows + kBlockRows - 1) / kBlockRows, [&](int64_t first, int64_t last, int64_t thread) {
    float* sums = workspace + thread * thread_stride;
    float* space = sums + kRows * kPanel;
    const int64_t end = last * kBlockRows < rows ? last * kBlockRows : rows;
    for (int64_t row = first * kBlockRows; row < end; row += kRows) {
      const int64_t height = end - row < kRows ? end - row : kRows;
      const auto left = left_rows<Values>(a + row * a_stride, a_stride, height, depth, space);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const auto* weights = right + panel * words * kPanel;
        for (int64_t k = 0; k < words; k += kDepth) {
          const int64_t part = words - k < kDepth ? words - k : kDepth;
          const Left<Values> from = {left.data + k * left.depth, left.row, left.depth};
          const auto multiply = k == 0 ? panel_product<false, Values> : panel_product<true, Values>;
          multiply(height, from, weights + k * kPanel, part, sums, kPanel);
        }
        store_panel(sums, height, row, panel, columns, bias, addend, c, c_stride);
      }
    }
  });
}

int64_t product_workspace(const ProductShape& shape) { return kRows * (kPanel + rounded_up(shape.depth, kLanes)); }

int64_t packed_size(const ProductShape& shape) { return panels_of(shape.columns) * kPanel * shape.depth; }

// c[rows][columns] = the sum over `depth` of a[k][rows] * b[k][columns].
template <typename Values, typename T>
void outer_sum(const ProductShape& shape, const T* a, int64_t a_stride, const T* b, int64_t b_stride, float* c,
               int64_t c_stride, float* workspace, int64_t thread_stride) {
  const int64_t rows = shape.rows, depth = shape.depth, columns = shape.columns;
  const int64_t panels = panels_of(columns), heights = (rows + kRows - 1) / kRows;
  constexpr int64_t kValues = kDepth * Values::kDeep;
  in_parallel(panels * heights, [&](int64_t first, int64_t last, int64_t thread) {
    float* panel_space = workspace + thread * thread_stride;
    float* sums = panel_space + kDepth * kPanel;
    float* space = sums + kRows * kPanel;
    auto* right = reinterpret_cast<typename Values::Word*>(panel_space);
    for (int64_t task = first; task < last; ++task) {
      const int64_t row = task / panels * kRows, column = task % panels * kPanel;
      const int64_t height = rows - row < kRows ? rows - row : kRows;
      const int64_t width = columns - column < kPanel ? columns - column : kPanel;
      for (int64_t k = 0; k < depth; k += kValues) {
        const int64_t part = depth - k < kValues ? depth - k : kValues;
        pack_rows<Values>(b + k * b_stride + column, b_stride, part, width, right);
        const auto left = left_columns<Values>(a + k * a_stride + row, a_stride, part, height, space);
        const auto multiply = k == 0 ? panel_product<false, Values> : panel_product<true, Values>;
        multiply(height, left, right, words_of<Values>(part), sums, kPanel);
      }
      store_rows(sums, kPanel, height, width, c + row * c_stride + column, c_stride);
    }
  });
}

int64_t outer_sum_workspace(const ProductShape&) {
  return kDepth * (kPanel + rounded_up(kRows, kLanes)) + kRows * kPanel;
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
