#include "unet/fast_blocks.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <utility>
#include <vector>

namespace trislot::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a block does, carried from the forward pass to the backward pass. `kept` are the tensors that forward gives to
// backward beside the inputs.
struct Block : torch::CustomClassHolder {
  using Tensors = variable_list;
  // inputs -> output; fills kept
  virtual at::Tensor forward(const Tensors& inputs, Tensors& kept) const = 0;
  // inputs, kept, gradient of the output -> gradients of the inputs; needed: of which of them, since that of a weight
  // costs as much as that of an image, and guidance wants none
  virtual Tensors backward(const Tensors& inputs, Tensors& kept, const at::Tensor& gradient,
                           const std::vector<bool>& needed) const = 0;

  // Weights that are being trained change with every step, so nothing is prepared of them.
  PreparedWeight* prepared(const Conv& layer) const { return trains ? nullptr : &layer.prepared; }
  bool trains = false;
};

// Autograd's view of a block: one node.
class Node : public torch::autograd::Function<Node> {
 public:
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Block>& block, at::TensorList inputs) {
    variable_list kept;
    const auto output = block->forward(inputs.vec(), kept);
    auto saved = inputs.vec();
    saved.insert(saved.end(), kept.begin(), kept.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["block"] = c10::IValue::make_capsule(block);
    context->saved_data["inputs"] = static_cast<int64_t>(inputs.size());
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto inputs = context->get_saved_variables();
    const auto count = context->saved_data["inputs"].toInt();
    variable_list kept(inputs.begin() + count, inputs.end());
    inputs.resize(count);
    const auto block = c10::static_intrusive_pointer_cast<Block>(context->saved_data["block"].toCapsule());
    std::vector<bool> needed(count);
    for (int64_t i = 0; i < count; ++i) needed[i] = context->needs_input_grad(i);
    c10::NoGradGuard no_grad;
    auto result = block->backward(inputs, kept, nhwc(gradients[0]), needed);
    result.insert(result.begin(), at::Tensor());  // of the block itself
    return result;
  }
};

template <typename Kind, typename... Arguments>
at::Tensor run(const variable_list& inputs, Arguments&&... arguments) {
  const c10::intrusive_ptr<Block> block = c10::make_intrusive<Kind>(std::forward<Arguments>(arguments)...);
  bool needs_gradient = false;
  for (const auto& input : inputs) needs_gradient = needs_gradient || input.requires_grad();
  block->trains = needs_gradient && c10::GradMode::is_enabled();
  if (block->trains) return Node::apply(block, at::TensorList(inputs));
  variable_list kept;
  return block->forward(inputs, kept);
}

// Of a 1x1 convolution or linear layer, in the weight's shape.
at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& weight) {
  const auto result = at::empty_like(weight);
  conv1x1_weight_gradient(x, gradient, result);
  return result;
}

at::Tensor resized(const at::Tensor& x, Resize direction) { return nhwc(resize(x, direction)); }

// The adjoint of `resize`: of the mean of 2 x 2 a quarter to each, of the nearest neighbour the sum.
at::Tensor resized_backward(const at::Tensor& gradient, Resize direction) {
  if (direction == Resize::None) return gradient;
  return direction == Resize::Down ? nhwc(resize(gradient, Resize::Up).mul_(0.25))
                                   : nhwc(resize(gradient, Resize::Down).mul_(4));
}

// h = conv_1(act(norm_1(x))), y = conv_2(act(norm_2(h))) + skip(x), with the embedding in between.
struct ResBlockNode : Block {
  ResBlockNode(const ResBlock& block, bool two_parts, const ForwardContext& context, bool recompute)
      : block(block), two_parts(two_parts), recompute(recompute), context(context) {}

  const ResBlock& block;
  bool two_parts, recompute;
  ForwardContext context;

  // first, [second], emb, emb_proj (2), in_norm (2), in_conv (2), out_norm (2), out_conv (2), [skip (2)]; places of
  // weights after that of emb
  static constexpr size_t kProj = 1, kInConv = 5, kOutConv = 9, kSkip = 11;
  struct Inputs {
    Parts x;
    at::Tensor emb, proj, proj_bias, in_weight, in_bias, in_conv, in_conv_bias, out_weight, out_bias, out_conv,
        out_conv_bias, skip, skip_bias;
  };
  Inputs named(const variable_list& in) const {
    size_t i = 0;
    Inputs named;
    named.x.first = in[i++];
    if (two_parts) named.x.second = in[i++];
    for (auto* tensor :
         {&named.emb, &named.proj, &named.proj_bias, &named.in_weight, &named.in_bias, &named.in_conv,
          &named.in_conv_bias, &named.out_weight, &named.out_bias, &named.out_conv, &named.out_conv_bias}) {
      *tensor = in[i++];
    }
    if (block.skip) {
      named.skip = in[i++];
      named.skip_bias = in[i++];
    }
    return named;
  }

  // e: the embedding of this block, [N, C_out] or, of scale and shift, [N, 2 C_out].
  at::Tensor scale_shift(const at::Tensor& e) const { return block.scale_shift ? e : at::Tensor(); }

  at::Tensor dropped(const at::Tensor& activated) const {
    if (!context.training || block.dropout == 0) return activated;
    const auto mask = keyed_dropout_mask(activated.sizes(), block.dropout, block.layer, context.dropout);
    return nhwc((activated * mask).to(activated.scalar_type()));  // 1 / (1 - p) is not rounded to bfloat16
  }

  // x -> h [N, C_out, H, W], between the convolutions.
  at::Tensor first_half(const Inputs& in, const at::Tensor& e, const Moments& in_moments) const {
    const auto activated = apply(in.x, affine(in_moments, in.in_weight, in.in_bias, {}), /*activates=*/true);
    const auto bias = block.scale_shift ? in.in_conv_bias : in.in_conv_bias + e;
    return conv3x3(resized(activated, block.direction), in.in_conv, bias, {}, false, prepared(block.in_conv));
  }

  at::Tensor forward(const variable_list& tensors, variable_list& kept) const override {
    const auto in = named(tensors);
    const auto e = conv1x1(in.emb, in.proj, in.proj_bias);
    const auto in_moments = moments(in.x, block.in_norm.groups);
    const auto h = first_half(in, e, in_moments);
    const auto out_moments = moments({h, {}}, block.out_norm.groups);
    const auto activated =
        dropped(apply({h, {}}, affine(out_moments, in.out_weight, in.out_bias, scale_shift(e)), /*activates=*/true));

    kept = {e};
    if (!recompute) kept.insert(kept.end(), {in_moments.values, h, out_moments.values});
    auto* out_conv = prepared(block.out_conv);
    if (!block.skip) {
      const auto identity = resized(in.x.first, block.direction);
      return conv3x3(activated, in.out_conv, in.out_conv_bias, identity, /*reuses_addend=*/false, out_conv);
    }
    const Matrix skip = in.skip;
    const auto split = in.x.first.size(1);
    auto identity = conv1x1(in.x.first, skip.columns_from(0, split), in.skip_bias);
    if (two_parts) identity = conv1x1(in.x.second, skip.columns_from(split, in.x.second.size(1)), {}, identity);
    return conv3x3(activated, in.out_conv, in.out_conv_bias, identity, /*reuses_addend=*/true, out_conv);
  }

  variable_list backward(const variable_list& tensors, variable_list& kept, const at::Tensor& dy,
                         const std::vector<bool>& needed) const override {
    const auto in = named(tensors);
    const size_t emb = two_parts ? 2 : 1;  // its place
    const auto e = kept[0];
    Moments in_moments, out_moments;
    at::Tensor h;
    if (recompute) {
      in_moments = moments(in.x, block.in_norm.groups);
      h = first_half(in, e, in_moments);
      out_moments = moments({h, {}}, block.out_norm.groups);
    } else {
      in_moments = {kept[1]};
      h = std::move(kept[2]);
      out_moments = {kept[3]};
      kept.clear();
    }

    // The second half: from y to h.
    const auto out_affine = affine(out_moments, in.out_weight, in.out_bias, scale_shift(e));
    const auto dy_sums = row_sum(pixel_sums(dy));
    at::Tensor d_out_conv, d_in_conv, d_emb, d_proj;
    if (needed[emb + kOutConv]) {
      d_out_conv = conv3x3_weight_gradient(dropped(apply({h, {}}, out_affine, /*activates=*/true)), dy, in.out_conv);
    }
    const auto out_norm =
        apply_backward(dropped(conv3x3_input_gradient(dy, in.out_conv)), {h, {}}, out_moments, out_affine,
                       in.out_weight, in.out_bias, scale_shift(e), /*activates=*/true, {});
    h.reset();
    const auto& dh = out_norm.x.first;

    // The first half: from h to x.
    const auto in_affine = affine(in_moments, in.in_weight, in.in_bias, {});
    if (needed[emb + kInConv]) {
      d_in_conv =
          conv3x3_weight_gradient(resized(apply(in.x, in_affine, /*activates=*/true), block.direction), dh, in.in_conv);
    }
    const auto d_activated = resized_backward(conv3x3_input_gradient(dh, in.in_conv), block.direction);
    const auto identity = block.skip ? at::Tensor() : resized_backward(dy, block.direction);
    auto in_norm = apply_backward(d_activated, in.x, in_moments, in_affine, in.in_weight, in.in_bias, {},
                                  /*activates=*/true, identity);

    variable_list result = {in_norm.x.first};
    if (two_parts) result.push_back(in_norm.x.second);
    const auto de = block.scale_shift ? out_norm.scale_shift : out_norm.x_sums;
    if (needed[emb]) d_emb = conv1x1(de, Matrix(in.proj).turned(), {});
    if (needed[emb + kProj]) d_proj = weight_gradient(in.emb, de, in.proj);
    result.insert(result.end(), {d_emb, d_proj, row_sum(de), in_norm.weight, in_norm.bias, d_in_conv,
                                 row_sum(out_norm.x_sums), out_norm.weight, out_norm.bias, d_out_conv, dy_sums});
    if (block.skip) {
      const bool trains_skip = needed[emb + kSkip];
      const auto d_skip = trains_skip ? at::empty_like(in.skip) : at::Tensor();
      int64_t begin = 0;
      for (size_t i = 0; i < (two_parts ? 2 : 1); ++i) {
        const auto& part = i == 0 ? in.x.first : in.x.second;
        const auto count = part.size(1);
        conv1x1(dy, Matrix(in.skip).columns_from(begin, count).turned(), {}, result[i]);
        if (trains_skip) conv1x1_weight_gradient(part, dy, Matrix(d_skip).columns_from(begin, count));
        begin += count;
      }
      result.insert(result.end(), {d_skip, dy_sums});
    }
    return result;
  }
};

// y = x + proj(attention(qkv(norm(x)))), as products of matrices over pixels.
struct AttentionNode : Block {
  AttentionNode(const Attention& block, bool recompute) : block(block), recompute(recompute) {}

  const Attention& block;
  bool recompute;

  at::Tensor qkv_of(const variable_list& in, const Moments& norm) const {
    const Parts x = {in[0], {}};
    return conv1x1(apply(x, affine(norm, in[1], in[2], {}), /*activates=*/false), in[3], in[4]);
  }

  at::Tensor attended(const at::Tensor& qkv) const { return attend(qkv, block.head_count, block.type_major); }

  at::Tensor forward(const variable_list& in, variable_list& kept) const override {
    const auto norm = moments({in[0], {}}, block.norm.groups);
    const auto qkv = qkv_of(in, norm);
    const auto mixed = attended(qkv);
    if (!recompute) kept = {norm.values, qkv, mixed};
    return conv1x1(mixed, in[5], in[6]).add_(in[0]);
  }

  variable_list backward(const variable_list& in, variable_list& kept, const at::Tensor& dy,
                         const std::vector<bool>& needed) const override {
    const Parts x = {in[0], {}};
    const auto norm = recompute ? moments(x, block.norm.groups) : Moments{kept[0]};
    const auto qkv = recompute ? qkv_of(in, norm) : kept[1];
    at::Tensor d_proj, d_qkv;
    if (needed[5]) d_proj = weight_gradient(recompute ? attended(qkv) : kept[2], dy, in[5]);
    const auto d_mixed = conv1x1(dy, Matrix(in[5]).turned(), {});
    const auto d_all = attend_backward(qkv, d_mixed, block.head_count, block.type_major);

    const auto norm_affine = affine(norm, in[1], in[2], {});
    if (needed[3]) d_qkv = weight_gradient(apply(x, norm_affine, /*activates=*/false), d_all, in[3]);
    const auto gradients = apply_backward(conv1x1(d_all, Matrix(in[3]).turned(), {}), x, norm, norm_affine, in[1],
                                          in[2], {}, /*activates=*/false, dy);
    return {gradients.x.first,          gradients.weight, gradients.bias,         d_qkv,
            row_sum(pixel_sums(d_all)), d_proj,           row_sum(pixel_sums(dy))};
  }
};

// Of stride 1.
struct ConvNode : Block {
  explicit ConvNode(const Conv& layer) : layer(layer) {}

  const Conv& layer;

  at::Tensor forward(const variable_list& in, variable_list&) const override {
    return conv3x3(in[0], in[1], in[2], {}, false, prepared(layer));
  }

  variable_list backward(const variable_list& in, variable_list&, const at::Tensor& dy,
                         const std::vector<bool>& needed) const override {
    return {needed[0] ? conv3x3_input_gradient(dy, in[1]) : at::Tensor(),
            needed[1] ? conv3x3_weight_gradient(in[0], dy, in[1]) : at::Tensor(), row_sum(pixel_sums(dy))};
  }
};

// Of stride 2.
struct ConvDownNode : Block {
  at::Tensor forward(const variable_list& in, variable_list&) const override {
    return conv3x3_down(in[0], in[1], in[2]);
  }

  variable_list backward(const variable_list& in, variable_list&, const at::Tensor& dy,
                         const std::vector<bool>& needed) const override {
    const auto& x = in[0];
    return {needed[0] ? conv3x3_down_input_gradient(dy, in[1], x.size(2), x.size(3)) : at::Tensor(),
            needed[1] ? conv3x3_down_weight_gradient(x, dy) : at::Tensor(), row_sum(pixel_sums(dy))};
  }
};

struct NormConvNode : Block {
  NormConvNode(int64_t groups, const Conv& layer) : groups(groups), layer(layer) {}

  int64_t groups;
  const Conv& layer;

  at::Tensor forward(const variable_list& in, variable_list& kept) const override {
    const Parts x = {in[0], {}};
    const auto norm = moments(x, groups);
    kept = {norm.values};
    return conv3x3(apply(x, affine(norm, in[1], in[2], {}), /*activates=*/true), in[3], in[4], {}, false,
                   prepared(layer));
  }

  variable_list backward(const variable_list& in, variable_list& kept, const at::Tensor& dy,
                         const std::vector<bool>& needed) const override {
    const Parts x = {in[0], {}};
    const Moments norm = {kept[0]};
    const auto norm_affine = affine(norm, in[1], in[2], {});
    at::Tensor d_conv;
    if (needed[3]) d_conv = conv3x3_weight_gradient(apply(x, norm_affine, /*activates=*/true), dy, in[3]);
    const auto gradients = apply_backward(conv3x3_input_gradient(dy, in[3]), x, norm, norm_affine, in[1], in[2], {},
                                          /*activates=*/true, {});
    return {gradients.x.first, gradients.weight, gradients.bias, d_conv, row_sum(pixel_sums(dy))};
  }
};

}  // namespace

at::Tensor res_block(const ResBlock& block, const Parts& x, const at::Tensor& emb_activated,
                     const ForwardContext& context, bool recompute) {
  // Which the kernels read by rows.
  TORCH_CHECK(emb_activated.dim() == 2 && emb_activated.size(0) == x.first.size(0) && emb_activated.is_contiguous(),
              "one embedding an image");
  variable_list inputs = {nhwc(x.first)};
  if (x.second.defined()) inputs.push_back(nhwc(x.second));
  inputs.insert(inputs.end(), {emb_activated, block.emb_proj.weight, block.emb_proj.bias, block.in_norm.weight,
                               block.in_norm.bias, block.in_conv.weight, block.in_conv.bias, block.out_norm.weight,
                               block.out_norm.bias, block.out_conv.weight, block.out_conv.bias});
  if (block.skip) inputs.insert(inputs.end(), {block.skip->weight, block.skip->bias});
  return run<ResBlockNode>(inputs, block, x.second.defined(), context, recompute);
}

at::Tensor attention(const Attention& block, const at::Tensor& x, bool recompute) {
  return run<AttentionNode>({nhwc(x), block.norm.weight, block.norm.bias, block.qkv.weight, block.qkv.bias,
                             block.proj_out.weight, block.proj_out.bias},
                            block, recompute);
}

at::Tensor conv(const Conv& layer, const at::Tensor& x) {
  const variable_list inputs = {nhwc(x), layer.weight, layer.bias};
  return layer.stride == 2 ? run<ConvDownNode>(inputs) : run<ConvNode>(inputs, layer);
}

at::Tensor norm_conv(const GroupNorm& norm, const Conv& layer, const at::Tensor& x) {
  return run<NormConvNode>({nhwc(x), norm.weight, norm.bias, layer.weight, layer.bias}, norm.groups, layer);
}

}  // namespace trislot::fast
