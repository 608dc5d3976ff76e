#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "denoise/bound_terms.h"

namespace trislot {
namespace {

BoundTerms to_host(const BoundTerms& terms) {
  return {trislot::to_host(terms.bound), trislot::to_host(terms.x_start_mse), trislot::to_host(terms.eps_mse)};
}

Napi::Value encode_terms(Napi::Env env, const BoundTerms& terms) {
  auto object = Napi::Object::New(env);
  object.Set("bound", encode_data(env, terms.bound));
  object.Set("xStartMse", encode_data(env, terms.x_start_mse));
  object.Set("epsMse", encode_data(env, terms.eps_mse));
  return object;
}

}  // namespace

// boundEvaluate(unet, process, layout, varianceType, { images, t, noise?, y?, lowRes? }, denoiseOptions, key):
// Promise<{ bound, xStartMse, epsMse }>; t are steps of the process
Napi::Value bound_evaluate(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), process = unwrap<const Schedule>(info[1]),
       layout = decode_layout(info[2].As<Napi::Object>()), variance = decode_variance_type(info[3]),
       host_batch = decode_batch(info[4].As<Napi::Object>()),
       options = decode_denoise_options(info[5].As<Napi::Object>()),
       key = decode_noise_key(info[6].As<Napi::Object>())] {
        c10::NoGradGuard no_grad;
        const auto batch = on_device(host_batch, key, unet->device());
        const auto x_t = process->q_sample(batch.images, batch.noise, batch.t);
        const auto t = process->told(batch.t, options.rescales_timesteps).to(x_t.device());
        const auto output = unet->forward({x_t, t, batch.y, batch.low_res}, {options.dtype, /*training=*/false, {}});
        return to_host(bound_terms(*process, layout, variance, output, batch.images, batch.noise, batch.t, options));
      },
      encode_terms);
}

// boundOfOutput(process, layout, varianceType, output, xStart, noise, k, denoiseOptions): the same of a given output
Napi::Value bound_of_output(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), layout = decode_layout(info[1].As<Napi::Object>()),
       variance = decode_variance_type(info[2]), output = unwrap<at::Tensor>(info[3]),
       x_start = unwrap<at::Tensor>(info[4]), noise = unwrap<at::Tensor>(info[5]), k = decode_integers(info[6]),
       options = decode_denoise_options(info[7].As<Napi::Object>())] {
        c10::NoGradGuard no_grad;
        return to_host(bound_terms(*process, layout, variance, *output, *x_start, *noise, k, options));
      },
      encode_terms);
}

// boundPrior(process, images): Promise<tensor in host memory>, bits per dimension [N]
Napi::Value bound_prior(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), images = decode_tensor(info[1])] {
        return trislot::to_host(prior_bound(*process, as_network_input(images)));
      },
      encode_tensor);
}

}  // namespace trislot
