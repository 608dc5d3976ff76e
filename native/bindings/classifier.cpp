#include "bindings/functions.h"
#include "bindings/network.h"
#include "denoise/denoiser.h"
#include "runtime/device.h"

namespace trislot {
namespace {

ClassifierBatch decode_classifier_batch(const Napi::Object& object) {
  auto batch = decode_batch(object);
  return {batch.images, batch.t, batch.y, batch.lr};
}

// Images and classes as the trainer takes them; for the executor thread.
ClassifierBatch prepared(const ClassifierBatch& batch) {
  return {as_network_input(batch.images), batch.t, batch.y.to(at::kLong), batch.lr};
}

Napi::Object encode_classifier_loss(Napi::Env env, const ClassifierLoss& loss) {
  auto object = Napi::Object::New(env);
  object.Set("exampleLoss", encode_data(env, loss.loss));
  object.Set("rank", encode_data(env, loss.rank));
  return object;
}

}  // namespace

// classifierCreate(config, seed, device): Promise<handle>
Napi::Value classifier_create(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [config = decode_encoder_config(info[0].As<Napi::Object>()), seed = decode_integer(info[1]),
       device = decode_string(info[2])] {
        return std::make_shared<Encoder>(config, device_named(device), static_cast<uint64_t>(seed));
      },
      wrap_network<Encoder>);
}

Napi::Value classifier_parameters(const Napi::CallbackInfo& info) { return network_parameters<Encoder>(info); }
Napi::Value classifier_forward(const Napi::CallbackInfo& info) { return network_forward<Encoder>(info); }
Napi::Value classifier_forward_grad(const Napi::CallbackInfo& info) { return network_forward_grad<Encoder>(info); }
Napi::Value classifier_load(const Napi::CallbackInfo& info) { return network_load<Encoder>(info); }
Napi::Value classifier_save(const Napi::CallbackInfo& info) { return network_save<Encoder>(info); }

// classifierGradient(classifier, process, xt, k, y, scale, rescalesTimesteps, precision): Promise<handle> of
// scale * gradient of log p(y | xt)
Napi::Value classifier_gradient(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [encoder = unwrap<Encoder>(info[0]), process = unwrap<const Schedule>(info[1]), x_t = unwrap<at::Tensor>(info[2]),
       k = decode_integer(info[3]), y = decode_tensor(info[4]), scale = decode_number(info[5]),
       rescales = info[6].ToBoolean().Value(), dtype = decode_precision(info[7])] {
        const auto t = process->told(Steps(x_t->size(0), k), rescales).to(x_t->device());
        const auto gradient = log_probability_gradient(*encoder, *x_t, t, y.to(at::kLong).to(x_t->device()), dtype);
        return gradient * scale;
      },
      wrap_tensor);
}

// classifierTrainerCreate(classifier, schedule, config): Promise<handle>
Napi::Value classifier_trainer_create(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [encoder = unwrap<Encoder>(info[0]), schedule = unwrap<const Schedule>(info[1]),
       config = decode_classifier_trainer_config(info[2].As<Napi::Object>())] {
        return std::make_shared<ClassifierTrainer>(encoder, schedule, config);
      },
      [](Napi::Env env, const std::shared_ptr<ClassifierTrainer>& trainer) {
        int64_t bytes = 0;  // Adam's two averages
        for (const auto& weight : trainer->encoder().weights()) bytes += 2 * static_cast<int64_t>(weight.nbytes());
        return wrap(env, trainer, bytes);
      });
}

// classifierTrainerStep(trainer, { images, t, y, lr }): Promise<{ loss, gradNorm, skipped, lossScale, exampleLoss,
// rank }>
Napi::Value classifier_trainer_step(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<ClassifierTrainer>(info[0]), batch = decode_classifier_batch(info[1].As<Napi::Object>())] {
        auto result = trainer->step(prepared(batch));
        result.per_example.rank = result.per_example.rank.to(at::kInt);
        return result;
      },
      [](Napi::Env env, const ClassifierStepResult& result) -> Napi::Value {
        auto object = encode_classifier_loss(env, result.per_example);
        object.Set("loss", result.loss);
        object.Set("gradNorm", result.grad_norm);
        object.Set("skipped", result.skipped);
        object.Set("lossScale", result.loss_scale);
        return object;
      });
}

// classifierTrainerEvaluate(trainer, { images, t, y }, key): Promise<{ exampleLoss, rank }>, without gradient
Napi::Value classifier_trainer_evaluate(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<ClassifierTrainer>(info[0]), batch = decode_classifier_batch(info[1].As<Napi::Object>()),
       key = decode_noise_key(info[2].As<Napi::Object>())] {
        auto loss = trainer->evaluate(prepared(batch), key);
        loss.rank = loss.rank.to(at::kInt);
        return loss;
      },
      [](Napi::Env env, const ClassifierLoss& loss) -> Napi::Value { return encode_classifier_loss(env, loss); });
}

// classifierTrainerStepCount(trainer): Promise<number>, in call order with the steps
Napi::Value classifier_trainer_step_count(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [trainer = unwrap<ClassifierTrainer>(info[0])] { return trainer->step_count(); },
      [](Napi::Env env, int64_t count) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(count)); });
}

// classifierTrainerSave(trainer, folder): Promise<void>
Napi::Value classifier_trainer_save(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<ClassifierTrainer>(info[0]), folder = decode_string(info[1])] { trainer->save(folder); },
      encode_nothing);
}

// classifierTrainerLoad(trainer, folder): Promise<void>
Napi::Value classifier_trainer_load(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [trainer = unwrap<ClassifierTrainer>(info[0]), folder = decode_string(info[1])] { trainer->load(folder); },
      encode_nothing);
}

}  // namespace trislot
