// The loss of a batch for one noise, with or without gradient: the heart of training and of every measurement.
#pragma once

#include <cstdint>
#include <vector>

#include "loss/three_head.h"
#include "prediction/head.h"
#include "schedule/reverse.h"
#include "schedule/schedule.h"
#include "unet/unet.h"

namespace trislot {

// What is minimised (improved DDPM, section 3; math.md, "Variational bound"). Mse: the heads' errors, and where a
// variance is learned the bound with the mean frozen; RescaledMse: with that bound times T / 1000. Kl: the bound alone,
// through mean and variance; RescaledKl: times T.
enum class LossKind { Mse, RescaledMse, Kl, RescaledKl };

inline constexpr std::array<std::string_view, 4> kLossKindNames = {"mse", "rescaledMse", "kl", "rescaledKl"};

struct BoundConfig {
  LossKind kind = LossKind::Mse;
  VarianceType variance = VarianceType::LearnedRange;
  double weight = 1;  // of the bound beside the heads' errors
};

// One batch in host memory, already in [-1, 1].
struct TrainingBatch {
  at::Tensor images;       // [N, C, ...] float32
  std::vector<int64_t> t;  // [N]
  at::Tensor weight;       // [N] float32, factor on each example's loss
  at::Tensor noise;        // [N, C, ...] float32, or undefined: then it is keyed
  at::Tensor y;            // [N] int64 or undefined
  at::Tensor low_res;      // [N, C, h, w] or undefined
  at::Tensor reference;    // [R, C, ...] images of the stable target field, or undefined
  HeadInputs heads;
  double lr = 0;
};

struct BatchLoss {
  ThreeHeadLoss heads;
  at::Tensor loss;   // [N] what is minimised: that of the heads, of the bound, or both
  at::Tensor bound;  // [N] bits per dimension, before its weight; undefined where it takes no part
};

struct LossSetting {
  const UNet& unet;
  const Schedule& schedule;
  const OutputLayout& layout;
  const ThreeHeadLossFunction& function;
  BoundConfig bound;
  bool rescales_timesteps;
};

// The loss of an output that the network gave for x_t, the batch noised. Everything but the heads' inputs is on the
// device of the output.
BatchLoss loss_of_output(const Schedule& schedule, const OutputLayout& layout, const ThreeHeadLossFunction& function,
                         const BoundConfig& bound, const at::Tensor& output, const TrainingBatch& batch,
                         const at::Tensor& noise, const at::Tensor& x_t);

BatchLoss batch_loss(const LossSetting& setting, const TrainingBatch& batch, const at::Tensor& noise,
                     const ForwardContext& context);

}  // namespace trislot
