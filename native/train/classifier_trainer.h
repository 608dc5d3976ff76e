// Training of the noisy classifier: owns the optimizer and the step count of one network.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/memory.h"
#include "schedule/schedule.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "unet/encoder.h"

namespace trislot {

struct ClassifierTrainerConfig {
  uint64_t seed = 0;
  bool noised = true;  // otherwise images are clean, whatever t says
  AdamWConfig optimizer;
  double clip_norm = 0;     // 0: no clipping
  int64_t micro_batch = 0;  // examples a forward pass; 0: all of the batch
  at::ScalarType dtype = at::kFloat;
  bool skips_non_finite = false;  // otherwise a non-finite step is an error
};

// One batch in host memory, already in [-1, 1].
struct ClassifierBatch {
  at::Tensor images;       // [N, C, H, W] float32
  std::vector<int64_t> t;  // [N]
  at::Tensor y;            // [N] int64
  double lr = 0;
};

// loss: cross-entropy of each example, [N]; rank: how many classes are thought more probable than the true one, [N]
// int64
struct ClassifierLoss {
  at::Tensor loss, rank;
};

// noise: [N, C, H, W], or undefined for clean images
ClassifierLoss classifier_loss(const Encoder& encoder, const Schedule& schedule, const ClassifierBatch& batch,
                               const at::Tensor& noise, const ForwardContext& context);

struct ClassifierStepResult {
  double loss = 0;             // mean over the batch: what was differentiated
  double grad_norm = 0;        // before clipping
  bool skipped = false;        // the step was not finite and changed no weight
  double loss_scale = 1;       // that the step was computed with
  ClassifierLoss per_example;  // on the CPU
};

class ClassifierTrainer {
 public:
  ClassifierTrainer(std::shared_ptr<Encoder> encoder, std::shared_ptr<const Schedule> schedule,
                    ClassifierTrainerConfig config);

  // One step of optimisation; the algorithm, top to bottom.
  ClassifierStepResult step(const ClassifierBatch& batch);

  // Losses of a batch that is not trained on, noised by a key of its own.
  ClassifierLoss evaluate(const ClassifierBatch& batch, const NoiseKey& key) const;

  // Weights and optimizer as safetensors files in `folder`, and back.
  void save(const std::string& folder) const;
  void load(const std::string& folder);

  int64_t step_count() const { return step_count_; }
  const Encoder& encoder() const { return *encoder_; }

 private:
  bool scales_loss() const { return config_.dtype == at::kHalf; }
  ClassifierBatch on_device(const ClassifierBatch& batch, int64_t begin, int64_t end) const;
  at::Tensor noise(const ClassifierBatch& batch, const NoiseKey& key) const;

  TrimsMemory trims_memory_;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<const Schedule> schedule_;
  ClassifierTrainerConfig config_;
  LossScale loss_scale_;
  std::vector<at::Tensor> weights_;
  AdamW optimizer_;
  int64_t step_count_ = 0;
};

}  // namespace trislot
