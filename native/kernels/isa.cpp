// Compiled once for each instruction set, with the flags of that set; defines its table.
#include "kernels/attention.h"
#include "kernels/conv3x3.h"
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
constexpr ImageKernels<T> image_kernels() {
  return {forward<T>,     weight_gradient<T>, moments<T>, apply_any<T>, gradient_any<T>,
          input_gradient<T>, product<T>, outer_sum<T>, attention<T>, attention_gradient<T>, pixel_sums<T>};
}

int64_t piece_floats(int64_t batch, int64_t pixels, int64_t channels) { return batch * pieces_of(pixels) * channels; }

}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = {
    TRISLOT_TEXT(TRISLOT_ISA), image_kernels<float>(), image_kernels<BFloat16>(), transformed_size,
    transform_weight,          forward_workspace,      gradient_workspace, packed_size, product_workspace, outer_sum_workspace, attention_workspace, piece_floats,
    adamw,                     gradient_square,        gradient_square_workspace,
};

}  // namespace trislot::TRISLOT_ISA
