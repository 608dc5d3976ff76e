#include "train/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "checkpoint/state.h"
#include "train/training_state.h"

namespace trislot {
namespace {

// A part of a batch, by position, without its references, which every part has in common.
TrainingBatch slice(const TrainingBatch& batch, int64_t begin, int64_t end) {
  TrainingBatch part;
  const auto cut = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor.slice(0, begin, end) : tensor; };
  part.images = cut(batch.images);
  part.t.assign(batch.t.begin() + begin, batch.t.begin() + end);
  part.weight = cut(batch.weight);
  part.noise = cut(batch.noise);
  part.y = cut(batch.y);
  part.low_res = cut(batch.low_res);
  part.heads = batch.heads;
  part.heads.choice.share = cut(batch.heads.choice.share);
  part.heads.weight = cut(batch.heads.weight);
  part.heads.mixture = cut(batch.heads.mixture);
  return part;
}

// Rows of all micro-batches in host memory, or an undefined tensor where they have none.
at::Tensor joined(const std::vector<at::Tensor>& parts) {
  return parts.front().defined() ? at::cat(parts).to(at::kCPU) : at::Tensor();
}

// Two rates never share a file.
std::string ema_file(double rate) { return "ema-" + exact_text(rate) + ".safetensors"; }

}  // namespace

Trainer::Trainer(std::shared_ptr<UNet> unet, std::shared_ptr<const Schedule> schedule, TrainerConfig config)
    : unet_(std::move(unet)),
      schedule_(std::move(schedule)),
      config_(std::move(config)),
      loss_(*schedule_, config_.layout, config_.loss),
      loss_scale_(config_.loss_scale),
      weights_(unet_->weights()),
      optimizer_(weights_, config_.optimizer) {
  for (const double rate : config_.ema_rates) averages_.emplace_back(rate, config_.ema_warms_up, weights_);
}

StepResult Trainer::step(const TrainingBatch& host_batch) {
  const auto device = unet_->device();
  const auto count = static_cast<int64_t>(host_batch.t.size());
  const auto micro_batch = config_.micro_batch > 0 ? config_.micro_batch : count;
  const auto step = static_cast<uint32_t>(step_count_);
  const double loss_scale = scales_loss() ? loss_scale_.factor() : 1;
  const LossSetting setting{*unet_, *schedule_, config_.layout, loss_, config_.bound, config_.rescales_timesteps};

  // Forward and backward, in micro-batches whose gradients add up to the gradient of the whole batch.
  const GradientScope gradient_scope(weights_);
  const auto reference = host_batch.reference.defined() ? host_batch.reference.to(device) : at::Tensor();
  std::vector<at::Tensor> example_losses, per_head, chosen, bound, error_products, mean_error;
  for (int64_t begin = 0; begin < count; begin += micro_batch) {
    const auto end = std::min(begin + micro_batch, count);
    auto batch = slice(host_batch, begin, end);
    const NoiseKey key{config_.seed, Purpose::Noise, step, static_cast<uint32_t>(begin)};
    const auto noise = (batch.noise.defined() ? batch.noise : keyed_normal(batch.images.sizes(), key)).to(device);
    batch.images = batch.images.to(device);
    if (batch.y.defined()) batch.y = batch.y.to(device);
    if (batch.low_res.defined()) batch.low_res = batch.low_res.to(device);
    batch.reference = reference;

    const auto loss = batch_loss(setting, batch, noise, {config_.dtype, /*training=*/true, key});
    const auto averaged_over = config_.sums_micro_batches ? end - begin : count;
    ((loss.loss * batch.weight.to(device)).sum() * (loss_scale / static_cast<double>(averaged_over))).backward();

    example_losses.push_back(loss.loss.detach());
    per_head.push_back(loss.heads.per_head);
    chosen.push_back(loss.heads.chosen);
    error_products.push_back(loss.heads.error_products);
    mean_error.push_back(loss.heads.mean_error);
    bound.push_back(loss.bound);
  }

  const auto gradients = gradient_scope.gradients();
  c10::NoGradGuard no_grad;
  StepResult result;
  result.example_loss = joined(example_losses);
  result.per_head = joined(per_head);
  result.chosen = joined(chosen);
  result.error_products = joined(error_products);
  result.mean_error = joined(mean_error);
  result.bound = joined(bound);
  result.loss = (result.example_loss * host_batch.weight).mean().item<double>();
  // Gradients of float16 are those of the scaled loss: norm and update take the scale out again.
  result.grad_norm = optimizer_.norm(gradients) / loss_scale;
  result.loss_scale = loss_scale;

  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    const bool scale_was_too_large = scales_loss() && loss_scale_.shrink();
    if (!scale_was_too_large && !config_.skips_non_finite)
      throw NonFiniteError(describe_non_finite(result, host_batch));
    result.skipped = true;
    ++step_count_;
    return result;
  }

  const bool clips = config_.clip_norm > 0 && result.grad_norm > config_.clip_norm;
  const double factor = clips ? config_.clip_norm / (result.grad_norm + 1e-6) : 1;
  optimizer_.step(gradients, factor / loss_scale, host_batch.lr, averages_);
  if (scales_loss()) loss_scale_.grow();
  ++step_count_;
  return result;
}

std::string Trainer::describe_non_finite(const StepResult& result, const TrainingBatch& batch) const {
  std::ostringstream text;
  text << "trainer.trainStep: expected loss and gradients to be finite, got loss " << result.loss
       << " and gradient norm " << result.grad_norm << " at step " << step_count_;
  if (scales_loss()) {
    text << " with the smallest loss scale, 2^" << config_.loss_scale.min
         << "; lower the learning rate, or use bf16 or fp32";
  }
  const auto rows = result.per_head.accessor<float, 2>();
  for (int64_t i = 0; i < rows.size(0); ++i) {
    for (int64_t head = 0; head < rows.size(1); ++head) {
      if (std::isfinite(rows[i][head])) continue;
      const auto name = kHeadNames[static_cast<size_t>(config_.layout.heads[head])];
      text << "; example " << i << " (t = " << batch.t[i] << ", head " << name << ")";
      return text.str();
    }
  }
  return text.str();
}

void Trainer::save(const std::string& folder) const {
  const auto& parameters = unet_->parameters();
  write_safetensors(folder + "/model.safetensors", named(parameters, weights_), {{"format", "trislot"}});
  for (const auto& average : averages_) {
    write_safetensors(folder + "/" + ema_file(average.rate), named(parameters, average.averages),
                      {{"format", "trislot"}, {"updates", std::to_string(average.update_count)}});
  }
  write_safetensors(folder + "/optimizer.safetensors", named_state(parameters, optimizer_),
                    optimizer_metadata(step_count_, optimizer_, scales_loss() ? &loss_scale_ : nullptr));
}

void Trainer::load(const std::string& folder) {
  // All files are read and compared before the first tensor is copied, so that a checkpoint fits whole or changes
  // nothing.
  struct Part {
    std::string call;
    std::vector<NamedTensor> destination;
    TensorFile file;
  };
  std::vector<Part> parts;
  const auto read = [&](const std::string& name, std::vector<NamedTensor> destination) {
    const auto path = folder + "/" + name;
    parts.push_back({"loadCheckpoint(\"" + path + "\")", std::move(destination), read_safetensors(path)});
    const auto report = compare_names(parts.back().destination, parts.back().file.tensors);
    if (!report.fits()) load_into(parts.back().destination, parts.back().file, parts.back().call);  // throws
  };
  const auto& parameters = unet_->parameters();
  read("model.safetensors", named(parameters, weights_));
  read("optimizer.safetensors", named_state(parameters, optimizer_));
  const auto step = count_in(parts.back().file, "step", parts.back().call);
  const auto updates = count_in(parts.back().file, "updates", parts.back().call);
  double loss_scale = loss_scale_.log2;
  if (scales_loss()) loss_scale = loss_scale_in(parts.back().file, parts.back().call, loss_scale_);
  std::vector<int64_t> ema_updates;
  for (const auto& average : averages_) {
    read(ema_file(average.rate), named(parameters, average.averages));
    ema_updates.push_back(count_in(parts.back().file, "updates", parts.back().call));
  }

  for (const auto& part : parts) load_into(part.destination, part.file, part.call);
  step_count_ = step;
  optimizer_.step_count = updates;
  loss_scale_.log2 = loss_scale;
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].update_count = ema_updates[i];
}

std::shared_ptr<UNet> Trainer::averaged(size_t index) const {
  return std::make_shared<UNet>(unet_->config(), averages_.at(index).averages);
}

}  // namespace trislot
