// What the UNet and the classifier have in common: the embedding of timestep and class, the blocks down to the smallest
// feature map, and the middle.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "unet/attention.h"
#include "unet/blocks.h"
#include "unet/config.h"
#include "unet/layers.h"

namespace trislot {

using Layer = std::variant<Conv, ResBlock, Attention, Resample>;
using Block = std::vector<Layer>;

// Makes the layers of a network in order, with the options that all of them share.
class BlockBuilder {
 public:
  BlockBuilder(ParameterList& list, const UNetConfig& config) : list(list), config(config) {}

  int64_t width(int64_t level) const;
  bool attends(int64_t level) const;
  ResBlock res_block(const std::string& name, int64_t in, int64_t out, Resize direction = Resize::None);
  Layer resampler(const std::string& name, int64_t channels, Resize direction);
  // head_count counts unless the options say how wide a head is.
  Attention attention(const std::string& name, int64_t channels, int64_t head_count);

  ParameterList& list;
  const UNetConfig& config;

 private:
  uint32_t layer_ = 0;  // residual blocks so far
};

// The layers one after another; under `recompute` residual blocks and attention are run again in the backward pass.
// skip: [N, C, ...] joined to h along the channels, may be undefined; emb: [N, E] after its activation.
at::Tensor run(const Block& block, at::Tensor h, at::Tensor skip, const at::Tensor& emb, const ForwardContext& context,
               bool recompute);

// x as the blocks take it: in the type of `context` and in the layout of the fast kernels where they run.
at::Tensor block_input(const at::Tensor& x, const ForwardContext& context);

struct Trunk {
  explicit Trunk(BlockBuilder& build);

  // t: [N] float32, y: [N] int64 or undefined -> [N, 4 * model_channels] after the activation that every block begins
  // with
  at::Tensor embed(const at::Tensor& t, const at::Tensor& y) const;

  int64_t model_channels;
  Linear time_embed_in, time_embed_out;
  at::Tensor label_emb;
  std::vector<Block> input_blocks;
  std::vector<int64_t> widths;  // channels after each input block
  Block middle_block;
};

}  // namespace trislot
