// What the kernels offer, as one table of functions for each instruction set. Raw pointers and C headers only, because
// this header is compiled with every instruction set (see simd.h). Images are NHWC and contiguous. T is float or
// BFloat16, the type in which images lie in memory. Arithmetic is float32, but for products of bfloat16 images where
// the processor multiplies pairs of bfloat16 (matmul.h): these round their factors, and add in float32.
#pragma once

#include <stdint.h>

namespace trislot {

// bfloat16 as it lies in memory.
struct BFloat16 {
  uint16_t bits;
};

// A 3x3 convolution of stride 1 with a border of zeros.
struct Conv3x3Shape {
  int64_t batch, height, width, in_channels, out_channels;
};

// The weight of a 3x3 convolution with `rows` input and `columns` output channels: [columns][rows][3][3]; or `turned`,
// [rows][columns][3][3], as the convolution that carries gradients back sees it.
struct Weight3x3 {
  const float* data;
  int64_t rows, columns;
  bool turned;
};

// Normalised images, whose channels may lie in two tensors: those of the first, then those of the second.
struct NormShape {
  int64_t batch, pixels, first_channels, second_channels, groups;
};

// A product of matrices [rows][depth] and [depth][columns].
struct ProductShape {
  int64_t rows, depth, columns;
};

// Images whose 3x3 windows begin at every second pixel, in a border of zeros: ceil(height / 2) x ceil(width / 2)
// windows.
struct WindowShape {
  int64_t batch, height, width, channels;
};

// q, k, v of all heads in each row [positions][3 * heads * width]: all q, then all k, then all v if `type_major`,
// otherwise head by head.
struct AttentionShape {
  int64_t batch, positions, heads, width;
  bool type_major;
};

template <typename T>
struct ImageKernels {
  // y = conv(x) + bias + addend. `ready` is a weight that is not turned as transform_weight gives it, or null; bias may
  // differ between images (bias_stride 0: it does not) and may be null, as may addend; `zeros` holds in_channels zeros;
  // workspace: conv_workspace(shape, turned, ready != null, threads) floats.
  void (*conv)(const Conv3x3Shape& shape, const T* x, const Weight3x3& weight, const float* ready, const float* bias,
               int64_t bias_stride, const T* addend, T* y, const T* zeros, float* workspace);
  int64_t (*conv_workspace)(const Conv3x3Shape& shape, bool turned, bool weights_are_ready, int64_t threads);

  // dw [out][in][3][3] from x and the gradient of y; workspace: conv_gradient_workspace(shape) floats.
  void (*conv_weight_gradient)(const Conv3x3Shape& shape, const T* x, const T* gradient, float* dw, const T* zeros,
                               float* workspace);
  int64_t (*conv_gradient_workspace)(const Conv3x3Shape& shape);

  // Mean and 1 / standard deviation of each group, [batch][groups]; workspace: 2 * piece_floats(shape).
  void (*moments)(const NormShape& shape, const T* first, const T* second, float tiny, float* mean, float* rstd,
                  float* workspace);

  // y = x * scale + shift, then SiLU if `activates`; scale, shift: [batch][channels].
  void (*apply)(const NormShape& shape, bool activates, const T* first, const T* second, const float* scale,
                const float* shift, T* y);

  // Replaces the gradient of y by that of z = x * scale + shift; sums [batch][2][channels] over the pixels of dz and of
  // dz * (x - mean), mean: [batch][channels]. workspace: 2 * piece_floats(shape).
  void (*apply_gradient)(const NormShape& shape, bool activates, const T* first, const T* second, const float* scale,
                         const float* shift, const float* mean, T* gradient, float* sums, float* workspace);

  // dx = dz * dz_factor + x * x_factor + term (+ addend), factors [batch][channels]; dx may be dz where there is one
  // part. sums [batch][first_channels] of dx over the pixels if not null. workspace: piece_floats(shape).
  void (*norm_gradient)(const NormShape& shape, const T* first, const T* second, const T* dz, const float* dz_factor,
                        const float* x_factor, const float* term, const T* addend, T* first_dx, T* second_dx,
                        float* sums, float* workspace);

  // c = a b + bias + addend; strides of rows for a, c and addend (which may be c); one of the strides of b is 1.
  // packed: packed_size(shape); workspace: threads * product_workspace(shape).
  void (*product)(const ProductShape& shape, const T* a, int64_t a_stride, const float* b, int64_t b_depth,
                  int64_t b_column, const float* bias, const T* addend, T* c, int64_t c_stride, float* packed,
                  float* workspace, int64_t thread_stride);

  // c[rows][columns] = sum over depth of a[k][rows] b[k][columns]; workspace: threads * outer_sum_workspace(shape).
  void (*outer_sum)(const ProductShape& shape, const T* a, int64_t a_stride, const T* b, int64_t b_stride, float* c,
                    int64_t c_stride, float* workspace, int64_t thread_stride);

  // softmax(q k^T / sqrt(width)) v -> [positions][heads * width]; workspace: threads * attention_workspace(shape).
  void (*attention)(const AttentionShape& shape, const T* qkv, T* out, float* workspace, int64_t thread_stride);
  void (*attention_gradient)(const AttentionShape& shape, const T* qkv, const T* gradient, T* d_qkv, float* workspace,
                             int64_t thread_stride);

  // All windows, [batch][rows of windows][columns of windows][9][channels].
  void (*gather_windows)(const WindowShape& shape, const T* x, T* windows);

  // The adjoint: to each pixel the sum of what it is in all windows.
  void (*add_windows)(const WindowShape& shape, const T* windows, T* x);

  // Sums over the pixels, [batch][channels]; workspace: piece_floats of that shape.
  void (*pixel_sums)(const T* x, int64_t batch, int64_t pixels, int64_t channels, float* sums, float* workspace);
};

// One tensor of weights and what belongs to it; all float32 of the same length.
struct WeightPart {
  float* weight;
  const float* gradient;
  float* exp_avg;
  float* exp_avg_sq;
  int64_t count;
  bool decays;
};

struct AdamStep {
  double lr, beta1, beta2, tiny, weight_decay;
  double correction1, correction2;  // 1 - beta^step
  double gradient_factor;           // of clipping
};

struct KernelTable {
  const char* name;
  ImageKernels<float> float32;
  ImageKernels<BFloat16> bfloat16;

  // Elements of a transformed weight with `rows` input and `columns` output channels.
  int64_t (*transformed_size)(int64_t rows, int64_t columns);

  void (*transform_weight)(const Weight3x3& weight, float* transformed);
  int64_t (*packed_size)(const ProductShape& shape);
  int64_t (*product_workspace)(const ProductShape& shape);
  int64_t (*outer_sum_workspace)(const ProductShape& shape);
  int64_t (*attention_workspace)(const AttentionShape& shape);
  int64_t (*piece_floats)(int64_t batch, int64_t pixels, int64_t channels);

  // AdamW (Loshchilov and Hutter, arXiv 1711.05101) on `weight_count` tensors, and averages[k][i] of tensor i, which
  // moves towards the new weight by 1 - rates[k]; one pass over memory.
  void (*adamw)(const WeightPart* parts, int64_t part_count, const AdamStep& step, float* const* const* averages,
                const double* rates, int64_t average_count);

  // Sum of squares of the gradients.
  double (*gradient_square)(const WeightPart* parts, int64_t part_count, double* workspace, int64_t workspace_count);
  int64_t (*gradient_square_workspace)(const WeightPart* parts, int64_t part_count);
};

}  // namespace trislot
