// Training: owns the optimizer, the averages and the step count of one network.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "loss/three_head.h"
#include "prediction/head.h"
#include "runtime/memory.h"
#include "schedule/reverse.h"
#include "schedule/schedule.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "unet/unet.h"

namespace trislot {

struct TrainerConfig {
  uint64_t seed = 0;
  OutputLayout layout;
  LossConfig loss;
  VarianceType variance = VarianceType::LearnedRange;  // of a learned variance
  double bound_weight = 1;                             // of the variational bound that trains a learned variance
  AdamWConfig optimizer;
  std::vector<double> ema_rates;
  bool ema_warms_up = true;
  double clip_norm = 0;     // 0: no clipping
  int64_t micro_batch = 0;  // examples a forward pass; 0: all of the batch
  at::ScalarType dtype = at::kFloat;
  bool skips_non_finite = false;  // otherwise a non-finite step is an error
};

// One batch in host memory, already in [-1, 1].
struct TrainingBatch {
  at::Tensor images;       // [N, C, ...] float32
  std::vector<int64_t> t;  // [N]
  at::Tensor weight;       // [N] float32, factor on each example's loss
  at::Tensor y;            // [N] int64 or undefined
  at::Tensor low_res;      // [N, C, h, w] or undefined
  double lr = 0;
};

struct StepResult {
  double loss = 0;          // mean of weight * loss over the batch: what was differentiated
  double grad_norm = 0;     // before clipping
  bool skipped = false;     // the step was not finite and changed no weight
  at::Tensor example_loss;  // [N] float32, before the timestep weight
  at::Tensor per_head;      // [N, heads] float32
  at::Tensor chosen;        // [N] int64
};

// A loss or gradient that is not a finite number; nothing was changed by the step.
struct NonFiniteError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Losses of a batch for one noise key, with or without gradient; the heart of training and of every measurement.
struct BatchLoss {
  at::Tensor loss;      // [N]
  at::Tensor per_head;  // [N, heads]
  at::Tensor chosen;    // [N]
};
struct LossSetting {
  const UNet& unet;
  const Schedule& schedule;
  const OutputLayout& layout;
  const ThreeHeadLossFunction& function;
  VarianceType variance;
  double bound_weight;
};
BatchLoss batch_loss(const LossSetting& setting, const TrainingBatch& batch, const at::Tensor& noise,
                     const ForwardContext& context);

class Trainer {
 public:
  Trainer(std::shared_ptr<UNet> unet, std::shared_ptr<const Schedule> schedule, TrainerConfig config);

  // One step of optimisation; the algorithm, top to bottom.
  StepResult step(const TrainingBatch& batch);

  // Weights, averages and optimizer as safetensors files in `folder`, and back.
  void save(const std::string& folder) const;
  void load(const std::string& folder);

  // The network over an average of its weights, which it shares with the trainer.
  std::shared_ptr<UNet> averaged(size_t index) const;

  int64_t step_count() const { return step_count_; }
  const UNet& unet() const { return *unet_; }

 private:
  std::string describe_non_finite(const StepResult& result, const TrainingBatch& batch) const;

  TrimsMemory trims_memory_;
  std::shared_ptr<UNet> unet_;
  std::shared_ptr<const Schedule> schedule_;
  TrainerConfig config_;
  ThreeHeadLossFunction loss_;
  std::vector<at::Tensor> weights_;
  AdamW optimizer_;
  std::vector<Ema> averages_;
  int64_t step_count_ = 0;
};

}  // namespace trislot
