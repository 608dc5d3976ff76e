// Shapes of the operators for which C++ LibTorch has no kernel on its meta device (Python registers its own), so that
// shapes and devices of a whole training step can be checked without computing it.
#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

namespace trislot {
namespace {

using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

at::Tensor like_or_undefined(bool wanted, const at::Tensor& tensor) {
  return wanted ? at::empty_like(tensor) : at::Tensor();
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>&,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool, at::IntArrayRef,
                       int64_t) {
  std::vector<int64_t> shape = {input.size(0), weight.size(0)};
  for (int64_t i = 2; i < input.dim(); ++i) {
    const auto reach = dilation[i - 2] * (weight.size(i) - 1) + 1;
    shape.push_back((input.size(i) + 2 * padding[i - 2] - reach) / stride[i - 2] + 1);
  }
  return at::empty(shape, input.options());
}

Three convolution_backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                           at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, bool, at::IntArrayRef, int64_t,
                           std::array<bool, 3> wanted) {
  return {like_or_undefined(wanted[0], input), like_or_undefined(wanted[1], weight),
          wanted[2] ? at::empty({grad_output.size(1)}, grad_output.options()) : at::Tensor()};
}

Three group_norm(const at::Tensor& input, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                 int64_t count, int64_t, int64_t, int64_t groups, double) {
  const auto statistics = at::empty({count, groups}, input.options());
  return {at::empty_like(input), statistics, at::empty_like(statistics)};
}

Three group_norm_backward(const at::Tensor&, const at::Tensor& input, const at::Tensor&, const at::Tensor&,
                          const std::optional<at::Tensor>& weight, int64_t, int64_t channels, int64_t, int64_t,
                          std::array<bool, 3> wanted) {
  const auto options = weight ? weight->options() : input.options();
  return {like_or_undefined(wanted[0], input), wanted[1] ? at::empty({channels}, options) : at::Tensor(),
          wanted[2] ? at::empty({channels}, options) : at::Tensor()};
}

at::Tensor& where_out(const at::Tensor& condition, const at::Tensor& yes, const at::Tensor& no, at::Tensor& out) {
  out.resize_(at::infer_size(condition.sizes(), at::infer_size(yes.sizes(), no.sizes())));
  return out;
}

at::Tensor where(const at::Tensor& condition, const at::Tensor& yes, const at::Tensor& no) {
  auto out = at::empty({0}, yes.options());
  return where_out(condition, yes, no, out);
}

}  // namespace
}  // namespace trislot

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("convolution_overrideable", TORCH_FN(trislot::convolution));
  library.impl("convolution_backward_overrideable", TORCH_FN(trislot::convolution_backward));
  library.impl("where.self", TORCH_FN(trislot::where));
  library.impl("where.self_out", TORCH_FN(trislot::where_out));
  library.impl("native_group_norm", TORCH_FN(trislot::group_norm));
  library.impl("native_group_norm_backward", TORCH_FN(trislot::group_norm_backward));
}
