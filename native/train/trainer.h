// Training: owns the optimizer, the averages and the step count of one network.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "loss/three_head.h"
#include "prediction/head.h"
#include "runtime/memory.h"
#include "schedule/schedule.h"
#include "train/batch_loss.h"
#include "train/ema.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "unet/unet.h"

namespace trislot {

struct TrainerConfig {
  uint64_t seed = 0;
  OutputLayout layout;
  LossConfig loss;
  BoundConfig bound;
  bool rescales_timesteps = false;  // the network is told t * 1000 / T
  AdamWConfig optimizer;
  std::vector<double> ema_rates;
  bool ema_warms_up = true;
  double clip_norm = 0;             // 0: no clipping
  int64_t micro_batch = 0;          // examples a forward pass; 0: all of the batch
  bool sums_micro_batches = false;  // add the means of the micro-batches up, as guided-diffusion does
  at::ScalarType dtype = at::kFloat;
  LossScale loss_scale;           // of float16
  bool skips_non_finite = false;  // otherwise a non-finite step is an error
};

struct StepResult {
  double loss = 0;                        // mean of weight * loss over the batch
  double grad_norm = 0;                   // before clipping
  bool skipped = false;                   // the step was not finite and changed no weight
  double loss_scale = 1;                  // that the step was computed with
  at::Tensor example_loss;                // [N] float32, before the timestep weight
  at::Tensor per_head;                    // [N, heads] float32
  at::Tensor chosen;                      // [N] int64
  at::Tensor bound;                       // [N] float32 bits per dimension; undefined where the bound takes no part
  at::Tensor error_products, mean_error;  // as ThreeHeadLoss, float32
};

// A loss or gradient that is not a finite number; nothing was changed by the step.
struct NonFiniteError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

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
  // Copies of the weights beside them: Adam's two averages, and the moving ones.
  int64_t copy_count() const { return 2 + static_cast<int64_t>(averages_.size()); }
  const UNet& unet() const { return *unet_; }

 private:
  bool scales_loss() const { return config_.dtype == at::kHalf; }
  std::string describe_non_finite(const StepResult& result, const TrainingBatch& batch) const;

  TrimsMemory trims_memory_;
  std::shared_ptr<UNet> unet_;
  std::shared_ptr<const Schedule> schedule_;
  TrainerConfig config_;
  ThreeHeadLossFunction loss_;
  LossScale loss_scale_;
  std::vector<at::Tensor> weights_;
  AdamW optimizer_;
  std::vector<Ema> averages_;
  int64_t step_count_ = 0;
};

}  // namespace trislot
