// The windows of a 3x3 convolution of stride 2, which make a product of matrices of it.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace trislot::TRISLOT_ISA {
namespace {

// The pixel of tap `tap` in the window of output pixel `out` along one side of an image; -1 in the border.
inline int64_t tap_pixel(int64_t out, int64_t tap, int64_t size) {
  const int64_t pixel = 2 * out - 1 + tap;
  return pixel < size ? pixel : -1;
}

template <typename T>
void gather_windows(const WindowShape& shape, const T* x, T* windows) {
  const int64_t channels = shape.channels, down = (shape.height + 1) / 2, across = (shape.width + 1) / 2;
  in_parallel(shape.batch * down, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t row = begin; row < end; ++row) {
      const T* image = x + row / down * shape.height * shape.width * channels;
      T* to = windows + row * across * 9 * channels;
      for (int64_t column = 0; column < across; ++column) {
        for (int64_t tap = 0; tap < 9; ++tap, to += channels) {
          const int64_t i = tap_pixel(row % down, tap / 3, shape.height), j = tap_pixel(column, tap % 3, shape.width);
          if (i < 0 || j < 0) {
            memset(to, 0, channels * sizeof(T));
          } else {
            memcpy(to, image + (i * shape.width + j) * channels, channels * sizeof(T));
          }
        }
      }
    }
  });
}

// The windows along one side of an image that hold a pixel, and its tap in each: one or two.
struct Holders {
  Holders(int64_t pixel, int64_t windows) : window{pixel / 2, (pixel + 1) / 2} {
    count = pixel % 2 == 1 && window[1] < windows ? 2 : 1;
    tap[0] = pixel % 2 == 1 ? 2 : 1;
    tap[1] = 0;
  }
  int64_t window[2], tap[2];
  int count;
};

template <typename T>
void add_windows(const WindowShape& shape, const T* windows, T* x) {
  const int64_t channels = shape.channels, down = (shape.height + 1) / 2, across = (shape.width + 1) / 2;
  in_parallel(shape.batch * shape.height, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t row = begin; row < end; ++row) {
      const T* image = windows + row / shape.height * down * across * 9 * channels;
      const Holders rows(row % shape.height, down);
      for (int64_t column = 0; column < shape.width; ++column) {
        const Holders columns(column, across);
        T* to = x + (row * shape.width + column) * channels;
        for (int64_t c = 0; c < channels; c += kLanes) {
          Vec sum = {};
          for (int i = 0; i < rows.count; ++i) {
            for (int j = 0; j < columns.count; ++j) {
              const int64_t tap = rows.tap[i] * 3 + columns.tap[j];
              const int64_t window = rows.window[i] * across + columns.window[j];
              sum += load_some(image + (window * 9 + tap) * channels + c, channels - c);
            }
          }
          store_some(to + c, sum, channels - c);
        }
      }
    }
  });
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
