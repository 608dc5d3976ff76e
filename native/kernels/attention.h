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

// All panels of the matrix [rows][width], or of its transpose, as right factors.
template <typename Values, typename T>
void pack_all_rows(const T* from, int64_t stride, int64_t rows, int64_t width, typename Values::Word* to) {
  for (int64_t j = 0; j < width; j += kPanel) {
    pack_rows<Values>(from + j, stride, rows, width - j, to + j * words_of<Values>(rows));
  }
}
template <typename Values, typename T>
void pack_all_columns(const T* from, int64_t stride, int64_t rows, int64_t width, typename Values::Word* to) {
  for (int64_t i = 0; i < rows; i += kPanel) {
    pack_columns<Values>(from + i * stride, stride, rows - i, width, to + i * words_of<Values>(width));
  }
}

// Softmax of each row of scale * scores [rows][stride], of which the first `count` are real; the others become 0.
template <typename T>
void softmax(float* scores, int64_t rows, int64_t count, int64_t stride, float scale) {
  const auto real = [count](Vec value, int64_t first, float other) {
    return count - first >= kLanes ? value : filled_up(value, count - first, other, Lanes{});
  };
  for (int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * stride;
    Vec most = splat(-1e30f);
    for (int64_t j = 0; j < stride; j += kLanes) {
      const Vec value = real(load(row + j) * scale, j, -1e30f);
      store(row + j, value);
      most = value > most ? value : most;
    }
    const float top = largest_of(most);
    Vec sum = {};
    for (int64_t j = 0; j < stride; j += kLanes) {
      const Vec value = real(exp_to<T>(load(row + j) - top), j, 0);
      store(row + j, value);
      sum += value;
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
        matrix(score_row * row),
        queries(kQueries * row),
        scores(kQueries * score_row) {}
  int64_t row, score_row, matrix, queries, scores;
};

int64_t attention_workspace(const AttentionShape& shape) {
  const AttentionSpace space(shape);
  return 5 * space.matrix + 5 * space.queries + 3 * space.scores;
}

template <typename Values, typename T>
void attention(const AttentionShape& shape, const T* qkv, T* out, float* workspace, int64_t thread_stride) {
  typedef typename Values::Word Word;
  const int64_t positions = shape.positions, width = shape.width, channels = shape.heads * width, stride = 3 * channels;
  const AttentionSpace space(shape);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  in_parallel(shape.batch * shape.heads, [&](int64_t first, int64_t last, int64_t thread) {
    float* scores = workspace + thread * thread_stride;
    float* probabilities = scores + space.scores;
    float* queries = probabilities + space.scores;
    float* mixed = queries + space.queries;
    auto* keys = reinterpret_cast<Word*>(mixed + space.queries);
    auto* values = keys + space.matrix;
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / shape.heads, head = task % shape.heads;
      const HeadOffsets at(shape, head);
      const T* rows = qkv + image * positions * stride;
      pack_all_columns<Values>(rows + at.k, stride, positions, width, keys);
      pack_all_rows<Values>(rows + at.v, stride, positions, width, values);
      for (int64_t begin = 0; begin < positions; begin += kQueries) {
        const int64_t count = positions - begin < kQueries ? positions - begin : kQueries;
        const auto q = left_rows<Values>(rows + begin * stride + at.q, stride, count, width, queries);
        all_panels<false>(count, q, keys, words_of<Values>(width), positions, scores, space.score_row);
        softmax<T>(scores, count, positions, space.score_row, scale);
        const auto p = left_rows<Values>(scores, space.score_row, count, space.score_row, probabilities);
        all_panels<false>(count, p, values, words_of<Values>(positions), width, mixed, space.row);
        T* to = out + (image * positions + begin) * channels + head * width;
        store_rows(mixed, space.row, count, width, to, channels);
      }
    }
  });
}

template <typename Values, typename T>
void attention_gradient(const AttentionShape& shape, const T* qkv, const T* gradient, T* d_qkv, float* workspace,
                        int64_t thread_stride) {
  typedef typename Values::Word Word;
  const int64_t positions = shape.positions, width = shape.width, channels = shape.heads * width, stride = 3 * channels;
  const AttentionSpace space(shape);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  in_parallel(shape.batch * shape.heads, [&](int64_t first, int64_t last, int64_t thread) {
    float* scores = workspace + thread * thread_stride;
    float* d_scores = scores + space.scores;
    float* left = d_scores + space.scores;  // scores or their gradient as a left factor
    float* queries = left + space.scores;
    float* d_mixed = queries + space.queries;
    float* d_queries = d_mixed + space.queries;
    float* d_keys = d_queries + space.queries;
    float* d_values = d_keys + space.matrix;
    auto* query_panels = reinterpret_cast<Word*>(d_values + space.matrix);
    auto* d_mixed_panels = query_panels + space.queries;
    auto* key_columns = d_mixed_panels + space.queries;
    auto* key_rows = key_columns + space.matrix;
    auto* value_columns = key_rows + space.matrix;
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task / shape.heads, head = task % shape.heads;
      const HeadOffsets at(shape, head);
      const T* rows = qkv + image * positions * stride;
      T* d_rows = d_qkv + image * positions * stride;
      pack_all_columns<Values>(rows + at.k, stride, positions, width, key_columns);
      pack_all_rows<Values>(rows + at.k, stride, positions, width, key_rows);
      pack_all_columns<Values>(rows + at.v, stride, positions, width, value_columns);
      for (int64_t begin = 0; begin < positions; begin += kQueries) {
        const int64_t count = positions - begin < kQueries ? positions - begin : kQueries;
        const T* query = rows + begin * stride + at.q;
        const T* dy = gradient + (image * positions + begin) * channels + head * width;
        const auto q = left_rows<Values>(query, stride, count, width, queries);
        all_panels<false>(count, q, key_columns, words_of<Values>(width), positions, scores, space.score_row);
        softmax<T>(scores, count, positions, space.score_row, scale);

        // dV += P^T dY
        const auto add = begin == 0 ? all_panels<false, Values> : all_panels<true, Values>;
        pack_all_rows<Values>(dy, channels, count, width, d_mixed_panels);
        const auto p = left_columns<Values>(scores, space.score_row, count, space.score_row, left);
        add(positions, p, d_mixed_panels, words_of<Values>(count), width, d_values, space.row);
        // dS = P (dP - sum(P dP)) scale, dP = dY V^T
        const auto d = left_rows<Values>(dy, channels, count, width, d_mixed);
        all_panels<false>(count, d, value_columns, words_of<Values>(width), positions, d_scores, space.score_row);
        for (int64_t i = 0; i < count; ++i) {
          const float* p_row = scores + i * space.score_row;
          float* dp = d_scores + i * space.score_row;
          Vec sum = {};
          for (int64_t j = 0; j < space.score_row; j += kLanes) sum += load(p_row + j) * load(dp + j);
          const float total = sum_of(sum);
          for (int64_t j = 0; j < space.score_row; j += kLanes) {
            store(dp + j, load(p_row + j) * (load(dp + j) - total) * scale);
          }
        }
        // dK += dS^T Q, dQ = dS K
        pack_all_rows<Values>(query, stride, count, width, query_panels);
        const auto turned = left_columns<Values>(d_scores, space.score_row, count, space.score_row, left);
        add(positions, turned, query_panels, words_of<Values>(count), width, d_keys, space.row);
        const auto ds = left_rows<Values>(d_scores, space.score_row, count, space.score_row, left);
        all_panels<false>(count, ds, key_rows, words_of<Values>(positions), width, d_queries, space.row);
        store_rows(d_queries, space.row, count, width, d_rows + begin * stride + at.q, stride);
      }
      store_rows(d_keys, space.row, positions, width, d_rows + at.k, stride);
      store_rows(d_values, space.row, positions, width, d_rows + at.v, stride);
    }
  });
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
