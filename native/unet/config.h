// Every option of the network with its default: the only list of them in C++. Names are guided-diffusion's.
#pragma once

#include <cstdint>
#include <vector>

namespace trislot {

struct UNetConfig {
  int64_t in_channels = 3;  // of the image; low_res doubles what the first convolution sees
  int64_t model_channels = 128;
  int64_t out_channels = 3;
  int64_t num_res_blocks = 2;
  std::vector<int64_t> attention_resolutions;  // down-sampling factors at which there is attention
  double dropout = 0;
  std::vector<double> channel_mult = {1, 2, 4, 8};
  bool conv_resample = true;
  int64_t dims = 2;         // 1, 2 or 3 spatial dimensions
  int64_t num_classes = 0;  // 0: unconditional
  bool recompute = false;   // run blocks again in the backward pass instead of keeping their activations
  int64_t num_heads = 1;
  int64_t num_head_channels = -1;   // -1: use num_heads
  int64_t num_heads_upsample = -1;  // -1: as num_heads
  bool use_scale_shift_norm = false;
  bool resblock_updown = false;
  bool use_new_attention_order = false;
  int64_t norm_groups = 32;
  bool low_res = false;       // super-resolution: a second image is given as a condition
  int64_t gate_channels = 0;  // the last of out_channels: their gradient ends at the last convolution
  int64_t target_angles = 0;  // learned angles, even in t, by which the target is turned away from v; 0: none
  double angle_span = 1000;   // timesteps that they span
};

}  // namespace trislot
