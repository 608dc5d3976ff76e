// Group normalisation with what surrounds it, on NHWC images: moments, scale and shift of each image, SiLU, and the way
// back. The input may come in two parts that lie in two tensors, as the skip connections of the decoder do: it is read
// as their concatenation along the channels, which is never made.
//
// Sums are taken over pieces of kPiece pixels and added up in their order, so that they do not depend on the number of
// threads.
#pragma once

#include "kernels/simd.h"
#include "kernels/table.h"

namespace trislot::TRISLOT_ISA {
namespace {

constexpr int64_t kPiece = 64;
constexpr int64_t kUnroll = 4;  // vectors of channels side by side

int64_t pieces_of(int64_t pixels) { return (pixels + kPiece - 1) / kPiece; }

// Calls body(image, first pixel, last pixel, piece index) for each piece, in parallel.
template <typename Body>
void for_each_piece(int64_t batch, int64_t pixels, const Body& body) {
  const int64_t pieces = pieces_of(pixels);
  in_parallel(batch * pieces, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % pieces * kPiece;
      body(i / pieces, first, first + kPiece < pixels ? first + kPiece : pixels, i);
    }
  });
}

// Calls body(channel, lanes, unroll) over the channels: first in steps of kUnroll vectors, then single ones.
template <typename Body>
inline void for_each_vector(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + kUnroll * kLanes <= channels; c += kUnroll * kLanes) body.template operator()<kUnroll>(c, kLanes);
  for (; c < channels; c += kLanes) body.template operator()<1>(c, channels - c);
}

// Sums of x - pivot and (x - pivot)^2 over each piece; the pivot of a channel is its first pixel of the image, which
// keeps the difference of the two sums exact where the mean is large. sums: [piece][2][channels]
template <typename T>
void moments_of_part(const T* x, int64_t channels, int64_t batch, int64_t pixels, float* sums, int64_t all_channels,
                     int64_t offset) {
  for_each_piece(batch, pixels, [&](int64_t image, int64_t first, int64_t last, int64_t piece) {
    const T* from = x + image * pixels * channels;
    float* to = sums + piece * 2 * all_channels + offset;
    for_each_vector(channels, [&]<int64_t unroll>(int64_t c, int64_t left) {
      Vec pivot[unroll], sum[unroll], square[unroll];
      for (int64_t u = 0; u < unroll; ++u) {
        pivot[u] = load_some(from + c + u * kLanes, left);
        sum[u] = square[u] = Vec{};
      }
      for (int64_t p = first; p < last; ++p) {
        for (int64_t u = 0; u < unroll; ++u) {
          const Vec d = load_some(from + p * channels + c + u * kLanes, left) - pivot[u];
          sum[u] += d;
          square[u] += d * d;
        }
      }
      for (int64_t u = 0; u < unroll; ++u) {
        store_some(to + c + u * kLanes, sum[u], left);
        store_some(to + all_channels + c + u * kLanes, square[u], left);
      }
    });
  });
}

template <typename T>
float pivot_of(const NormShape& shape, const T* first, const T* second, int64_t image, int64_t channel) {
  const T* part = channel < shape.first_channels ? first : second;
  const int64_t own = channel < shape.first_channels ? shape.first_channels : shape.second_channels;
  const int64_t index = channel < shape.first_channels ? channel : channel - shape.first_channels;
  return load_some(part + image * shape.pixels * own + index, 1)[0];
}

template <typename T>
void moments(const NormShape& shape, const T* first, const T* second, float tiny, float* mean, float* rstd,
             float* workspace) {
  const int64_t channels = shape.first_channels + shape.second_channels;
  moments_of_part(first, shape.first_channels, shape.batch, shape.pixels, workspace, channels, 0);
  if (shape.second_channels > 0) {
    moments_of_part(second, shape.second_channels, shape.batch, shape.pixels, workspace, channels,
                    shape.first_channels);
  }
  const int64_t pieces = pieces_of(shape.pixels), width = channels / shape.groups;
  for (int64_t image = 0; image < shape.batch; ++image) {
    for (int64_t group = 0; group < shape.groups; ++group) {
      // Mean and variance of each channel, then of the group from those.
      double total = 0, within = 0, between = 0;
      const double count = static_cast<double>(shape.pixels);
      double first_mean = 0;
      for (int64_t c = group * width; c < (group + 1) * width; ++c) {
        double sum = 0, square = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) {
          const float* from = workspace + (image * pieces + piece) * 2 * channels;
          sum += from[c];
          square += from[channels + c];
        }
        const double deviation = sum / count;
        const double channel_mean = pivot_of(shape, first, second, image, c) + deviation;
        if (c == group * width) first_mean = channel_mean;
        within += square - sum * deviation;
        total += channel_mean - first_mean;
        between += (channel_mean - first_mean) * (channel_mean - first_mean);
      }
      const double n = static_cast<double>(width);
      const double variance = (within / count + between - total * total / n) / n;
      mean[image * shape.groups + group] = static_cast<float>(first_mean + total / n);
      rstd[image * shape.groups + group] = static_cast<float>(1 / sqrt((variance < 0 ? 0 : variance) + tiny));
    }
  }
}

// y = act(x * scale + shift), scale and shift [batch][channels].
template <bool activates, typename T>
void apply_part(const T* x, int64_t channels, int64_t batch, int64_t pixels, const float* scale, const float* shift,
                T* y, int64_t all_channels, int64_t offset) {
  for_each_piece(batch, pixels, [&](int64_t image, int64_t first, int64_t last, int64_t) {
    const float* factors = scale + image * all_channels + offset;
    const float* terms = shift + image * all_channels + offset;
    for (int64_t p = first; p < last; ++p) {
      const T* from = x + (image * pixels + p) * channels;
      T* to = y + (image * pixels + p) * all_channels + offset;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int64_t left = channels - c;
        const Vec z = load_some(from + c, left) * load_some(factors + c, left) + load_some(terms + c, left);
        store_some(to + c, activates ? z * sigmoid<T>(z) : z, left);
      }
    }
  });
}

template <bool activates, typename T>
void apply(const NormShape& shape, const T* first, const T* second, const float* scale, const float* shift, T* y) {
  const int64_t channels = shape.first_channels + shape.second_channels;
  apply_part<activates>(first, shape.first_channels, shape.batch, shape.pixels, scale, shift, y, channels, 0);
  if (shape.second_channels > 0) {
    apply_part<activates>(second, shape.second_channels, shape.batch, shape.pixels, scale, shift, y, channels,
                          shape.first_channels);
  }
}

// From the gradient of act(z), z = x * scale + shift, that of z, in place; and the sums over each piece of dz and of
// dz * (x - mean). sums: [piece][2][channels]
template <bool activates, typename T>
void gradient_part(const T* x, int64_t channels, int64_t batch, int64_t pixels, const float* scale, const float* shift,
                   const float* mean, T* gradient, float* sums, int64_t all_channels, int64_t offset) {
  for_each_piece(batch, pixels, [&](int64_t image, int64_t first, int64_t last, int64_t piece) {
    const float* factors = scale + image * all_channels + offset;
    const float* terms = shift + image * all_channels + offset;
    const float* means = mean + image * all_channels + offset;
    float* to = sums + piece * 2 * all_channels + offset;
    for_each_vector(channels, [&]<int64_t unroll>(int64_t c, int64_t left) {
      Vec sum[unroll], product[unroll], factor[unroll], term[unroll], center[unroll];
      for (int64_t u = 0; u < unroll; ++u) {
        sum[u] = product[u] = Vec{};
        factor[u] = load_some(factors + c + u * kLanes, left);
        term[u] = load_some(terms + c + u * kLanes, left);
        center[u] = load_some(means + c + u * kLanes, left);
      }
      for (int64_t p = first; p < last; ++p) {
        const T* from = x + (image * pixels + p) * channels + c;
        T* dz_at = gradient + (image * pixels + p) * all_channels + offset + c;
        for (int64_t u = 0; u < unroll; ++u) {
          const Vec value = load_some(from + u * kLanes, left);
          Vec dz = load_some(dz_at + u * kLanes, left);
          if (activates) {
            const Vec z = value * factor[u] + term[u];
            const Vec s = sigmoid<T>(z);
            dz *= s * (1.0f + z * (1.0f - s));
            store_some(dz_at + u * kLanes, dz, left);
          }
          sum[u] += dz;
          product[u] += dz * (value - center[u]);
        }
      }
      for (int64_t u = 0; u < unroll; ++u) {
        store_some(to + c + u * kLanes, sum[u], left);
        store_some(to + all_channels + c + u * kLanes, product[u], left);
      }
    });
  });
}

// out[row][i] = sum over pieces of sums[(row * pieces + piece)][i], i < width
void add_pieces(const float* sums, int64_t rows, int64_t pieces, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    float* to = out + row * width;
    for (int64_t i = 0; i < width; ++i) to[i] = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const float* from = sums + (row * pieces + piece) * width;
      for (int64_t i = 0; i < width; ++i) to[i] += from[i];
    }
  }
}

template <bool activates, typename T>
void gradient(const NormShape& shape, const T* first, const T* second, const float* scale, const float* shift,
              const float* mean, T* gradient, float* sums, float* workspace) {
  const int64_t channels = shape.first_channels + shape.second_channels;
  gradient_part<activates>(first, shape.first_channels, shape.batch, shape.pixels, scale, shift, mean, gradient,
                           workspace, channels, 0);
  if (shape.second_channels > 0) {
    gradient_part<activates>(second, shape.second_channels, shape.batch, shape.pixels, scale, shift, mean, gradient,
                             workspace, channels, shape.first_channels);
  }
  add_pieces(workspace, shape.batch, pieces_of(shape.pixels), 2 * channels, sums);
}

// dx = dz * dz_factor + x * x_factor + term (+ addend): all factors [batch][channels]. dx may be dz where there is one
// part. The sums of dx over each piece go to sums [piece][channels] where that is given.
template <typename T>
void input_gradient_part(const T* x, int64_t channels, int64_t batch, int64_t pixels, const T* dz,
                         const float* dz_factor, const float* x_factor, const float* term, const T* addend, T* dx,
                         float* sums, int64_t all_channels, int64_t offset) {
  for_each_piece(batch, pixels, [&](int64_t image, int64_t first, int64_t last, int64_t piece) {
    const int64_t at = image * all_channels + offset;
    for_each_vector(channels, [&]<int64_t unroll>(int64_t c, int64_t left) {
      Vec sum[unroll], p_factor[unroll], q_factor[unroll], r_term[unroll];
      for (int64_t u = 0; u < unroll; ++u) {
        sum[u] = Vec{};
        p_factor[u] = load_some(dz_factor + at + c + u * kLanes, left);
        q_factor[u] = load_some(x_factor + at + c + u * kLanes, left);
        r_term[u] = load_some(term + at + c + u * kLanes, left);
      }
      for (int64_t p = first; p < last; ++p) {
        const int64_t own = (image * pixels + p) * channels + c;
        const int64_t joint = (image * pixels + p) * all_channels + offset + c;
        for (int64_t u = 0; u < unroll; ++u) {
          Vec value = load_some(dz + joint + u * kLanes, left) * p_factor[u] +
                      (load_some(x + own + u * kLanes, left) * q_factor[u] + r_term[u]);
          if (addend != nullptr) value += load_some(addend + joint + u * kLanes, left);
          sum[u] += value;
          store_some(dx + own + u * kLanes, value, left);
        }
      }
      if (sums != nullptr) {
        for (int64_t u = 0; u < unroll; ++u) store_some(sums + piece * channels + c + u * kLanes, sum[u], left);
      }
    });
  });
}

template <typename T>
void input_gradient(const NormShape& shape, const T* first, const T* second, const T* dz, const float* dz_factor,
                    const float* x_factor, const float* term, const T* addend, T* first_dx, T* second_dx, float* sums,
                    float* workspace) {
  const int64_t channels = shape.first_channels + shape.second_channels;
  input_gradient_part(first, shape.first_channels, shape.batch, shape.pixels, dz, dz_factor, x_factor, term, addend,
                      first_dx, sums == nullptr ? nullptr : workspace, channels, 0);
  if (shape.second_channels > 0) {
    input_gradient_part(second, shape.second_channels, shape.batch, shape.pixels, dz, dz_factor, x_factor, term, addend,
                        second_dx, nullptr, channels, shape.first_channels);
  }
  if (sums != nullptr) add_pieces(workspace, shape.batch, pieces_of(shape.pixels), shape.first_channels, sums);
}

// Sums over the pixels of each image, [batch][channels].
template <typename T>
void pixel_sums(const T* x, int64_t batch, int64_t pixels, int64_t channels, float* sums, float* workspace) {
  for_each_piece(batch, pixels, [&](int64_t image, int64_t first, int64_t last, int64_t piece) {
    for_each_vector(channels, [&]<int64_t unroll>(int64_t c, int64_t left) {
      Vec sum[unroll];
      for (int64_t u = 0; u < unroll; ++u) sum[u] = Vec{};
      for (int64_t p = first; p < last; ++p) {
        for (int64_t u = 0; u < unroll; ++u) {
          sum[u] += load_some(x + (image * pixels + p) * channels + c + u * kLanes, left);
        }
      }
      for (int64_t u = 0; u < unroll; ++u) store_some(workspace + piece * channels + c + u * kLanes, sum[u], left);
    });
  });
  add_pieces(workspace, batch, pieces_of(pixels), channels, sums);
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
