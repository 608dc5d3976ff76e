#include "unet/blocks.h"

#include <ATen/ATen.h>

namespace trislot {

at::Tensor resize(const at::Tensor& x, Resize direction) {
  if (direction == Resize::None) return x;
  const bool up = direction == Resize::Up;
  switch (x.dim()) {
    case 3:
      return up ? at::upsample_nearest1d(x, {x.size(2) * 2}) : at::avg_pool1d(x, 2, 2);
    case 4:
      return up ? at::upsample_nearest2d(x, {x.size(2) * 2, x.size(3) * 2}) : at::avg_pool2d(x, {2, 2}, {2, 2});
    default:
      return up ? at::upsample_nearest3d(x, {x.size(2), x.size(3) * 2, x.size(4) * 2})
                : at::avg_pool3d(x, {1, 2, 2}, {1, 2, 2});
  }
}

Resample::Resample(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t channels,
                   Resize direction)
    : direction(direction) {
  if (!config.conv_resample) return;
  const bool up = direction == Resize::Up;
  conv.emplace(list, name + (up ? ".conv" : ".op"), config.dims, channels, channels, 3, up ? 1 : 2);
}

at::Tensor Resample::operator()(const at::Tensor& x) const {
  return conv ? (*conv)(conv_input(x)) : resize(x, direction);
}

at::Tensor Resample::conv_input(const at::Tensor& x) const {
  return direction == Resize::Up ? resize(x, direction) : x;
}

ResBlock::ResBlock(ParameterList& list, const std::string& name, const UNetConfig& config, int64_t in, int64_t out,
                   uint32_t layer, Resize direction)
    : direction(direction), scale_shift(config.use_scale_shift_norm), dropout(config.dropout), layer(layer) {
  const int64_t emb_channels = 4 * config.model_channels;
  in_norm = GroupNorm(list, name + ".in_layers.0", config.norm_groups, in);
  in_conv = Conv(list, name + ".in_layers.2", config.dims, in, out, 3);
  emb_proj = Linear(list, name + ".emb_layers.1", emb_channels, scale_shift ? 2 * out : out);
  out_norm = GroupNorm(list, name + ".out_layers.0", config.norm_groups, out);
  out_conv = Conv(list, name + ".out_layers.3", config.dims, out, out, 3, 1, /*zero=*/true);
  if (in != out) skip.emplace(list, name + ".skip_connection", config.dims, in, out, 1);
}

at::Tensor ResBlock::operator()(const at::Tensor& x, const at::Tensor& emb, const ForwardContext& context) const {
  auto h = resize(at::silu(in_norm(x)), direction);  // resized between the activation and the convolution
  h = in_conv(h);

  auto e = emb_proj(emb).to(h.scalar_type());
  std::vector<int64_t> shape(h.dim(), 1);
  shape[0] = e.size(0);
  shape[1] = e.size(1);
  e = e.view(shape);
  if (scale_shift) {
    const auto scale_and_shift = e.chunk(2, /*dim=*/1);
    h = out_norm(h) * (1 + scale_and_shift[0]) + scale_and_shift[1];
  } else {
    h = out_norm(h + e);
  }
  h = at::silu(h);
  if (context.training && dropout > 0) {
    // The mask is drawn from its key, so recomputing this block gives the same one. Meta tensors carry no values.
    const auto mask = h.is_meta() ? at::ones_like(h) : keyed_dropout_mask(h.sizes(), dropout, layer, context.dropout);
    h = (h * mask.to(h.device())).to(h.scalar_type());  // 1 / (1 - p) is not rounded to bfloat16
  }
  h = out_conv(h);

  const auto identity = resize(x, direction);
  return (skip ? (*skip)(identity) : identity) + h;
}

std::vector<at::Tensor> ResBlock::parameters() const {
  std::vector<at::Tensor> list = {in_norm.weight, in_norm.bias,    in_conv.weight, in_conv.bias,    emb_proj.weight,
                                  emb_proj.bias,  out_norm.weight, out_norm.bias,  out_conv.weight, out_conv.bias};
  if (skip) list.insert(list.end(), {skip->weight, skip->bias});
  return list;
}

}  // namespace trislot
