// 3x3 convolutions of stride 1 with a border of zeros, on NHWC images: forward, and the gradients of input and weights,
// as Winograd's F(4x4, 3x3). The tiles of an image are 4x4 outputs, which see 6x6 inputs; at each of the 36 points a
// matrix product over channels remains, a quarter of the multiplications of the direct convolution.
#pragma once

#include "kernels/matmul.h"
#include "kernels/table.h"
#include "kernels/winograd.h"

namespace trislot::TRISLOT_ISA {
namespace {

// Bytes of transformed input that a thread works on at a time: most of a second-level cache.
constexpr int64_t kBlockBytes = 448 * 1024;
constexpr int64_t kBlocks = 8;  // of a convolution at least, as far as the tiles go
// Bytes of transformed tiles of both factors of a weight gradient at a time; but not less than twice the sums, which
// are read and written for each chunk.
constexpr int64_t kChunkBytes = 2 * 1024 * 1024;

struct Tiles {
  explicit Tiles(const Conv3x3Shape& shape)
      : height(shape.height),
        width(shape.width),
        down((shape.height + kTile - 1) / kTile),
        across((shape.width + kTile - 1) / kTile),
        count(shape.batch * down * across) {}

  // Pointers to the window's pixels; those outside of the image point to zeros.
  template <typename T>
  void window(const T* images, int64_t channels, int64_t tile, const T* zeros, const T* (&pixels)[kPoints]) const {
    const int64_t image = tile / (down * across), place = tile % (down * across);
    const int64_t top = place / across * kTile - 1, left = place % across * kTile - 1;
    const T* base = images + image * height * width * channels;
    for (int64_t i = 0; i < kWindow; ++i) {
      for (int64_t j = 0; j < kWindow; ++j) {
        const int64_t row = top + i, column = left + j;
        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
        pixels[i * kWindow + j] = inside ? base + (row * width + column) * channels : zeros;
      }
    }
  }

  // Offsets of the tile's pixels from the first image, in pixels; -1 outside of the image.
  void outputs(int64_t tile, int64_t (&offsets)[kTile * kTile], int64_t& image) const {
    image = tile / (down * across);
    const int64_t place = tile % (down * across);
    const int64_t top = place / across * kTile, left = place % across * kTile;
    for (int64_t i = 0; i < kTile; ++i) {
      for (int64_t j = 0; j < kTile; ++j) {
        const bool inside = top + i < height && left + j < width;
        offsets[i * kTile + j] = inside ? (image * height + top + i) * width + left + j : -1;
      }
    }
  }

  int64_t height, width, down, across, count;
};

// V = B^T x B of one tile; point p of channel c goes to out[p * point_stride + c].
template <typename T>
void transform_input(const T* const (&pixels)[kPoints], int64_t channels, float* out, int64_t point_stride) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    Vec in[kWindow][kWindow], transformed[kWindow][kWindow];
    if (left >= kLanes) {
      for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load(pixels[p] + c);
    } else {
      for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load_some(pixels[p] + c, left);
    }
    transform_2d(in, transformed, input_1d);
    for (int p = 0; p < kPoints; ++p) store(out + p * point_stride + c, transformed[p / kWindow][p % kWindow]);
  }
}

// Z = A y A^T of one tile of output gradients, in panels: point p, column c of a panel at out[panel][p][c].
template <typename T>
void transform_output_gradient(const T* gradient, const int64_t (&offsets)[kTile * kTile], int64_t channels, float* out,
                               int64_t panel_stride, int64_t point_stride) {
  for (int64_t c = 0; c < rounded_up(channels, kPanel); c += kLanes) {
    const int64_t left = channels - c;
    Vec in[kTile][kTile], transformed[kWindow][kWindow];
    for (int p = 0; p < kTile * kTile; ++p) {
      const int64_t offset = offsets[p];
      in[p / kTile][p % kTile] = offset < 0 || left <= 0 ? Vec{} : load_some(gradient + offset * channels + c, left);
    }
    transform_2d(in, transformed, output_adjoint_1d);
    float* to = out + c / kPanel * panel_stride + c % kPanel;
    for (int p = 0; p < kPoints; ++p) store(to + p * point_stride, transformed[p / kWindow][p % kWindow]);
  }
}

// Y = A^T M A of one tile and one panel of output channels, plus bias and addend.
template <typename T>
void transform_products(const float* products, int64_t point_stride, const int64_t (&offsets)[kTile * kTile],
                        int64_t channels, int64_t first, const float* bias, const T* addend, T* out) {
  for (int64_t c = first; c < first + kPanel && c < channels; c += kLanes) {
    const int64_t left = channels - c;
    Vec in[kWindow][kWindow], result[kTile][kTile];
    for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load(products + p * point_stride + c - first);
    transform_2d(in, result, output_1d);
    const Vec offset_all = bias == nullptr ? Vec{} : load_some(bias + c, left);
    for (int p = 0; p < kTile * kTile; ++p) {
      if (offsets[p] < 0) continue;
      const int64_t at = offsets[p] * channels + c;
      Vec value = result[p / kTile][p % kTile] + offset_all;
      if (addend != nullptr) value += load_some(addend + at, left);
      store_some(out + at, value, left);
    }
  }
}

int64_t panels_of(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

// Distance of two points of a panel in transformed weights: one line more than a power of two, so that the points do
// not meet in one set of the cache.
int64_t weight_stride(int64_t rows) { return rows * kPanel + kLanes; }

// Tiles that a thread takes at a time: what fits into its cache, but several blocks a thread where there are so many.
int64_t block_tiles(int64_t in_channels, int64_t tiles) {
  const int64_t fit = kBlockBytes / (kPoints * rounded_up(in_channels, kLanes) * static_cast<int64_t>(sizeof(float)));
  const int64_t even = (tiles + kBlocks - 1) / kBlocks, most = fit < even ? fit : even;
  return most < kBlockRows ? kBlockRows : most;
}

// U = G w G^T of one panel, [point][row][kPanel], from w[column][row][3][3] (or w[row][column][3][3] turned by 180
// degrees, which is the weight of the convolution that carries gradients back).
void transform_panel(const Weight3x3& weight, int64_t panel, float* out) {
  const int64_t rows = weight.rows, columns = weight.columns;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
      float taps[9][kLanes];
      memset(taps, 0, sizeof taps);
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t column = panel * kPanel + lane + l;
        if (column >= columns) break;
        const float* from = weight.data + (weight.turned ? row * columns + column : column * rows + row) * 9;
        for (int tap = 0; tap < 9; ++tap) taps[weight.turned ? 8 - tap : tap][l] = from[tap];
      }
      Vec in[3][3], transformed[kWindow][kWindow];
      for (int tap = 0; tap < 9; ++tap) in[tap / 3][tap % 3] = load(taps[tap]);
      transform_2d(in, transformed, weight_1d);
      for (int p = 0; p < kPoints; ++p) {
        store(out + p * weight_stride(rows) + row * kPanel + lane, transformed[p / kWindow][p % kWindow]);
      }
    }
  }
}

int64_t panel_floats(int64_t rows) { return kPoints * weight_stride(rows); }
int64_t transformed_size(int64_t rows, int64_t columns) { return panels_of(columns) * panel_floats(rows); }

void transform_weight(const Weight3x3& weight, float* out) {
  in_parallel(panels_of(weight.columns), [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t panel = begin; panel < end; ++panel) {
      transform_panel(weight, panel, out + panel * panel_floats(weight.rows));
    }
  });
}

// How a convolution is cut up. By tiles: a thread transforms some tiles of the input and takes them through all
// weights, which were transformed before. By panels, where there are few tiles: all input is transformed first, then a
// thread transforms the weights of some output channels, which stay in its cache, and takes all tiles through them.
struct ConvPlan {
  ConvPlan(const Conv3x3Shape& shape, bool weights_are_ready)
      : tiles(shape.batch * ((shape.height + kTile - 1) / kTile) * ((shape.width + kTile - 1) / kTile)),
        panels(panels_of(shape.out_channels)),
        depth(rounded_up(shape.in_channels, kLanes)) {
    by_panel = panels > 1 && tiles < 4 * kBlockRows;
    block = by_panel ? tiles : block_tiles(shape.in_channels, tiles);
    // One line more than a multiple of a page, so that the points of a tile do not meet in one set of the cache.
    input_stride = (by_panel ? tiles : block) * depth + kLanes;
    product_stride = block * kPanel + kLanes;
    shared = by_panel ? kPoints * input_stride : weights_are_ready ? 0 : panels * panel_floats(shape.in_channels);
    each_thread = kPoints * product_stride + (by_panel ? panel_floats(shape.in_channels) : kPoints * input_stride);
  }

  int64_t tiles, panels, depth, block, input_stride, product_stride;
  bool by_panel;
  int64_t shared, each_thread;  // floats of the workspace
};

int64_t conv_workspace(const Conv3x3Shape& shape, bool weights_are_ready, int64_t threads) {
  const ConvPlan plan(shape, weights_are_ready);
  return plan.shared + threads * plan.each_thread;
}

template <typename T>
void forward(const Conv3x3Shape& shape, const T* x, const Weight3x3& weight, const float* ready, const float* bias,
             int64_t bias_stride, const T* addend, T* y, const T* zeros, float* workspace) {
  const Tiles tiles(shape);
  const ConvPlan plan(shape, ready != nullptr);
  float* threads = workspace + plan.shared;

  const auto transform_tile = [&](int64_t tile, float* to) {
    const T* pixels[kPoints];
    tiles.window(x, shape.in_channels, tile, zeros, pixels);
    transform_input(pixels, shape.in_channels, to, plan.input_stride);
  };
  // One panel of the output of `count` tiles, whose transformed inputs are given.
  const auto multiply = [&](int64_t begin, int64_t count, const float* inputs, int64_t panel, const float* weights,
                            float* products) {
    for (int64_t point = 0; point < kPoints; ++point) {
      panel_product<false>(count, inputs + point * plan.input_stride, plan.depth, 1,
                           weights + point * weight_stride(shape.in_channels), shape.in_channels,
                           products + point * plan.product_stride, kPanel);
    }
    for (int64_t tile = 0; tile < count; ++tile) {
      int64_t offsets[kTile * kTile], image;
      tiles.outputs(begin + tile, offsets, image);
      transform_products(products + tile * kPanel, plan.product_stride, offsets, shape.out_channels, panel * kPanel,
                         bias == nullptr ? nullptr : bias + image * bias_stride, addend, y);
    }
  };
  if (plan.by_panel) {
    in_parallel(plan.tiles, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t tile = first; tile < last; ++tile) transform_tile(tile, workspace + tile * plan.depth);
    });
    in_parallel(plan.panels, [&](int64_t first, int64_t last, int64_t thread) {
      float* products = threads + thread * plan.each_thread;
      float* own = products + kPoints * plan.product_stride;
      for (int64_t panel = first; panel < last; ++panel) {
        if (ready == nullptr) transform_panel(weight, panel, own);
        const float* weights = ready == nullptr ? own : ready + panel * panel_floats(shape.in_channels);
        multiply(0, plan.tiles, workspace, panel, weights, products);
      }
    });
    return;
  }
  if (ready == nullptr) transform_weight(weight, workspace);
  const float* weights = ready == nullptr ? workspace : ready;
  in_parallel((plan.tiles + plan.block - 1) / plan.block, [&](int64_t first, int64_t last, int64_t thread) {
    float* products = threads + thread * plan.each_thread;
    float* inputs = products + kPoints * plan.product_stride;
    for (int64_t begin = first * plan.block; begin < last * plan.block && begin < plan.tiles; begin += plan.block) {
      const int64_t count = plan.tiles - begin < plan.block ? plan.tiles - begin : plan.block;
      for (int64_t tile = 0; tile < count; ++tile) transform_tile(begin + tile, inputs + tile * plan.depth);
      for (int64_t panel = 0; panel < plan.panels; ++panel) {
        multiply(begin, count, inputs, panel, weights + panel * panel_floats(shape.in_channels), products);
      }
    }
  });
}

int64_t chunk_tiles(const Conv3x3Shape& shape, int64_t tiles) {
  const int64_t row = rounded_up(shape.in_channels, kLanes) + rounded_up(shape.out_channels, kPanel);
  const int64_t fit = kChunkBytes / (kPoints * row * static_cast<int64_t>(sizeof(float)));
  const int64_t sums = 2 * shape.in_channels * rounded_up(shape.out_channels, kPanel) / row;
  const int64_t most = fit < sums ? sums : fit;
  const int64_t chunks = (tiles + most - 1) / most;
  return chunks == 0 ? 1 : (tiles + chunks - 1) / chunks;
}

struct GradientSpace {
  explicit GradientSpace(const Conv3x3Shape& shape)
      : most(chunk_tiles(shape, Tiles(shape).count)),
        depth(rounded_up(shape.in_channels, kLanes)),
        input_stride(most * depth + kLanes),
        panel_points(most * kPanel + kLanes),
        inputs(kPoints * input_stride),
        outputs(panels_of(shape.out_channels) * kPoints * panel_points),
        sums(panels_of(shape.out_channels) * kPoints * weight_stride(shape.in_channels)) {}
  int64_t most, depth, input_stride, panel_points, inputs, outputs, sums;
};

// dw = G^T [sum over tiles of V^T Z] G
template <typename T>
void weight_gradient(const Conv3x3Shape& shape, const T* x, const T* gradient, float* weight_gradient_out,
                     const T* zeros, float* workspace) {
  const Tiles tiles(shape);
  const GradientSpace space(shape);
  const int64_t panels = panels_of(shape.out_channels), rows = shape.in_channels;
  float* inputs = workspace;
  float* outputs = inputs + space.inputs;
  float* sums = outputs + space.outputs;
  for (int64_t begin = 0; begin < tiles.count; begin += space.most) {
    const int64_t count = tiles.count - begin < space.most ? tiles.count - begin : space.most;
    in_parallel(count, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t tile = first; tile < last; ++tile) {
        const T* pixels[kPoints];
        tiles.window(x, shape.in_channels, begin + tile, zeros, pixels);
        transform_input(pixels, shape.in_channels, inputs + tile * space.depth, space.input_stride);
        int64_t offsets[kTile * kTile], image;
        tiles.outputs(begin + tile, offsets, image);
        transform_output_gradient(gradient, offsets, shape.out_channels, outputs + tile * kPanel,
                                  kPoints * space.panel_points, space.panel_points);
      }
    });
    in_parallel(kPoints * panels, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        (begin == 0 ? panel_product<false>
                    : panel_product<true>)(rows, inputs + point * space.input_stride, 1, space.depth,
                                           outputs + (panel * kPoints + point) * space.panel_points, count,
                                           sums + (panel * kPoints + point) * weight_stride(rows), kPanel);
      }
    });
  }
  in_parallel(panels * rows, [&](int64_t first, int64_t last, int64_t) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t panel = i / rows, row = i % rows;
      for (int64_t lane = 0; lane < kPanel && panel * kPanel + lane < shape.out_channels; lane += kLanes) {
        Vec in[kWindow][kWindow], taps[3][3];
        for (int p = 0; p < kPoints; ++p) {
          in[p / kWindow][p % kWindow] = load(sums + (panel * kPoints + p) * weight_stride(rows) + row * kPanel + lane);
        }
        transform_2d(in, taps, weight_adjoint_1d);
        for (int64_t l = 0; l < kLanes; ++l) {
          const int64_t column = panel * kPanel + lane + l;
          if (column >= shape.out_channels) break;
          for (int tap = 0; tap < 9; ++tap)
            weight_gradient_out[(column * rows + row) * 9 + tap] = taps[tap / 3][tap % 3][l];
        }
      }
    }
  });
}

int64_t gradient_workspace(const Conv3x3Shape& shape) {
  const GradientSpace space(shape);
  return space.inputs + space.outputs + space.sums;
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
