#include "train/batch_loss.h"

#include <ATen/ATen.h>

#include "loss/stable_target.h"

namespace trislot {
namespace {

bool is_kl(LossKind kind) { return kind == LossKind::Kl || kind == LossKind::RescaledKl; }

// The factor of the bound in the loss of a process of `length` steps.
double bound_factor(const BoundConfig& bound, int64_t length) {
  switch (bound.kind) {
    case LossKind::Mse:
      return bound.weight;
    case LossKind::RescaledMse:
      return bound.weight * static_cast<double>(length) / 1000;
    case LossKind::Kl:
      return 1;
    case LossKind::RescaledKl:
      return static_cast<double>(length);
  }
  TORCH_CHECK(false, "no such loss");
}

// The bound with the mean of the last head (eps where there is one, and where it says something of x_start at every
// timestep), x_start not clipped. Beside the heads' own errors it trains the variance alone: the mean is then cut off
// from the gradient (improved DDPM, section 3.1).
at::Tensor bound_of(const Schedule& schedule, const OutputLayout& layout, const BoundConfig& bound,
                    const Predictions& predictions, const at::Tensor& x_start, const at::Tensor& x_t, const Steps& k) {
  int64_t last = layout.head_count() - 1;
  if (layout.heads[last] == Head::Eps && schedule.alpha_bar.back() == 0 && last > 0) --last;
  const auto head = layout.heads[last];
  const auto prediction = is_kl(bound.kind) ? predictions.head(last) : predictions.head(last).detach();
  const auto predicted = x_start_from(schedule, head, prediction, x_t, k);
  const auto mean = model_mean(schedule, head, prediction, predicted, x_t, k);
  const auto variance = reverse_variance(schedule, bound.variance, predictions.variance, x_t, k);
  return variational_bound(schedule, x_start, x_t, mean, variance.log_variance, k);
}

}  // namespace

BatchLoss loss_of_output(const Schedule& schedule, const OutputLayout& layout, const ThreeHeadLossFunction& function,
                         const BoundConfig& bound, const at::Tensor& output, const TrainingBatch& batch,
                         const at::Tensor& noise, const at::Tensor& x_t) {
  const auto predictions = split_output(layout, output);
  const auto target = batch.reference.defined() ? stable_target(schedule, batch.reference, batch.images, noise, batch.t)
                                                : NoisedPair{batch.images, noise};
  const auto heads = function(predictions, target.x_start, target.eps, x_t, batch.t, batch.heads);
  if (!layout.learns_variance && !is_kl(bound.kind)) return {heads, heads.loss, {}};
  const auto bits = bound_of(schedule, layout, bound, predictions, batch.images, x_t, batch.t);
  const auto weighted = bits * bound_factor(bound, schedule.length());
  return {heads, is_kl(bound.kind) ? weighted : heads.loss + weighted, bits.detach()};
}

BatchLoss batch_loss(const LossSetting& setting, const TrainingBatch& batch, const at::Tensor& noise,
                     const ForwardContext& context) {
  const auto& schedule = setting.schedule;
  const auto x_t = schedule.q_sample(batch.images, noise, batch.t);
  const auto t = schedule.told(batch.t, setting.rescales_timesteps).to(x_t.device());
  const auto output = setting.unet.forward({x_t, t, batch.y, batch.low_res}, context);
  return loss_of_output(schedule, setting.layout, setting.function, setting.bound, output, batch, noise, x_t);
}

}  // namespace trislot
