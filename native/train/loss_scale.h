// The dynamic loss scale of float16 training (guided-diffusion's fp16_util), bounded on both sides.
#pragma once

#include <algorithm>
#include <cmath>

namespace trislot {

// All in powers of two: the factor is 2^log2.
struct LossScale {
  double log2 = 20;
  double growth = 1e-3;  // added after each finite step
  double min = 0, max = 32;

  double factor() const { return std::exp2(log2); }
  void grow() { log2 = std::min(log2 + growth, max); }

  // Halves the factor; false when it was as small as it may be, so that the scale cannot be what is wrong.
  bool shrink() {
    const bool can = log2 > min;
    log2 = std::max(log2 - 1, min);
    return can;
  }
};

}  // namespace trislot
