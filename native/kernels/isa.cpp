// Compiled once for each instruction set, with the flags of that set; defines its table.
#include "kernels/attention.h"
#include "kernels/conv3x3.h"
#include "kernels/matmul_bf16.h"
#include "kernels/norm_act.h"
#include "kernels/table.h"
#include "kernels/update.h"

#define TRISLOT_TEXT_OF(name) #name
#define TRISLOT_TEXT(name) TRISLOT_TEXT_OF(name)

namespace trislot::TRISLOT_ISA {
namespace {

template <typename T>
void apply_any(const NormShape& shape, bool activates, const T* first, const T* second, const float* scale,
               const float* shift, T* y) {
  (activates ? apply<true, T> : apply<false, T>)(shape, first, second, scale, shift, y);
}

template <typename T>
void gradient_any(const NormShape& shape, bool activates, const T* first, const T* second, const float* scale,
                  const float* shift, const float* mean, T* dz, float* sums, float* workspace) {
  (activates ? gradient<true, T> : gradient<false, T>)(shape, first, second, scale, shift, mean, dz, sums, workspace);
}

template <typename T>
void product_any(const ProductShape& shape, const T* a, int64_t a_stride, const float* b, int64_t b_depth,
                 int64_t b_column, const float* bias, const T* addend, T* c, int64_t c_stride, float* packed,
                 float* workspace, int64_t thread_stride) {
#ifdef __AVX512BF16__
  if constexpr (sizeof(T) == sizeof(BFloat16)) {
    if (shape.depth % 2 == 0) {
      return product_of_pairs(shape, a, a_stride, b, b_depth, b_column, bias, addend, c, c_stride, packed, workspace,
                              thread_stride);
    }
  }
#endif
  product(shape, a, a_stride, b, b_depth, b_column, bias, addend, c, c_stride, packed, workspace, thread_stride);
}

template <typename T>
void outer_sum_any(const ProductShape& shape, const T* a, int64_t a_stride, const T* b, int64_t b_stride, float* c,
                   int64_t c_stride, float* workspace, int64_t thread_stride) {
#ifdef __AVX512BF16__
  if constexpr (sizeof(T) == sizeof(BFloat16)) {
    return outer_sum_of_pairs(shape, a, a_stride, b, b_stride, c, c_stride, workspace, thread_stride);
  }
#endif
  outer_sum(shape, a, a_stride, b, b_stride, c, c_stride, workspace, thread_stride);
}

template <typename T>
constexpr ImageKernels<T> image_kernels() {
  return {forward<T>,     weight_gradient<T>, moments<T>,   apply_any<T>,          gradient_any<T>, input_gradient<T>,
          product_any<T>, outer_sum_any<T>,   attention<T>, attention_gradient<T>, pixel_sums<T>};
}

int64_t piece_floats(int64_t batch, int64_t pixels, int64_t channels) { return batch * pieces_of(pixels) * channels; }

}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = {
    TRISLOT_TEXT(TRISLOT_ISA),
    image_kernels<float>(),
    image_kernels<BFloat16>(),
    transformed_size,
    transform_weight,
    conv_workspace,
    gradient_workspace,
    packed_size,
    product_workspace,
    outer_sum_workspace,
    attention_workspace,
    piece_floats,
    adamw,
    gradient_square,
    gradient_square_workspace,
};

}  // namespace trislot::TRISLOT_ISA
