// A network and a process without gradients: what they say about the clean image.
#pragma once

#include <vector>

#include "prediction/head.h"
#include "schedule/reverse.h"
#include "unet/unet.h"

namespace trislot {

struct Denoised {
  at::Tensor x_start;   // [N, C, ...]
  at::Tensor mean;      // of p(x_{t-1} | x_t) where the network says it itself (head XPrev), else undefined
  at::Tensor variance;  // raw values of the learned variance, undefined without it
};

struct DenoiseOptions {
  std::vector<double> head_weights;  // one for each head of the layout, adding up to 1; empty: the gate's
  bool clip = true;                  // the prediction of x_start, to [-1, 1]
  bool rescales_timesteps = false;   // the network was trained on t * 1000 / T
  at::ScalarType dtype = at::kFloat;
  double guidance_scale = 1;  // 1: as the classes say; 0: as without classes; above 1: classifier-free guidance
  int64_t null_class = 0;     // the class that says nothing, for scales other than 1
};

// What an output says; k: [N] steps of `process`. Heads are combined in x_start space, before clipping.
Denoised read_output(const Schedule& process, const OutputLayout& layout, const at::Tensor& output,
                     const at::Tensor& x_t, const Steps& k, const DenoiseOptions& options);

// x_t: [N, C, ...]; k: step of `process`, the same for the batch.
Denoised predict_x_start(const UNet& unet, const Schedule& process, const OutputLayout& layout, const at::Tensor& x_t,
                         int64_t k, const at::Tensor& y, const at::Tensor& low_res, const DenoiseOptions& options);

}  // namespace trislot
