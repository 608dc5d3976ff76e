// 3x3 convolutions of stride 1 with a border of zeros, on NHWC images: forward, and the gradients of input and weights,
// as Winograd's F(4x4, 3x3). The tiles of an image are 4x4 outputs, which see 6x6 inputs; at each of the 36 points a
// matrix product over channels remains, a quarter of the multiplications of the direct convolution.
#pragma once

#include "kernels/matmul.h"
#include "kernels/winograd.h"

namespace trislot::TRISLOT_ISA {
namespace {

// Bytes of transformed input and of products that a thread works on at a time: most of a second-level cache.
constexpr int64_t kBlockBytes = 512 * 1024;
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

typedef Vec Window[kWindow][kWindow];

// To each point a word with its values in all windows.
template <typename Values>
TRISLOT_INLINE void store_points(const Window (&windows)[Values::kDeep], typename Values::Word* to,
                                 int64_t point_stride) {
  for (int p = 0; p < kPoints; ++p) {
    Vec values[Values::kDeep];
    for (int64_t i = 0; i < Values::kDeep; ++i) values[i] = windows[i][p / kWindow][p % kWindow];
    Values::store(to + p * point_stride, values);
  }
}

// B^T x B of kLanes channels of one tile from channel c on.
template <typename T>
TRISLOT_INLINE void input_at(const T* const (&pixels)[kPoints], int64_t c, int64_t channels, Window& transformed) {
  Window in;
  if (channels - c >= kLanes) {
    for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load(pixels[p] + c);
  } else {
    for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load_some(pixels[p] + c, channels - c);
  }
  transform_2d(in, transformed, input_1d);
}

// A y A^T of kLanes channels of one tile of output gradients from channel c on.
template <typename T>
TRISLOT_INLINE void output_gradient_at(const T* gradient, const int64_t (&offsets)[kTile * kTile], int64_t c,
                                       int64_t channels, Window& transformed) {
  Vec in[kTile][kTile];
  for (int p = 0; p < kTile * kTile; ++p) {
    const int64_t offset = offsets[p], left = channels - c;
    in[p / kTile][p % kTile] = offset < 0 || left <= 0 ? Vec{} : load_some(gradient + offset * channels + c, left);
  }
  transform_2d(in, transformed, output_adjoint_1d);
}

// V of one tile; point p of channel c goes to out[p * point_stride + c].
template <typename T, typename Input>
void transform_input(const T* const (&pixels)[kPoints], int64_t channels, Input* out, int64_t point_stride) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    Window transformed;
    input_at(pixels, c, channels, transformed);
    for (int p = 0; p < kPoints; ++p) store(out + p * point_stride + c, transformed[p / kWindow][p % kWindow]);
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

// Distance of two points of a panel in transformed weights, in words: one line more than a power of two, so that the
// points do not meet in one set of the cache.
int64_t weight_stride(int64_t words) { return words * kPanel + kLanes; }

// Tiles that a thread takes at a time: what fits into its cache, but several blocks a thread where there are so many.
int64_t block_tiles(int64_t tile_bytes, int64_t tiles) {
  const int64_t fit = kBlockBytes / tile_bytes;
  const int64_t even = (tiles + kBlocks - 1) / kBlocks, most = fit < even ? fit : even;
  return most < kBlockRows ? kBlockRows : most;
}

constexpr int64_t kTaps = 9;
typedef Vec Taps[kLanes * kTaps];  // of kLanes rows, [row][tap]; the lanes are columns

// w[column][row][3][3] (or w[row][column][3][3] turned by 180 degrees, which is the weight of the convolution that
// carries gradients back) of some rows and columns; zeros where there are none.
inline void load_taps(const Weight3x3& weight, int64_t first_row, int64_t first_column, Taps& taps) {
  const int64_t rows = weight.rows, columns = weight.columns;
  Vec square[kLanes];
  if (!weight.turned) {
    for (int64_t i = 0; i < kTaps; ++i) {
      const int64_t at = first_row * kTaps + i * kLanes, left = rows * kTaps - at;
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t column = first_column + l;
        square[l] = column < columns && left > 0 ? load_some(weight.data + column * rows * kTaps + at, left) : Vec{};
      }
      transpose(square);
      for (int64_t j = 0; j < kLanes; ++j) taps[i * kLanes + j] = square[j];
    }
    return;
  }
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t row = first_row + i;
    for (int64_t tap = 0; tap < kTaps; tap += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t column = first_column + l;
        const bool inside = row < rows && column < columns;
        square[l] = inside ? load_some(weight.data + (row * columns + column) * kTaps + tap, kTaps - tap) : Vec{};
      }
      transpose(square);
      for (int64_t j = 0; j < kLanes && tap + j < kTaps; ++j) taps[(i + 1) * kTaps - 1 - tap - j] = square[j];
    }
  }
}

// To dw[column][row][3][3].
inline void store_taps(Taps& taps, int64_t first_row, int64_t rows, int64_t first_column, int64_t columns, float* dw) {
  for (int64_t i = 0; i < kTaps; ++i) {
    const int64_t at = first_row * kTaps + i * kLanes, left = rows * kTaps - at;
    if (left <= 0) break;
    auto& square = *reinterpret_cast<Vec(*)[kLanes]>(taps + i * kLanes);
    transpose(square);
    for (int64_t l = 0; l < kLanes && first_column + l < columns; ++l) {
      store_some(dw + (first_column + l) * rows * kTaps + at, square[l], left);
    }
  }
}

// U of one panel, [point][word][kPanel].
template <typename Values>
void transform_panel(const Weight3x3& weight, int64_t panel, typename Values::Word* out) {
  const int64_t words = words_of<Values>(weight.rows);
  for (int64_t first_row = 0; first_row < weight.rows; first_row += kLanes) {
    for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
      Taps taps;
      load_taps(weight, first_row, panel * kPanel + lane, taps);
      for (int64_t row = 0; row < kLanes && first_row + row < weight.rows; row += Values::kDeep) {
        Window transformed[Values::kDeep];
        for (int64_t i = 0; i < Values::kDeep; ++i) {
          Vec in[3][3];
          for (int64_t tap = 0; tap < kTaps; ++tap) in[tap / 3][tap % 3] = taps[(row + i) * kTaps + tap];
          transform_2d(in, transformed[i], weight_1d);
        }
        store_points<Values>(transformed, out + (first_row + row) / Values::kDeep * kPanel + lane,
                             weight_stride(words));
      }
    }
  }
}

template <typename Values>
int64_t panel_words(int64_t rows) {
  return kPoints * weight_stride(words_of<Values>(rows));
}

template <typename Values>
int64_t transformed_size(int64_t rows, int64_t columns) {
  return panels_of(columns) * panel_words<Values>(rows);
}

template <typename Values>
void transform_weight(const Weight3x3& weight, float* out) {
  auto* words = reinterpret_cast<typename Values::Word*>(out);
  in_parallel(panels_of(weight.columns), [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t panel = begin; panel < end; ++panel) {
      transform_panel<Values>(weight, panel, words + panel * panel_words<Values>(weight.rows));
    }
  });
}

// How a convolution is cut up. By tiles: a thread transforms some tiles of the input and takes them through all
// weights, which were transformed before. By panels, where there are few tiles: all input is transformed first, then a
// thread transforms the weights of some output channels, which stay in its cache, and takes all tiles through them.
template <typename Values>
struct ConvPlan {
  ConvPlan(const Conv3x3Shape& shape, bool weights_are_ready)
      : tiles(Tiles(shape).count),
        panels(panels_of(shape.out_channels)),
        words(words_of<Values>(shape.in_channels)),
        depth(rounded_up(shape.in_channels, kLanes)),
        panel(panel_words<Values>(shape.in_channels)) {
    constexpr int64_t value = sizeof(typename Values::Input), word = sizeof(float);
    by_panel = panels > 1 && tiles < 4 * kBlockRows;
    block = by_panel ? tiles : block_tiles(kPoints * (depth * value + kPanel * word), tiles);
    // One line more than a multiple of a page, so that the points of a tile do not meet in one set of the cache.
    input_stride = (by_panel ? tiles : block) * depth + kLanes * word / value;
    product_stride = block * kPanel + kLanes;
    inputs = kPoints * input_stride * value / word;
    shared = by_panel ? inputs : weights_are_ready ? 0 : panels * panel;
    each_thread = kPoints * product_stride + (by_panel ? panel : inputs);
  }

  int64_t tiles, panels, words, depth, panel, block, input_stride, product_stride;
  bool by_panel;
  int64_t inputs, shared, each_thread;  // words of the workspace
};

template <typename Values>
int64_t conv_workspace(const Conv3x3Shape& shape, bool weights_are_ready, int64_t threads) {
  const ConvPlan<Values> plan(shape, weights_are_ready);
  return plan.shared + threads * plan.each_thread;
}

template <typename Values, typename T>
void forward(const Conv3x3Shape& shape, const T* x, const Weight3x3& weight, const float* ready_weight,
             const float* bias, int64_t bias_stride, const T* addend, T* y, const T* zeros, float* workspace) {
  typedef typename Values::Input Input;
  typedef typename Values::Word Word;
  const Tiles tiles(shape);
  const ConvPlan<Values> plan(shape, ready_weight != nullptr);
  const Word* ready = reinterpret_cast<const Word*>(ready_weight);
  float* threads = workspace + plan.shared;

  const auto transform_tile = [&](int64_t tile, Input* to) {
    const T* pixels[kPoints];
    tiles.window(x, shape.in_channels, tile, zeros, pixels);
    transform_input(pixels, shape.in_channels, to, plan.input_stride);
  };
  // One panel of the output of `count` tiles, whose transformed inputs are given.
  const auto multiply = [&](int64_t begin, int64_t count, const Input* inputs, int64_t panel, const Word* weights,
                            float* products) {
    for (int64_t point = 0; point < kPoints; ++point) {
      const Left<Values> left = {inputs + point * plan.input_stride, plan.depth, Values::kDeep};
      panel_product<false>(count, left, weights + point * weight_stride(plan.words), plan.words,
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
    Input* inputs = reinterpret_cast<Input*>(workspace);
    in_parallel(plan.tiles, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t tile = first; tile < last; ++tile) transform_tile(tile, inputs + tile * plan.depth);
    });
    in_parallel(plan.panels, [&](int64_t first, int64_t last, int64_t thread) {
      float* products = threads + thread * plan.each_thread;
      Word* own = reinterpret_cast<Word*>(products + kPoints * plan.product_stride);
      for (int64_t panel = first; panel < last; ++panel) {
        if (ready == nullptr) transform_panel<Values>(weight, panel, own);
        multiply(0, plan.tiles, inputs, panel, ready == nullptr ? own : ready + panel * plan.panel, products);
      }
    });
    return;
  }
  if (ready == nullptr) transform_weight<Values>(weight, workspace);
  const Word* weights = ready == nullptr ? reinterpret_cast<const Word*>(workspace) : ready;
  in_parallel((plan.tiles + plan.block - 1) / plan.block, [&](int64_t first, int64_t last, int64_t thread) {
    float* products = threads + thread * plan.each_thread;
    Input* inputs = reinterpret_cast<Input*>(products + kPoints * plan.product_stride);
    for (int64_t begin = first * plan.block; begin < last * plan.block && begin < plan.tiles; begin += plan.block) {
      const int64_t count = plan.tiles - begin < plan.block ? plan.tiles - begin : plan.block;
      for (int64_t tile = 0; tile < count; ++tile) transform_tile(begin + tile, inputs + tile * plan.depth);
      for (int64_t panel = 0; panel < plan.panels; ++panel) {
        multiply(begin, count, inputs, panel, weights + panel * plan.panel, products);
      }
    }
  });
}

// Tiles of a chunk, a multiple of Values::kDeep.
template <typename Values>
int64_t chunk_tiles(const Conv3x3Shape& shape, int64_t tiles) {
  const int64_t row = rounded_up(shape.in_channels, kLanes) + rounded_up(shape.out_channels, kPanel);
  const int64_t fit = kChunkBytes / (kPoints * row * static_cast<int64_t>(sizeof(typename Values::Input)));
  const int64_t sums = 2 * Values::kDeep * shape.in_channels * rounded_up(shape.out_channels, kPanel) / row;
  const int64_t most = fit < sums ? sums : fit;
  const int64_t chunks = (tiles + most - 1) / most;
  return rounded_up(chunks == 0 ? 1 : (tiles + chunks - 1) / chunks, Values::kDeep);
}

// Both factors as [word of tiles][channel].
template <typename Values>
struct GradientSpace {
  explicit GradientSpace(const Conv3x3Shape& shape)
      : most(chunk_tiles<Values>(shape, Tiles(shape).count)),
        depth(rounded_up(shape.in_channels, kLanes)),
        input_stride(most / Values::kDeep * depth + kLanes),
        panel_points(most / Values::kDeep * kPanel + kLanes),
        inputs(kPoints * input_stride),
        outputs(panels_of(shape.out_channels) * kPoints * panel_points),
        sums(panels_of(shape.out_channels) * kPoints * weight_stride(shape.in_channels)) {}
  int64_t most, depth, input_stride, panel_points, inputs, outputs, sums;
};

// dw = G^T [sum over tiles of V^T Z] G
template <typename Values, typename T>
void weight_gradient(const Conv3x3Shape& shape, const T* x, const T* gradient, float* weight_gradient_out,
                     const T* zeros, float* workspace) {
  typedef typename Values::Word Word;
  constexpr int64_t kDeep = Values::kDeep;
  const Tiles tiles(shape);
  const GradientSpace<Values> space(shape);
  const int64_t panels = panels_of(shape.out_channels), rows = shape.in_channels;
  Word* inputs = reinterpret_cast<Word*>(workspace);
  Word* outputs = inputs + space.inputs;
  float* sums = workspace + space.inputs + space.outputs;
  for (int64_t begin = 0; begin < tiles.count; begin += space.most) {
    const int64_t count = tiles.count - begin < space.most ? tiles.count - begin : space.most;
    const int64_t words = words_of<Values>(count);
    in_parallel(words, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t word = first; word < last; ++word) {
        const T* pixels[kDeep][kPoints];
        int64_t offsets[kDeep][kTile * kTile] = {}, image;
        const int64_t tile = begin + word * kDeep,
                      members = count - word * kDeep < kDeep ? count - word * kDeep : kDeep;
        for (int64_t i = 0; i < members; ++i) {
          tiles.window(x, shape.in_channels, tile + i, zeros, pixels[i]);
          tiles.outputs(tile + i, offsets[i], image);
        }
        Window transformed[kDeep] = {};
        for (int64_t c = 0; c < shape.in_channels; c += kLanes) {
          for (int64_t i = 0; i < members; ++i) input_at(pixels[i], c, shape.in_channels, transformed[i]);
          store_points<Values>(transformed, inputs + word * space.depth + c, space.input_stride);
        }
        for (int64_t c = 0; c < rounded_up(shape.out_channels, kPanel); c += kLanes) {
          for (int64_t i = 0; i < members; ++i) {
            output_gradient_at(gradient, offsets[i], c, shape.out_channels, transformed[i]);
          }
          Word* to = outputs + c / kPanel * kPoints * space.panel_points + word * kPanel + c % kPanel;
          store_points<Values>(transformed, to, space.panel_points);
        }
      }
    });
    in_parallel(kPoints * panels, [&](int64_t first, int64_t last, int64_t) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t point = i / panels, panel = i % panels;
        const auto* columns = reinterpret_cast<const typename Values::Input*>(inputs + point * space.input_stride);
        const Left<Values> left = {columns, kDeep, kDeep * space.depth};
        const auto multiply = begin == 0 ? panel_product<false, Values> : panel_product<true, Values>;
        multiply(rows, left, outputs + (panel * kPoints + point) * space.panel_points, words,
                 sums + (panel * kPoints + point) * weight_stride(rows), kPanel);
      }
    });
  }
  const int64_t row_blocks = (rows + kLanes - 1) / kLanes;
  in_parallel(panels * row_blocks, [&](int64_t first, int64_t last, int64_t) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t panel = i / row_blocks, first_row = i % row_blocks * kLanes;
      for (int64_t lane = 0; lane < kPanel && panel * kPanel + lane < shape.out_channels; lane += kLanes) {
        Taps all_taps = {};
        for (int64_t row = first_row; row < first_row + kLanes && row < rows; ++row) {
          Window in;
          Vec taps[3][3];
          const float* from = sums + panel * kPoints * weight_stride(rows) + row * kPanel + lane;
          for (int p = 0; p < kPoints; ++p) in[p / kWindow][p % kWindow] = load(from + p * weight_stride(rows));
          transform_2d(in, taps, weight_adjoint_1d);
          for (int64_t tap = 0; tap < kTaps; ++tap) all_taps[(row - first_row) * kTaps + tap] = taps[tap / 3][tap % 3];
        }
        store_taps(all_taps, first_row, rows, panel * kPanel + lane, shape.out_channels, weight_gradient_out);
      }
    }
  });
}

template <typename Values>
int64_t gradient_workspace(const Conv3x3Shape& shape) {
  const GradientSpace<Values> space(shape);
  return space.inputs + space.outputs + space.sums;
}

}  // namespace
}  // namespace trislot::TRISLOT_ISA
