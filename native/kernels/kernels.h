// The fast kernels as functions of tensors, without autograd. Images are logically [N, C, H, W] and lie in memory as
// NHWC (channels last); they are float32 or bfloat16, all else is float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <vector>

#include "kernels/table.h"

namespace trislot {

// Fast: own kernels where they apply (CPU, two dimensions, float32 or bfloat16). Plain: LibTorch's everywhere; the
// oracle of the tests.
enum class Kernels { Fast, Plain };

// The choice holds for the process; the environment variable TRISLOT_KERNELS=plain makes it at the start.
void choose_kernels(Kernels kernels);
Kernels chosen_kernels();

// The table for the instruction set that LibTorch uses (ATEN_CPU_CAPABILITY lowers it).
const KernelTable& kernel_table();

// For tests: all tables that this processor can run, and another choice from them.
std::vector<const KernelTable*> kernel_tables();
void choose_table(const KernelTable& table);

// Whether fast kernels are chosen and can read x.
bool has_fast_kernels(const at::Tensor& x);

namespace fast {

// The same values in NHWC order; x itself where it is so already.
at::Tensor nhwc(const at::Tensor& x);

// An image whose channels may lie in two tensors, as a skip connection and what it joins.
struct Parts {
  at::Tensor first, second;  // NHWC; second may be undefined

  int64_t channels() const { return first.size(1) + (second.defined() ? second.size(1) : 0); }
};

// A matrix of float32 that lies in a tensor, which outlives it; one of its strides is 1. Cheaper than a view.
struct Matrix {
  Matrix(const at::Tensor& weight);  // [rows, columns], or [rows, columns, ...ones]

  Matrix turned() const { return {data, columns, rows, column_stride, row_stride}; }
  Matrix columns_from(int64_t first, int64_t count) const {
    return {data + first * column_stride, rows, count, row_stride, column_stride};
  }

  float* data;
  int64_t rows, columns, row_stride, column_stride;

 private:
  Matrix(float* data, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride)
      : data(data), rows(rows), columns(columns), row_stride(row_stride), column_stride(column_stride) {}
};

// Mean and 1 / standard deviation of each group, [2, N, groups].
struct Moments {
  at::Tensor values;

  int64_t groups() const { return values.size(2); }
};
Moments moments(const Parts& x, int64_t groups);

// Normalisation as one multiplication and addition for each channel of each image: scale, shift and mean, [3, N, C].
struct Affine {
  at::Tensor values;
};

// weight, bias: [C] of the norm; scale_shift: [N, 2 C] of the embedding (y = norm(x) (1 + scale) + shift) or undefined.
Affine affine(const Moments& moments, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& scale_shift);

// act(x * scale + shift): SiLU if `activates`, otherwise nothing. [N, C, H, W] of x's type or `dtype`.
at::Tensor apply(const Parts& x, const Affine& affine, bool activates);

struct NormGradients {
  Parts x;
  at::Tensor weight, bias, scale_shift;  // [C], [C], [N, 2 C]
  at::Tensor x_sums;                     // [N, C] sums of the gradient of x.first over its pixels
};

// The way back through `apply` and the norm. `gradient` is overwritten, and becomes the gradient of x where x is one
// part; addend, if defined, is added to the gradient of x.
NormGradients apply_backward(at::Tensor gradient, const Parts& x, const Moments& moments, const Affine& affine,
                             const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& scale_shift,
                             bool activates, const at::Tensor& addend);

// A 3x3 weight at Winograd's points, kept from one forward pass to the next by networks that are not trained: sampling
// would otherwise transform the same weights at every step. It is four times as large as the weight; all together stay
// below 256 MiB.
struct PreparedWeight {
  at::Tensor transformed;
  uint32_t version = 0;  // of the weight
};

// Convolution with stride 1 and a border of zeros; bias: [C] or [N, C] or undefined; addend: an image of the output's
// shape or undefined, whose memory the result takes if `reuses_addend`.
at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& addend = {},
                   bool reuses_addend = false, PreparedWeight* prepared = nullptr);

// Gradient of x from that of y = conv3x3(x, weight).
at::Tensor conv3x3_input_gradient(const at::Tensor& gradient, const at::Tensor& weight);

// Gradient of the weight, [C_out, C_in, 3, 3] float32.
at::Tensor conv3x3_weight_gradient(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& weight);

// A 1x1 convolution, which is a product of matrices over pixels: x weight^T + bias + addend. x: [N, C_in, H, W], or
// [N, C_in] float32 as of a linear layer; weight: [C_out, C_in]; bias: [C_out] or undefined; addend, if defined, is
// overwritten by the result.
at::Tensor conv1x1(const at::Tensor& x, const Matrix& weight, const at::Tensor& bias, const at::Tensor& addend = {});

// Gradient of its weight, written to `result` [C_out, C_in].
void conv1x1_weight_gradient(const at::Tensor& x, const at::Tensor& gradient, const Matrix& result);

// A 3x3 convolution with stride 2 and a border of zeros; weight: [C_out, C_in, 3, 3], bias: [C_out].
at::Tensor conv3x3_down(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Gradient of x, an image of `height` x `width`, from that of y = conv3x3_down(x, weight).
at::Tensor conv3x3_down_input_gradient(const at::Tensor& gradient, const at::Tensor& weight, int64_t height,
                                       int64_t width);

// Gradient of the weight, [C_out, C_in, 3, 3] float32.
at::Tensor conv3x3_down_weight_gradient(const at::Tensor& x, const at::Tensor& gradient);

// Attention over the pixels of each image; qkv: [N, 3 C, H, W] -> [N, C, H, W].
at::Tensor attend(const at::Tensor& qkv, int64_t heads, bool type_major);
at::Tensor attend_backward(const at::Tensor& qkv, const at::Tensor& gradient, int64_t heads, bool type_major);

// Sums over the pixels of each image: [N, C].
at::Tensor pixel_sums(const at::Tensor& x);

// Sums over N: [N, C] float32 -> [C].
at::Tensor row_sum(const at::Tensor& rows);

}  // namespace fast
}  // namespace trislot
