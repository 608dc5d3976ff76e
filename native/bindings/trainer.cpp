#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "train/gradient_gram.h"

namespace trislot {
namespace {

// Images and classes as the trainer takes them; for the executor thread.
TrainingBatch prepared(TrainingBatch batch) {
  batch.images = as_network_input(batch.images);
  if (batch.low_res.defined()) batch.low_res = as_network_input(batch.low_res);
  if (batch.reference.defined()) batch.reference = as_network_input(batch.reference);
  if (batch.y.defined()) batch.y = batch.y.to(at::kLong);
  return batch;
}

BatchLoss to_host(const BatchLoss& loss) {
  const auto optional = [](const at::Tensor& tensor) { return tensor.defined() ? trislot::to_host(tensor) : tensor; };
  BatchLoss host;
  host.loss = trislot::to_host(loss.loss);
  host.bound = optional(loss.bound);
  host.heads.per_head = trislot::to_host(loss.heads.per_head);
  host.heads.chosen = trislot::to_host(loss.heads.chosen.to(at::kInt));
  host.heads.error_products = optional(loss.heads.error_products);
  host.heads.mean_error = optional(loss.heads.mean_error);
  return host;
}

Napi::Object encode_losses(Napi::Env env, const BatchLoss& loss) {
  auto object = Napi::Object::New(env);
  object.Set("loss", encode_data(env, loss.loss));
  object.Set("perHead", encode_data(env, loss.heads.per_head));
  object.Set("chosen", encode_data(env, loss.heads.chosen));
  if (loss.bound.defined()) object.Set("bound", encode_data(env, loss.bound));
  if (loss.heads.error_products.defined()) {
    object.Set("errorProducts", encode_data(env, loss.heads.error_products));
    object.Set("meanError", encode_data(env, loss.heads.mean_error));
  }
  return object;
}

}  // namespace

// trainerCreate(unet, schedule, config): Promise<handle>
Napi::Value trainer_create(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), schedule = unwrap<const Schedule>(info[1]),
       config = decode_trainer_config(info[2].As<Napi::Object>())] {
        return std::make_shared<Trainer>(unet, schedule, config);
      },
      [](Napi::Env env, const std::shared_ptr<Trainer>& trainer) {
        int64_t bytes = 0;
        for (const auto& weight : trainer->unet().weights()) bytes += static_cast<int64_t>(weight.nbytes());
        bytes *= trainer->copy_count();
        return wrap(env, trainer, bytes);
      });
}

// trainerStep(trainer, { images, t, weight, y?, lowRes?, share?, headWeight?, temperature?, floor?, mixture?,
// reference?, lr }): Promise<StepResult>
Napi::Value trainer_step(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<Trainer>(info[0]), batch = decode_batch(info[1].As<Napi::Object>())] {
        auto result = trainer->step(prepared(batch));
        result.chosen = result.chosen.to(at::kInt);
        return result;
      },
      encode_step_result);
}

// trainerStepCount(trainer): Promise<number>, in call order with the steps
Napi::Value trainer_step_count(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [trainer = unwrap<Trainer>(info[0])] { return trainer->step_count(); },
      [](Napi::Env env, int64_t count) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(count)); });
}

// trainerSave(trainer, folder): Promise<void>
Napi::Value trainer_save(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [trainer = unwrap<Trainer>(info[0]), folder = decode_string(info[1])] { trainer->save(folder); },
      encode_nothing);
}

// trainerLoad(trainer, folder): Promise<void>
Napi::Value trainer_load(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [trainer = unwrap<Trainer>(info[0]), folder = decode_string(info[1])] { trainer->load(folder); },
      encode_nothing);
}

// trainerAveraged(trainer, index): Promise<unet handle>, which shares the averages
Napi::Value trainer_averaged(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<Trainer>(info[0]), index = decode_integer(info[1])] {
        return trainer->averaged(static_cast<size_t>(index));
      },
      [](Napi::Env env, const std::shared_ptr<UNet>& unet) { return wrap(env, unet, 0); });
}

// lossEvaluate(unet, schedule, config, batch, key): Promise<{ loss, perHead, chosen, bound?, errorProducts?, meanError?
// }>, without gradient
Napi::Value loss_evaluate(const Napi::CallbackInfo& info) {
  const auto config = info[2].As<Napi::Object>();
  const auto layout = decode_layout(config);
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), schedule = unwrap<const Schedule>(info[1]), layout,
       loss = decode_loss_config(config.Get("loss").As<Napi::Object>(), layout), bound = decode_bound_config(config),
       rescales = config.Get("rescalesTimesteps").ToBoolean().Value(),
       dtype = decode_precision(config.Get("precision")), host_batch = decode_batch(info[3].As<Napi::Object>()),
       key = decode_noise_key(info[4].As<Napi::Object>())] {
        c10::NoGradGuard no_grad;
        const ThreeHeadLossFunction function(*schedule, layout, loss);
        const auto batch = on_device(host_batch, key, unet->device());
        const LossSetting setting{*unet, *schedule, layout, function, bound, rescales};
        return to_host(batch_loss(setting, batch, batch.noise, {dtype, /*training=*/false, {}}));
      },
      encode_losses);
}

// lossShapes(unetConfig, schedule, config, imageShape): Promise<{ loss, perHead, gradientCount }>: forward, loss and
// backward without numbers, on LibTorch's meta device, where a tensor made on a wrong device is an error
Napi::Value loss_shapes(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet_config = decode_unet_config(info[0].As<Napi::Object>()), schedule = unwrap<const Schedule>(info[1]),
       config = decode_trainer_config(info[2].As<Napi::Object>()), shape = decode_integers(info[3])] {
        const at::Device meta(at::kMeta);
        const auto options = at::TensorOptions(at::kFloat).device(meta);
        const UNet unet(unet_config, meta, config.seed);
        const ThreeHeadLossFunction function(*schedule, config.layout, config.loss);
        TrainingBatch batch;
        batch.images = at::empty(shape, options);
        batch.t.assign(shape[0], 0);
        batch.weight = at::ones({shape[0]}, options);
        if (unet_config.num_classes > 0) batch.y = at::zeros({shape[0]}, options.dtype(at::kLong));
        if (unet_config.low_res) batch.low_res = at::empty_like(batch.images);
        // The heads' inputs come from host memory, as they do in a step.
        const auto rows = at::full({shape[0], static_cast<int64_t>(config.layout.heads.size())}, 0.5);
        batch.reference = at::empty_like(batch.images);
        batch.heads.choice.share = batch.heads.weight = rows;
        if (config.loss.space != Space::Own) batch.heads.mixture = rows;
        const LossSetting setting{unet, *schedule, config.layout, function, config.bound, config.rescales_timesteps};
        const NoiseKey key{config.seed, Purpose::Noise, 0, 0};
        const auto noise = keyed_normal(shape, key).to(meta);
        const auto loss = batch_loss(setting, batch, noise, {config.dtype, /*training=*/true, key});
        (loss.loss * batch.weight).sum().backward();
        int64_t gradients = 0;
        for (const auto& weight : unet.weights()) gradients += weight.grad().defined() ? 1 : 0;
        return std::tuple(loss.loss.sizes().vec(), loss.heads.per_head.sizes().vec(), gradients);
      },
      [](Napi::Env env, const auto& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("loss", encode_shape(env, std::get<0>(result)));
        object.Set("perHead", encode_shape(env, std::get<1>(result)));
        object.Set("gradientCount", static_cast<double>(std::get<2>(result)));
        return object;
      });
}

// lossGradientGram(unet, schedule, config, batches, parameters, held): Promise<{ products, loss }>; a batch carries its
// noise key and loss
Napi::Value loss_gradient_gram(const Napi::CallbackInfo& info) {
  const auto config = info[2].As<Napi::Object>();
  const auto layout = decode_layout(config);
  struct HostBatch {
    TrainingBatch batch;
    NoiseKey key;
    LossConfig loss;
  };
  std::vector<HostBatch> host_batches;
  const auto list = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const auto batch = list.Get(i).As<Napi::Object>();
    host_batches.push_back({decode_batch(batch), decode_noise_key(batch.Get("key").As<Napi::Object>()),
                            decode_loss_config(batch.Get("loss").As<Napi::Object>(), layout)});
  }
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), schedule = unwrap<const Schedule>(info[1]), layout,
       bound = decode_bound_config(config), rescales = config.Get("rescalesTimesteps").ToBoolean().Value(),
       dtype = decode_precision(config.Get("precision")), host_batches = std::move(host_batches),
       parameters = decode_integers(info[4]), held = decode_integer(info[5])] {
        std::vector<GramBatch> batches;
        for (const auto& [batch, key, loss] : host_batches) {
          batches.push_back({on_device(batch, key, unet->device()), ThreeHeadLossFunction(*schedule, layout, loss)});
        }
        const LossSetting setting{*unet, *schedule, layout, batches.front().function, bound, rescales};
        const auto gram = gradient_gram(setting, batches, parameters, static_cast<size_t>(held), dtype);
        return std::pair(to_host(gram.products), to_host(gram.loss));
      },
      [](Napi::Env env, const auto& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("products", encode_data(env, result.first));
        object.Set("loss", encode_data(env, result.second));
        return object;
      });
}

// lossOfOutput(schedule, config, output, batch): Promise<{ loss, perHead, chosen, bound?, errorProducts?, meanError?,
// gradient }> of a given output in the dtype of its numbers; the gradient is that of the sum of the losses
Napi::Value loss_of_output(const Napi::CallbackInfo& info) {
  const auto config = info[1].As<Napi::Object>();
  const auto layout = decode_layout(config);
  return submit(
      info.Env(),
      [schedule = unwrap<const Schedule>(info[0]), layout,
       loss = decode_loss_config(config.Get("loss").As<Napi::Object>(), layout), bound = decode_bound_config(config),
       given = unwrap<at::Tensor>(info[2]), host_batch = decode_batch(info[3].As<Napi::Object>())] {
        const ThreeHeadLossFunction function(*schedule, layout, loss);
        const auto output = given->detach().clone().requires_grad_(true);
        auto batch = host_batch;
        batch.images = batch.images.to(output.device());
        batch.noise = batch.noise.to(output.device());
        if (batch.reference.defined()) batch.reference = batch.reference.to(output.device());
        const auto x_t = schedule->q_sample(batch.images, batch.noise, batch.t);
        const auto result = loss_of_output(*schedule, layout, function, bound, output, batch, batch.noise, x_t);
        result.loss.sum().backward();
        return std::pair(to_host(result), trislot::to_host(output.grad()));
      },
      [](Napi::Env env, const auto& result) -> Napi::Value {
        auto object = encode_losses(env, result.first);
        object.Set("gradient", encode_data(env, result.second));
        return object;
      });
}

}  // namespace trislot
