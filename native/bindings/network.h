// What the bindings of every network have in common. A Network has parameters(), weights(), device() and
// forward(UNetInput, ForwardContext).
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/file.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/state.h"

namespace trislot {

template <typename Network>
Napi::Value wrap_network(Napi::Env env, const std::shared_ptr<Network>& network) {
  int64_t bytes = 0;
  for (const auto& parameter : network->parameters()) bytes += static_cast<int64_t>(parameter.tensor.nbytes());
  return wrap(env, network, bytes);
}

template <typename Network>
std::vector<NamedTensor> named_parameters(const Network& network) {
  std::vector<NamedTensor> list;
  for (const auto& parameter : network.parameters()) list.push_back({parameter.name, parameter.tensor.detach()});
  return list;
}

// { x, t, y?, lowRes? } in host memory
inline UNetInput decode_input(const Napi::Object& object) {
  return {decode_tensor(object.Get("x")), decode_tensor(object.Get("t")), decode_optional_tensor(object.Get("y")),
          decode_optional_tensor(object.Get("lowRes"))};
}

inline UNetInput on_device(UNetInput input, at::Device device) {
  input.x = as_network_input(input.x).to(device);
  input.t = input.t.to(at::kFloat).to(device);
  if (input.y.defined()) input.y = input.y.to(at::kLong).to(device);
  if (input.low_res.defined()) input.low_res = as_network_input(input.low_res).to(device);
  return input;
}

struct ForwardGrad {
  at::Tensor out, grad_x;
  std::vector<double> grad_norms;
};

// ...Parameters(network): { name, shape }[] in state-dict order
template <typename Network>
Napi::Value network_parameters(const Napi::CallbackInfo& info) {
  const auto network = unwrap<Network>(info[0]);
  auto list = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < network->parameters().size(); ++i) {
    auto entry = Napi::Object::New(info.Env());
    entry.Set("name", network->parameters()[i].name);
    entry.Set("shape", encode_shape(info.Env(), network->parameters()[i].tensor.sizes()));
    list.Set(i, entry);
  }
  return list;
}

// ...Forward(network, { x, t, y?, lowRes? }, precision): Promise<tensor in host memory>
template <typename Network>
Napi::Value network_forward(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [network = unwrap<Network>(info[0]), input = decode_input(info[1].As<Napi::Object>()),
       dtype = decode_precision(info[2])] {
        c10::NoGradGuard no_grad;
        return to_host(network->forward(on_device(input, network->device()), {dtype, false, {}}));
      },
      encode_tensor);
}

// ...ForwardGrad(network, input, precision, probe): Promise<{ out, gradX, gradNorms }> of mean(out * probe)
template <typename Network>
Napi::Value network_forward_grad(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [network = unwrap<Network>(info[0]), host_input = decode_input(info[1].As<Napi::Object>()),
       dtype = decode_precision(info[2]), probe = decode_tensor(info[3])] {
        const auto input = on_device(host_input, network->device());
        input.x.requires_grad_(true);
        for (auto weight : network->weights()) weight.mutable_grad().reset();
        const auto out = network->forward(input, {dtype, false, {}});
        // The gradient of a mean is too small for float16, that of a sum is not.
        const double count = dtype == at::kHalf ? static_cast<double>(out.numel()) : 1;
        ((out * probe.to(out.device())).mean() * count).backward();
        ForwardGrad result{to_host(out), to_host(input.x.grad() / count), {}};
        for (auto weight : network->weights()) {
          const auto grad = weight.grad();
          result.grad_norms.push_back(grad.defined() ? grad.norm().template item<double>() / count : 0);
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

// ...Load(network, path, { part, partial, rows }): Promise<{ loaded, missing, unexpected, misshapen, metadata }>
template <typename Network>
Napi::Value network_load(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [network = unwrap<Network>(info[0]), path = decode_string(info[1]),
       options = decode_load_options(info[2].As<Napi::Object>())] {
        return load_weights(named_parameters(*network), path, options);
      },
      encode_loaded);
}

// ...Save(network, path): Promise<void>
template <typename Network>
Napi::Value network_save(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [network = unwrap<Network>(info[0]), path = decode_string(info[1])] {
        write_safetensors(path, named_parameters(*network), {{"format", "trislot"}});
      },
      encode_nothing);
}

}  // namespace trislot
