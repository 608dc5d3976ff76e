#include "unet/attention.h"

#include <ATen/ATen.h>

namespace trislot {

Attention::Attention(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t channels,
                     int64_t head_count)
    : norm(list, name + ".norm", config.norm_groups, channels),
      qkv(list, name + ".qkv", /*dims=*/1, channels, 3 * channels, 1),
      proj_out(list, name + ".proj_out", /*dims=*/1, channels, channels, 1, 1, /*zero=*/true),
      head_count(head_count),
      type_major(config.use_new_attention_order) {
  TORCH_CHECK(head_count > 0 && channels % head_count == 0, name, ": expected a number of heads that divides ",
              channels, " channels, got ", head_count);
}

at::Tensor Attention::operator()(const at::Tensor& x) const {
  const auto flat = x.flatten(2);  // [N, C, S]
  const int64_t n = flat.size(0), channels = flat.size(1), positions = flat.size(2);
  const int64_t width = channels / head_count;

  const auto all = qkv(norm(flat));  // [N, 3C, S]
  const auto split = type_major ? all.view({n, 3, head_count, width, positions}).transpose(1, 2)
                                : all.view({n, head_count, 3, width, positions});
  const auto part = [&](int64_t i) { return split.select(2, i).transpose(2, 3).contiguous(); };  // [N, heads, S, width]

  // The default scale 1 / sqrt(width) is the product of the two factors that the original puts on q and k.
  const auto mixed = at::scaled_dot_product_attention(part(0), part(1), part(2));
  const auto h = proj_out(mixed.transpose(2, 3).reshape({n, channels, positions}));
  return (flat + h).view(x.sizes());
}

std::vector<at::Tensor> Attention::parameters() const {
  return {norm.weight, norm.bias, qkv.weight, qkv.bias, proj_out.weight, proj_out.bias};
}

}  // namespace trislot
