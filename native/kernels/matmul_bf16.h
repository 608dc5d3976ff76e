// Products of bfloat16 matrices with the instruction that multiplies pairs of bfloat16 and adds in float32
// (AVX512-BF16): twice the rate of float32. Two neighbours along the depth lie together in a word of 32 bits.
#pragma once

#include "kernels/matmul.h"
#include "kernels/table.h"

#ifdef __AVX512BF16__
namespace trislot::TRISLOT_ISA {
namespace {

// As `store` does it.
inline uint16_t rounded(float value) {
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  const uint32_t nearest = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16, quiet = (word >> 16) | 0x40u;
  return static_cast<uint16_t>(value != value ? quiet : nearest);
}

// b[depth][columns] with any strides into pairs [panel][(depth + 1) / 2][kPanel], rounded to bfloat16.
void pack_pairs(const float* b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns, uint32_t* out) {
  const int64_t panels = (columns + kPanel - 1) / kPanel, pairs = (depth + 1) / 2;
  in_parallel(panels * pairs, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / pairs, k = i % pairs * 2;
      const float* from = b + k * b_depth + panel * kPanel * b_column;
      uint32_t* to = out + i * kPanel;
      const int64_t count = columns - panel * kPanel < kPanel ? columns - panel * kPanel : kPanel;
      for (int64_t j = 0; j < kPanel; ++j) {
        const uint32_t low = j < count ? rounded(from[j * b_column]) : 0;
        const uint32_t high = j < count && k + 1 < depth ? rounded(from[j * b_column + b_depth]) : 0;
        to[j] = low | high << 16;
      }
    }
  });
}

// Two rows of `width` values as pairs; the second may be null. to: [rounded_up(width, kLanes)]
inline void interleave(const BFloat16* first, const BFloat16* second, int64_t width, uint32_t* to) {
  for (int64_t j = 0; j < width; j += kLanes) {
    HalfVec low = {}, high = {};
    if (width - j >= kLanes) {
      memcpy(&low, first + j, sizeof low);
      if (second != nullptr) memcpy(&high, second + j, sizeof high);
    } else {
      for (int64_t i = 0; i < width - j; ++i) {
        low[i] = first[j + i].bits;
        if (second != nullptr) high[i] = second[j + i].bits;
      }
    }
    *reinterpret_cast<UnalignedWords*>(to + j) =
        __builtin_convertvector(low, WordVec) | (__builtin_convertvector(high, WordVec) << 16);
  }
}

// As `product`; the depth must be even.
void product_of_pairs(const ProductShape& shape, const BFloat16* a, int64_t a_stride, const float* b, int64_t b_depth,
                      int64_t b_column, const float* bias, const BFloat16* addend, BFloat16* c, int64_t c_stride,
                      float* packed, float* workspace, int64_t thread_stride) {
  const auto [rows, depth, columns] = shape;
  auto* pairs = reinterpret_cast<uint32_t*>(packed);
  pack_pairs(b, b_depth, b_column, depth, columns, pairs);
  const int64_t panels = (columns + kPanel - 1) / kPanel;
  in_parallel((rows + kBlockRows - 1) / kBlockRows, [&](int64_t first, int64_t last, int64_t thread) {
    float* sums = workspace + thread * thread_stride;
    const int64_t end = last * kBlockRows < rows ? last * kBlockRows : rows;
    for (int64_t row = first * kBlockRows; row < end; row += kRows) {
      const int64_t height = end - row < kRows ? end - row : kRows;
      for (int64_t panel = 0; panel < panels; ++panel) {
        panel_product<false>(height, a + row * a_stride, a_stride, 2, pairs + panel * depth / 2 * kPanel, depth / 2,
                             sums, kPanel);
        store_panel(sums, height, row, panel, columns, bias, addend, c, c_stride);
      }
    }
  });
}

// As `outer_sum`.
void outer_sum_of_pairs(const ProductShape& shape, const BFloat16* a, int64_t a_stride, const BFloat16* b,
                        int64_t b_stride, float* c, int64_t c_stride, float* workspace, int64_t thread_stride) {
  const auto [rows, depth, columns] = shape;
  const int64_t panels = (columns + kPanel - 1) / kPanel, heights = (rows + kRows - 1) / kRows;
  in_parallel(panels * heights, [&](int64_t first, int64_t last, int64_t thread) {
    float* sums = workspace + thread * thread_stride;
    auto* b_pairs = reinterpret_cast<uint32_t*>(sums + kRows * kPanel);
    auto* a_pairs = b_pairs + kDepth / 2 * kPanel;
    for (int64_t task = first; task < last; ++task) {
      const int64_t row = task / panels * kRows, column = task % panels * kPanel;
      const int64_t height = rows - row < kRows ? rows - row : kRows;
      const int64_t width = columns - column < kPanel ? columns - column : kPanel;
      if (width < kPanel) memset(b_pairs, 0, kDepth / 2 * kPanel * sizeof(uint32_t));
      for (int64_t k = 0; k < depth; k += kDepth) {
        const int64_t part = depth - k < kDepth ? depth - k : kDepth;
        for (int64_t i = 0; i < part; i += 2) {
          const bool paired = i + 1 < part;
          const BFloat16* b_row = b + (k + i) * b_stride + column;
          const BFloat16* a_row = a + (k + i) * a_stride + row;
          interleave(b_row, paired ? b_row + b_stride : nullptr, width, b_pairs + i / 2 * kPanel);
          interleave(a_row, paired ? a_row + a_stride : nullptr, height, a_pairs + i / 2 * kRows);
        }
        (k == 0 ? panel_product<false, BFloat16, uint32_t>
                : panel_product<true, BFloat16, uint32_t>)(height, reinterpret_cast<const BFloat16*>(a_pairs), 2,
                                                           2 * kRows, b_pairs, (part + 1) / 2, sums, kPanel);
      }
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < width; j += kLanes) {
          store_some(c + (row + i) * c_stride + column + j, load(sums + i * kPanel + j), width - j);
        }
      }
    }
  });
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
#endif
