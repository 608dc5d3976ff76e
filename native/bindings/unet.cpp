#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/file.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/state.h"
#include "runtime/device.h"

namespace trislot {
namespace {

Napi::Value wrap_unet(Napi::Env env, const std::shared_ptr<UNet>& unet) {
  int64_t bytes = 0;
  for (const auto& parameter : unet->parameters()) bytes += static_cast<int64_t>(parameter.tensor.nbytes());
  return wrap(env, unet, bytes);
}

// { x, t, y?, lowRes? } in host memory -> the network's device
UNetInput decode_input(const Napi::Object& object) {
  return {decode_tensor(object.Get("x")), decode_tensor(object.Get("t")), decode_optional_tensor(object.Get("y")),
          decode_optional_tensor(object.Get("lowRes"))};
}

UNetInput on_device(UNetInput input, at::Device device) {
  input.x = as_network_input(input.x).to(device);
  input.t = input.t.to(at::kFloat).to(device);
  if (input.y.defined()) input.y = input.y.to(at::kLong).to(device);
  if (input.low_res.defined()) input.low_res = as_network_input(input.low_res).to(device);
  return input;
}

std::vector<NamedTensor> named_parameters(const UNet& unet) {
  std::vector<NamedTensor> list;
  for (const auto& parameter : unet.parameters()) list.push_back({parameter.name, parameter.tensor.detach()});
  return list;
}

struct ForwardGrad {
  at::Tensor out, grad_x;
  std::vector<double> grad_norms;
};

}  // namespace

// unetCreate(config, seed, device): Promise<handle>
Napi::Value unet_create(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [config = decode_unet_config(info[0].As<Napi::Object>()), seed = decode_integer(info[1]),
       device = decode_string(info[2])] {
        return std::make_shared<UNet>(config, device_named(device), static_cast<uint64_t>(seed));
      },
      wrap_unet);
}

// unetParameters(unet): { name, shape }[] in state-dict order
Napi::Value unet_parameters(const Napi::CallbackInfo& info) {
  const auto unet = unwrap<UNet>(info[0]);
  auto list = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < unet->parameters().size(); ++i) {
    auto entry = Napi::Object::New(info.Env());
    entry.Set("name", unet->parameters()[i].name);
    entry.Set("shape", encode_shape(info.Env(), unet->parameters()[i].tensor.sizes()));
    list.Set(i, entry);
  }
  return list;
}

// unetForward(unet, { x, t, y?, lowRes? }, precision): Promise<tensor in host memory>
Napi::Value unet_forward(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), input = decode_input(info[1].As<Napi::Object>()),
       dtype = decode_precision(info[2])] {
        c10::NoGradGuard no_grad;
        return to_host(unet->forward(on_device(input, unet->device()), {dtype, false, {}}));
      },
      encode_tensor);
}

// unetForwardGrad(unet, input, precision, probe): Promise<{ out, gradX, gradNorms }> of mean(out * probe)
Napi::Value unet_forward_grad(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), host_input = decode_input(info[1].As<Napi::Object>()),
       dtype = decode_precision(info[2]), probe = decode_tensor(info[3])] {
        const auto input = on_device(host_input, unet->device());
        input.x.requires_grad_(true);
        for (auto weight : unet->weights()) weight.mutable_grad().reset();
        const auto out = unet->forward(input, {dtype, false, {}});
        (out * probe.to(out.device())).mean().backward();
        ForwardGrad result{to_host(out), to_host(input.x.grad()), {}};
        for (auto weight : unet->weights()) {
          const auto grad = weight.grad();
          result.grad_norms.push_back(grad.defined() ? grad.norm().item<double>() : 0);
          weight.mutable_grad().reset();
        }
        return result;
      },
      [](Napi::Env env, const ForwardGrad& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("out", encode_tensor(env, result.out));
        object.Set("gradX", encode_tensor(env, result.grad_x));
        object.Set("gradNorms", encode_numbers(env, result.grad_norms));
        return object;
      });
}

// unetLoad(unet, path, { part, partial, rows }): Promise<{ loaded, missing, unexpected, misshapen, metadata }>
Napi::Value unet_load(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), path = decode_string(info[1]),
       options = decode_load_options(info[2].As<Napi::Object>())] {
        return load_weights(named_parameters(*unet), path, options);
      },
      encode_loaded);
}

// unetSave(unet, path): Promise<void>
Napi::Value unet_save(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [unet = unwrap<UNet>(info[0]), path = decode_string(info[1])] {
        write_safetensors(path, named_parameters(*unet), {{"format", "trislot"}});
      },
      encode_nothing);
}

}  // namespace trislot
