// Compiled once for each instruction set, with the flags of that set; defines its table.
#include "kernels/attention.h"
#include "kernels/conv3x3.h"
#include "kernels/matmul.h"
#include "kernels/norm_act.h"
#include "kernels/table.h"
#include "kernels/update.h"
#include "kernels/windows.h"

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

// How the factors of products of images T lie in memory, where their depth allows it.
template <typename T>
struct Factors {
  typedef Floats Values;
};
#ifdef __AVX512BF16__
template <>
struct Factors<BFloat16> {
  typedef Pairs Values;
};
#endif

template <typename T>
constexpr bool fits(int64_t depth) {
  return depth % Factors<T>::Values::kDeep == 0;
}

// Winograd's products forward are float32's whatever the images: at its points, bfloat16 would double the error of a
// network's output. In the gradients it costs about what LibTorch's own rounding does (docs/performance.md).
template <typename T>
void conv_any(const Conv3x3Shape& shape, const T* x, const Weight3x3& weight, const float* ready, const float* bias,
              int64_t bias_stride, const T* addend, T* y, const T* zeros, float* workspace) {
  const auto run = weight.turned ? forward<typename Factors<T>::Values, T> : forward<Floats, T>;
  run(shape, x, weight, ready, bias, bias_stride, addend, y, zeros, workspace);
}

template <typename T>
int64_t conv_workspace_any(const Conv3x3Shape& shape, bool turned, bool weights_are_ready, int64_t threads) {
  const auto count = turned ? conv_workspace<typename Factors<T>::Values> : conv_workspace<Floats>;
  return count(shape, weights_are_ready, threads);
}

template <typename T>
void product_any(const ProductShape& shape, const T* a, int64_t a_stride, const float* b, int64_t b_depth,
                 int64_t b_column, const float* bias, const T* addend, T* c, int64_t c_stride, float* packed,
                 float* workspace, int64_t thread_stride) {
  const auto run = fits<T>(shape.depth) ? product<typename Factors<T>::Values, T> : product<Floats, T>;
  run(shape, a, a_stride, b, b_depth, b_column, bias, addend, c, c_stride, packed, workspace, thread_stride);
}

template <typename T>
void attention_any(const AttentionShape& shape, const T* qkv, T* out, float* workspace, int64_t thread_stride) {
  const auto run = fits<T>(shape.width) ? attention<typename Factors<T>::Values, T> : attention<Floats, T>;
  run(shape, qkv, out, workspace, thread_stride);
}

template <typename T>
void attention_gradient_any(const AttentionShape& shape, const T* qkv, const T* gradient, T* d_qkv, float* workspace,
                            int64_t thread_stride) {
  const auto run =
      fits<T>(shape.width) ? attention_gradient<typename Factors<T>::Values, T> : attention_gradient<Floats, T>;
  run(shape, qkv, gradient, d_qkv, workspace, thread_stride);
}

template <typename T>
constexpr ImageKernels<T> image_kernels() {
  typedef typename Factors<T>::Values Values;
  return {conv_any<T>,
          conv_workspace_any<T>,
          weight_gradient<Values, T>,
          gradient_workspace<Values>,
          moments<T>,
          apply_any<T>,
          gradient_any<T>,
          input_gradient<T>,
          product_any<T>,
          outer_sum<Values, T>,
          attention_any<T>,
          attention_gradient_any<T>,
          gather_windows<T>,
          add_windows<T>,
          pixel_sums<T>};
}

int64_t piece_floats(int64_t batch, int64_t pixels, int64_t channels) { return batch * pieces_of(pixels) * channels; }

}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = {
    TRISLOT_TEXT(TRISLOT_ISA),
    image_kernels<float>(),
    image_kernels<BFloat16>(),
    transformed_size<Floats>,
    transform_weight<Floats>,
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
