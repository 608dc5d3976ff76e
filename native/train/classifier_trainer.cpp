#include "train/classifier_trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "checkpoint/state.h"
#include "train/trainer.h"
#include "train/training_state.h"

namespace trislot {

ClassifierLoss classifier_loss(const Encoder& encoder, const Schedule& schedule, const ClassifierBatch& batch,
                               const at::Tensor& noise, const ForwardContext& context) {
  const auto x_t = noise.defined() ? schedule.q_sample(batch.images, noise, batch.t) : batch.images;
  auto t = at::zeros({static_cast<int64_t>(batch.t.size())}, at::kFloat);
  if (noise.defined()) {
    for (size_t i = 0; i < batch.t.size(); ++i) {
      t.mutable_data_ptr<float>()[i] = static_cast<float>(schedule.timestep_map[batch.t[i]]);
    }
  }
  const auto logits = encoder.forward({x_t, t.to(x_t.device()), {}, {}}, context);
  const auto y = batch.y.unsqueeze(1);
  const auto loss = -at::log_softmax(logits, /*dim=*/1).gather(1, y).squeeze(1);

  // Equal logits count in the order of the classes, so that a network that knows nothing ranks nothing first.
  const auto scores = logits.detach();
  const auto own = scores.gather(1, y);
  const auto before = at::arange(scores.size(1), y.options()).unsqueeze(0) < y;
  return {loss, ((scores > own) | ((scores == own) & before)).sum(/*dim=*/1)};
}

ClassifierTrainer::ClassifierTrainer(std::shared_ptr<Encoder> encoder, std::shared_ptr<const Schedule> schedule,
                                     ClassifierTrainerConfig config)
    : encoder_(std::move(encoder)),
      schedule_(std::move(schedule)),
      config_(std::move(config)),
      weights_(encoder_->weights()),
      optimizer_(weights_, config_.optimizer) {}

ClassifierBatch ClassifierTrainer::on_device(const ClassifierBatch& batch, int64_t begin, int64_t end) const {
  const auto device = encoder_->device();
  return {batch.images.slice(0, begin, end).to(device),
          {batch.t.begin() + begin, batch.t.begin() + end},
          batch.y.slice(0, begin, end).to(device),
          batch.lr};
}

at::Tensor ClassifierTrainer::noise(const ClassifierBatch& batch, const NoiseKey& key) const {
  return config_.noised ? keyed_normal(batch.images.sizes(), key).to(encoder_->device()) : at::Tensor();
}

ClassifierStepResult ClassifierTrainer::step(const ClassifierBatch& host_batch) {
  const auto count = static_cast<int64_t>(host_batch.t.size());
  const auto micro_batch = config_.micro_batch > 0 ? config_.micro_batch : count;

  const double loss_scale = scales_loss() ? loss_scale_.factor() : 1;

  // Forward and backward, in micro-batches whose gradients add up to the gradient of the whole batch.
  const GradientScope gradient_scope(weights_);
  std::vector<at::Tensor> losses, ranks;
  for (int64_t begin = 0; begin < count; begin += micro_batch) {
    const auto batch = on_device(host_batch, begin, std::min(begin + micro_batch, count));
    const NoiseKey key{config_.seed, Purpose::Noise, static_cast<uint32_t>(step_count_), static_cast<uint32_t>(begin)};
    const auto part =
        classifier_loss(*encoder_, *schedule_, batch, noise(batch, key), {config_.dtype, /*training=*/true, key});
    (part.loss.sum() * (loss_scale / static_cast<double>(count))).backward();
    losses.push_back(part.loss.detach());
    ranks.push_back(part.rank);
  }

  const auto gradients = gradient_scope.gradients();
  c10::NoGradGuard no_grad;
  ClassifierStepResult result;
  result.per_example = {at::cat(losses).to(at::kCPU), at::cat(ranks).to(at::kCPU)};
  result.loss = result.per_example.loss.mean().item<double>();
  // Gradients of float16 are those of the scaled loss: norm and update take the scale out again.
  result.grad_norm = optimizer_.norm(gradients) / loss_scale;
  result.loss_scale = loss_scale;

  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    const bool scale_was_too_large = scales_loss() && loss_scale_.shrink();
    if (!scale_was_too_large && !config_.skips_non_finite) {
      std::ostringstream text;
      text << "classifierTrainer.trainStep: expected loss and gradients to be finite, got loss " << result.loss
           << " and gradient norm " << result.grad_norm << " at step " << step_count_;
      throw NonFiniteError(text.str());
    }
    result.skipped = true;
    ++step_count_;
    return result;
  }

  const bool clips = config_.clip_norm > 0 && result.grad_norm > config_.clip_norm;
  const double factor = clips ? config_.clip_norm / (result.grad_norm + 1e-6) : 1;
  std::vector<Ema> no_averages;
  optimizer_.step(gradients, factor / loss_scale, host_batch.lr, no_averages);
  if (scales_loss()) loss_scale_.grow();
  ++step_count_;
  return result;
}

ClassifierLoss ClassifierTrainer::evaluate(const ClassifierBatch& host_batch, const NoiseKey& key) const {
  c10::NoGradGuard no_grad;
  const auto batch = on_device(host_batch, 0, static_cast<int64_t>(host_batch.t.size()));
  const auto loss =
      classifier_loss(*encoder_, *schedule_, batch, noise(batch, key), {config_.dtype, /*training=*/false, {}});
  return {loss.loss.to(at::kCPU), loss.rank.to(at::kCPU)};
}

void ClassifierTrainer::save(const std::string& folder) const {
  const auto& parameters = encoder_->parameters();
  write_safetensors(folder + "/model.safetensors", named(parameters, weights_), {{"format", "trislot"}});
  write_safetensors(folder + "/optimizer.safetensors", named_state(parameters, optimizer_),
                    optimizer_metadata(step_count_, optimizer_, scales_loss() ? &loss_scale_ : nullptr));
}

void ClassifierTrainer::load(const std::string& folder) {
  struct Part {
    std::string call;
    std::vector<NamedTensor> destination;
    TensorFile file;
  };
  const auto read = [&](const std::string& name, std::vector<NamedTensor> destination) {
    const auto path = folder + "/" + name;
    return Part{"loadCheckpoint(\"" + path + "\")", std::move(destination), read_safetensors(path)};
  };
  const auto& parameters = encoder_->parameters();
  const auto model = read("model.safetensors", named(parameters, weights_));
  const auto optimizer = read("optimizer.safetensors", named_state(parameters, optimizer_));
  const auto step = count_in(optimizer.file, "step", optimizer.call);
  const auto updates = count_in(optimizer.file, "updates", optimizer.call);
  double loss_scale = loss_scale_.log2;
  if (scales_loss() && optimizer.file.metadata.count("lossScaleLog2") > 0) {  // absent in files of older versions
    loss_scale = loss_scale_in(optimizer.file, optimizer.call, loss_scale_);
  }

  // What does not fit is copied first and throws, so that a checkpoint fits whole or changes nothing.
  const bool model_fits = compare_names(model.destination, model.file.tensors).fits();
  for (const auto* part : model_fits ? std::array{&optimizer, &model} : std::array{&model, &optimizer}) {
    load_into(part->destination, part->file, part->call);
  }
  step_count_ = step;
  optimizer_.step_count = updates;
  loss_scale_.log2 = loss_scale;
}

}  // namespace trislot
