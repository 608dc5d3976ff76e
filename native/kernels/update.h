// The optimizer's step and the moving averages, in one pass over memory.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace trislot::TRISLOT_ISA {
namespace {

constexpr int64_t kSegment = 16384;  // elements a thread takes at a time

// Calls body(part, first element, last element, segment) for each segment of each part, in parallel.
template <typename Body>
void for_each_segment(const WeightPart* parts, int64_t part_count, const Body& body) {
  int64_t total = 0;
  for (int64_t i = 0; i < part_count; ++i) total += (parts[i].count + kSegment - 1) / kSegment;
  in_parallel(total, [&](int64_t begin, int64_t end, int64_t) {
    int64_t part = 0, before = 0;
    for (int64_t segment = begin; segment < end; ++segment) {
      int64_t here = (parts[part].count + kSegment - 1) / kSegment;
      while (segment - before >= here) {
        before += here;
        ++part;
        here = (parts[part].count + kSegment - 1) / kSegment;
      }
      const int64_t first = (segment - before) * kSegment;
      const int64_t last = first + kSegment < parts[part].count ? first + kSegment : parts[part].count;
      body(part, first, last, segment);
    }
  });
}

// One instruction, because the kernels are compiled with -fno-math-errno.
inline Vec sqrt_of(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = __builtin_sqrtf(lanes[i]);
  return load(lanes);
}

void adamw(const WeightPart* parts, int64_t part_count, const AdamStep& step, float* const* const* averages,
           const double* rates, int64_t average_count) {
  const float clip = static_cast<float>(step.gradient_factor);
  const float beta1 = static_cast<float>(step.beta1), beta2 = static_cast<float>(step.beta2);
  const float keep1 = static_cast<float>(1 - step.beta1), keep2 = static_cast<float>(1 - step.beta2);
  const float step_size = static_cast<float>(step.lr / step.correction1);
  const float root = static_cast<float>(1 / sqrt(step.correction2));
  const float tiny = static_cast<float>(step.tiny);
  for_each_segment(parts, part_count, [&](int64_t index, int64_t first, int64_t last, int64_t) {
    const WeightPart& part = parts[index];
    const float decay = part.decays ? static_cast<float>(1 - step.lr * step.weight_decay) : 1.0f;
    for (int64_t i = first; i < last; i += kLanes) {
      const int64_t left = last - i;
      const Vec g = load_some(part.gradient + i, left) * clip;
      const Vec m = load_some(part.exp_avg + i, left) * beta1 + g * keep1;
      const Vec v = load_some(part.exp_avg_sq + i, left) * beta2 + g * g * keep2;
      store_some(part.exp_avg + i, m, left);
      store_some(part.exp_avg_sq + i, v, left);
      const Vec w = load_some(part.weight + i, left) * decay - step_size * m / (sqrt_of(v) * root + tiny);
      store_some(part.weight + i, w, left);
      for (int64_t k = 0; k < average_count; ++k) {
        float* average = averages[k][index] + i;
        const Vec old = load_some(average, left);
        store_some(average, old + (w - old) * static_cast<float>(1 - rates[k]), left);
      }
    }
  });
}

int64_t gradient_square_workspace(const WeightPart* parts, int64_t part_count) {
  int64_t total = 0;
  for (int64_t i = 0; i < part_count; ++i) total += (parts[i].count + kSegment - 1) / kSegment;
  return total;
}

double gradient_square(const WeightPart* parts, int64_t part_count, double* workspace, int64_t workspace_count) {
  for_each_segment(parts, part_count, [&](int64_t index, int64_t first, int64_t last, int64_t segment) {
    Vec sum[4] = {};
    for (int64_t i = first; i < last; i += 4 * kLanes) {
      for (int64_t u = 0; u < 4; ++u) {
        const int64_t at = i + u * kLanes;
        if (at >= last) break;
        const Vec g = load_some(parts[index].gradient + at, last - at);
        sum[u] += g * g;
      }
    }
    double total = 0;
    for (int64_t u = 0; u < 4; ++u) {
      for (int64_t lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sum[u][lane]);
    }
    workspace[segment] = total;
  });
  double total = 0;
  for (int64_t i = 0; i < workspace_count; ++i) total += workspace[i];
  return total;
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
