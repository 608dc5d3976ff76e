#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"

namespace trislot {
namespace {

Napi::Value encode_denoised(Napi::Env env, const Denoised& denoised) {
  auto object = Napi::Object::New(env);
  object.Set("xStart", wrap_tensor(env, denoised.x_start));
  if (denoised.mean.defined()) object.Set("mean", wrap_tensor(env, denoised.mean));
  if (denoised.variance.defined()) object.Set("variance", wrap_tensor(env, denoised.variance));
  return object;
}

struct Interpreted {
  at::Tensor x_start, mean, variance, log_variance;
};

// Either one step for the whole batch, or one an example.
Steps decode_steps(const Napi::Value& value) {
  return value.IsNumber() ? Steps{decode_integer(value)} : decode_integers(value);
}

Steps for_each_example(const Steps& k, const at::Tensor& x_t) { return k.size() == 1 ? Steps(x_t.size(0), k[0]) : k; }

std::shared_ptr<at::Tensor> unwrap_optional(const Napi::Value& value) {
  return value.IsUndefined() ? std::make_shared<at::Tensor>() : unwrap<at::Tensor>(value);
}

}  // namespace

// denoiserPredict(unet, process, layout, xt, k, options, y?, lowRes?):
// Promise<{ xStart, mean?, variance? }>
Napi::Value denoiser_predict(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), process = unwrap<const Schedule>(info[1]),
       layout = decode_layout(info[2].As<Napi::Object>()), x_t = unwrap<at::Tensor>(info[3]),
       k = decode_integer(info[4]), options = decode_denoise_options(info[5].As<Napi::Object>()),
       y = decode_optional_tensor(info[6]), low_res = decode_optional_tensor(info[7])] {
        const auto device = x_t->device();
        return predict_x_start(*unet, *process, layout, *x_t, k, y.defined() ? y.to(at::kLong).to(device) : y,
                               low_res.defined() ? as_network_input(low_res).to(device) : low_res, options);
      },
      encode_denoised);
}

// denoiserInterpret(process, layout, varianceType, output, xt, k, clip): Promise<{ xStart, mean, variance, logVariance
// }> of a given output, through the layout's first head
Napi::Value denoiser_interpret(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), layout = decode_layout(info[1].As<Napi::Object>()),
       type = decode_variance_type(info[2]), output = unwrap<at::Tensor>(info[3]), x_t = unwrap<at::Tensor>(info[4]),
       steps = decode_steps(info[5]), clip = info[6].ToBoolean().Value()] {
        c10::NoGradGuard no_grad;
        const auto k = for_each_example(steps, *x_t);
        const auto predictions = split_output(layout, *output);
        auto x_start = x_start_from(*process, layout.heads[0], predictions.head(0), *x_t, k);
        if (clip) x_start = x_start.clamp(-1, 1);
        const auto variance = reverse_variance(*process, type, predictions.variance, *x_t, k);
        return Interpreted{
            x_start, model_mean(*process, layout.heads[0], predictions.head(0), x_start, *x_t, k).contiguous(),
            variance.variance.expand_as(*x_t).contiguous(), variance.log_variance.expand_as(*x_t).contiguous()};
      },
      [](Napi::Env env, const Interpreted& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("xStart", wrap_tensor(env, result.x_start));
        object.Set("mean", wrap_tensor(env, result.mean));
        object.Set("variance", wrap_tensor(env, result.variance));
        object.Set("logVariance", wrap_tensor(env, result.log_variance));
        return object;
      });
}

// reverseAncestral(process, varianceType, xStart, varianceValues?, xt, noise, k, mean?, gradient?):
// Promise<handle>; without a mean it is the posterior's
Napi::Value reverse_ancestral(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), type = decode_variance_type(info[1]),
       x_start = unwrap<at::Tensor>(info[2]), values = unwrap_optional(info[3]), x_t = unwrap<at::Tensor>(info[4]),
       noise = unwrap<at::Tensor>(info[5]), steps = decode_steps(info[6]), mean = unwrap_optional(info[7]),
       gradient = unwrap_optional(info[8])] {
        c10::NoGradGuard no_grad;
        const auto k = for_each_example(steps, *x_t);
        const auto variance = reverse_variance(*process, type, *values, *x_t, k);
        return ancestral_step(mean->defined() ? *mean : posterior_mean(*process, *x_start, *x_t, k), variance, *noise,
                              *gradient, k);
      },
      wrap_tensor);
}

// reverseDdim(process, xStart, xt, noise?, eta, k): Promise<handle>
Napi::Value reverse_ddim(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       x_t = unwrap<at::Tensor>(info[2]), noise = unwrap_optional(info[3]), eta = decode_number(info[4]),
       steps = decode_steps(info[5])] {
        c10::NoGradGuard no_grad;
        const auto k = for_each_example(steps, *x_t);
        return ddim_step(*process, *x_start, *x_t, *noise, eta, k);
      },
      wrap_tensor);
}

// guidedXStart(process, xStart, gradient, k, clip): Promise<handle>
Napi::Value guided_x_start(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       gradient = unwrap<at::Tensor>(info[2]), steps = decode_steps(info[3]), clip = info[4].ToBoolean().Value()] {
        c10::NoGradGuard no_grad;
        return guided_x_start(*process, *x_start, *gradient, clip, for_each_example(steps, *x_start));
      },
      wrap_tensor);
}

// reverseEncode(process, xStart, xt, k): Promise<handle>, the DDIM step towards more noise
Napi::Value reverse_encode(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       x_t = unwrap<at::Tensor>(info[2]), steps = decode_steps(info[3])] {
        c10::NoGradGuard no_grad;
        const auto k = for_each_example(steps, *x_t);
        return ddim_reverse_step(*process, *x_start, *x_t, k);
      },
      wrap_tensor);
}

// reverseBound(process, xStart, xt, mean, logVariance, k): Promise<tensor in host memory>, bits per dimension [N]
Napi::Value reverse_bound(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       x_t = unwrap<at::Tensor>(info[2]), mean = unwrap<at::Tensor>(info[3]),
       log_variance = unwrap<at::Tensor>(info[4]), steps = decode_steps(info[5])] {
        c10::NoGradGuard no_grad;
        const auto k = for_each_example(steps, *x_t);
        return to_host(variational_bound(*process, *x_start, *x_t, *mean, *log_variance, k));
      },
      encode_tensor);
}

}  // namespace trislot
