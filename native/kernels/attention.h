// Scaled dot-product attention over the positions of each image and head. Scores exist for one block of queries at a
// time, so that memory grows with the positions and not with their square; the backward pass computes them again.
#pragma once

#include "kernels/matmul.h"
#include "kernels/table.h"

namespace trislot::TRISLOT_ISA {
namespace {

// Where the parts of one head lie in a row of q, k, v of all heads.
struct HeadOffsets {
  HeadOffsets(const AttentionShape& shape, int64_t head) {
    const int64_t step = shape.type_major ? shape.heads * shape.width : shape.width;
    q = shape.type_major ? head * shape.width : head * 3 * shape.width;
    k = q + step;
    v = k + step;
  }
  int64_t q, k, v;
};

// [rows][width] with factor, rows padded to whole vectors by zeros, as float32.
template <typename T>
void copy_rows(const T* from, int64_t stride, int64_t rows, int64_t width, float factor, float* to, int64_t to_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < to_stride; j += kLanes) {
      store(to + i * to_stride + j, j < width ? load_some(from + i * stride + j, width - j) * factor : Vec{});
    }
  }
}

// The matrix [rows][width] as panels of its columns: [width / kPanel][rows][kPanel].
template <typename T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  for (int64_t j = 0; j < width; j += kPanel) {
    for (int64_t i = 0; i < rows; ++i, to += kPanel) {
      for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
        const int64_t left = width - j - lane;
        store(to + lane, left > 0 ? load_some(from + i * stride + j + lane, left) : Vec{});
      }
    }
  }
}

// Its transpose as panels: [rows / kPanel][width][kPanel].
template <typename T>
void pack_columns(const T* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  for (int64_t i = 0; i < rows; i += kPanel, to += width * kPanel) {
    for (int64_t lane = 0; lane < kPanel; ++lane) {
      for (int64_t j = 0; j < width; j += kLanes) {
        const int64_t left = width - j;
        const Vec value = i + lane < rows ? load_some(from + (i + lane) * stride + j, left) : Vec{};
        for (int64_t l = 0; l < kLanes && l < left; ++l) to[(j + l) * kPanel + lane] = value[l];
      }
    }
  }
}

// c[rows][panels of columns] = a b for all panels of b.
template <bool accumulates>
void all_panels(int64_t rows, const float* a, int64_t a_row, int64_t a_depth, const float* b, int64_t depth,
                int64_t columns, float* c, int64_t c_row) {
  for (int64_t j = 0; j < columns; j += kPanel) {
    panel_product<accumulates>(rows, a, a_row, a_depth, b + j * depth, depth, c + j, c_row);
  }
}

// Softmax of each row of scores [rows][stride], of which the first `count` are real; the others become 0.
void softmax(float* scores, int64_t rows, int64_t count, int64_t stride) {
  constexpr float kNever = -1e30f;
  for (int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * stride;
    for (int64_t j = count; j < stride; ++j) row[j] = kNever;
    Vec most = splat(kNever);
    for (int64_t j = 0; j < stride; j += kLanes) {
      const Vec value = load(row + j);
      most = value > most ? value : most;
    }
    float top = most[0];
    for (int64_t l = 1; l < kLanes; ++l) top = most[l] > top ? most[l] : top;
    Vec sum = {};
    for (int64_t j = 0; j < stride; j += kLanes) {
      Vec value = exp_of(load(row + j) - top);
      store(row + j, value);
      sum += value;
    }
    for (int64_t j = count; j < stride; ++j) {
      sum[0] -= row[j];
      row[j] = 0;
    }
    const float factor = 1 / sum_of(sum);
    for (int64_t j = 0; j < stride; j += kLanes) store(row + j, load(row + j) * factor);
  }
}

constexpr int64_t kQueries = 4 * kBlockRows;

struct AttentionSpace {
  explicit AttentionSpace(const AttentionShape& shape)
      : row(rounded_up(shape.width, kPanel)),
        score_row(rounded_up(shape.positions, kPanel)),
        matrix(rounded_up(shape.positions, kPanel) * row),
        queries(kQueries * row),
        scores(kQueries * score_row) {}
  int64_t row, score_row, matrix, queries, scores;
};

int64_t attention_workspace(const AttentionShape& shape) {
  const AttentionSpace space(shape);
  return 6 * space.matrix + 4 * space.queries + 2 * space.scores;
}

template <typename T>
void attention(const AttentionShape& shape, const T* qkv, T* out, float* workspace, int64_t thread_stride) {
  const int64_t positions = shape.positions, width = shape.width, channels = shape.heads * width, stride = 3 * channels;
  const AttentionSpace space(shape);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  in_parallel(shape.batch * shape.heads, [&](int64_t first, int64_t last, int64_t thread) {
    float* keys = workspace + thread * thread_stride;
    float* values = keys + space.matrix;
    float* queries = values + space.matrix;
    float* mixed = queries + space.queries;
    float* scores = mixed + space.queries;
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / shape.heads, head = task % shape.heads;
      const HeadOffsets at(shape, head);
      const T* rows = qkv + image * positions * stride;
      pack_columns(rows + at.k, stride, positions, width, keys);
      pack_rows(rows + at.v, stride, positions, width, values);
      for (int64_t begin = 0; begin < positions; begin += kQueries) {
        const int64_t count = positions - begin < kQueries ? positions - begin : kQueries;
        copy_rows(rows + begin * stride + at.q, stride, count, width, scale, queries, space.row);
        all_panels<false>(count, queries, space.row, 1, keys, width, positions, scores, space.score_row);
        softmax(scores, count, positions, space.score_row);
        all_panels<false>(count, scores, space.score_row, 1, values, positions, width, mixed, space.row);
        T* to = out + (image * positions + begin) * channels + head * width;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < width; j += kLanes) {
            store_some(to + i * channels + j, load(mixed + i * space.row + j), width - j);
          }
        }
      }
    }
  });
}

template <typename T>
void attention_gradient(const AttentionShape& shape, const T* qkv, const T* gradient, T* d_qkv, float* workspace,
                        int64_t thread_stride) {
  const int64_t positions = shape.positions, width = shape.width, channels = shape.heads * width, stride = 3 * channels;
  const AttentionSpace space(shape);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  in_parallel(shape.batch * shape.heads, [&](int64_t first, int64_t last, int64_t thread) {
    float* key_columns = workspace + thread * thread_stride;
    float* key_rows = key_columns + space.matrix;
    float* value_columns = key_rows + space.matrix;
    float* d_keys = value_columns + space.matrix;
    float* d_values = d_keys + space.matrix;
    float* queries = d_values + space.matrix;
    float* query_panels = queries + space.queries;
    float* d_mixed = query_panels + space.queries;
    float* panels = d_mixed + space.queries;  // of d_mixed, then the gradient of the queries
    float* scores = panels + space.queries;
    float* d_scores = scores + space.scores;
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / shape.heads, head = task % shape.heads;
      const HeadOffsets at(shape, head);
      const T* rows = qkv + image * positions * stride;
      T* d_rows = d_qkv + image * positions * stride;
      pack_columns(rows + at.k, stride, positions, width, key_columns);
      pack_rows(rows + at.k, stride, positions, width, key_rows);
      pack_columns(rows + at.v, stride, positions, width, value_columns);
      for (int64_t begin = 0; begin < positions; begin += kQueries) {
        const int64_t count = positions - begin < kQueries ? positions - begin : kQueries;
        const T* query = rows + begin * stride + at.q;
        const T* dy = gradient + (image * positions + begin) * channels + head * width;
        copy_rows(query, stride, count, width, scale, queries, space.row);
        all_panels<false>(count, queries, space.row, 1, key_columns, width, positions, scores, space.score_row);
        softmax(scores, count, positions, space.score_row);

        // dV += P^T dY
        copy_rows(dy, channels, count, width, 1.0f, d_mixed, space.row);
        pack_rows(dy, channels, count, width, panels);
        pack_rows(queries, space.row, count, width, query_panels);
        (begin == 0 ? all_panels<false> : all_panels<true>)(positions, scores, 1, space.score_row, panels, count, width,
                                                            d_values, space.row);
        // dS = P (dP - sum(P dP)), dP = dY V^T
        all_panels<false>(count, d_mixed, space.row, 1, value_columns, width, positions, d_scores, space.score_row);
        for (int64_t i = 0; i < count; ++i) {
          float* p = scores + i * space.score_row;
          float* dp = d_scores + i * space.score_row;
          Vec sum = {};
          for (int64_t j = 0; j < space.score_row; j += kLanes) sum += load(p + j) * load(dp + j);
          const float total = sum_of(sum);
          for (int64_t j = 0; j < space.score_row; j += kLanes) store(dp + j, load(p + j) * (load(dp + j) - total));
        }
        // dK += dS^T Q (Q holds the scale), dQ = dS K scale
        (begin == 0 ? all_panels<false> : all_panels<true>)(positions, d_scores, 1, space.score_row, query_panels,
                                                            count, width, d_keys, space.row);
        all_panels<false>(count, d_scores, space.score_row, 1, key_rows, positions, width, panels, space.row);
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < width; j += kLanes) {
            store_some(d_rows + (begin + i) * stride + at.q + j, load(panels + i * space.row + j) * scale, width - j);
          }
        }
      }
      for (int64_t i = 0; i < positions; ++i) {
        for (int64_t j = 0; j < width; j += kLanes) {
          store_some(d_rows + i * stride + at.k + j, load(d_keys + i * space.row + j), width - j);
          store_some(d_rows + i * stride + at.v + j, load(d_values + i * space.row + j), width - j);
        }
      }
    }
  });
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
