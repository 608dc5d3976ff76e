#include <ATen/ATen.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/torch_file.h"
#include "runtime/device.h"
#include "runtime/rng.h"

namespace trislot {

// handleDispose(handle): void; may be called again
Napi::Value handle_dispose(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "expected a handle");
  info[0].As<Napi::External<HandleBase>>().Data()->release(info.Env());
  return info.Env().Undefined();
}

// tensorFromHost({ data, shape }, device): Promise<handle>
Napi::Value tensor_from_host(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [tensor = decode_tensor(info[0]), name = decode_string(info[1])] {
        return (tensor.scalar_type() == at::kDouble ? tensor : as_network_input(tensor)).to(device_named(name));
      },
      wrap_tensor);
}

// tensorToHost(handle): Promise<{ dtype, shape, data }>
Napi::Value tensor_to_host(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [tensor = unwrap<at::Tensor>(info[0])] { return to_host(*tensor); }, encode_tensor);
}

// tensorShape(handle): number[]
Napi::Value tensor_shape(const Napi::CallbackInfo& info) {
  return encode_shape(info.Env(), unwrap<at::Tensor>(info[0])->sizes());
}

// tensorNoise(shape, { seed, purpose, step, firstSample }, device): Promise<handle>
Napi::Value tensor_noise(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [shape = decode_integers(info[0]), key = decode_noise_key(info[1].As<Napi::Object>()),
       name = decode_string(info[2])] { return keyed_normal(shape, key).to(device_named(name)); },
      wrap_tensor);
}

// tensorDropoutMask(shape, p, layer, { seed, step, firstSample }): Promise<handle>, the mask that a residual block uses
Napi::Value tensor_dropout_mask(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [shape = decode_integers(info[0]), p = decode_number(info[1]), layer = decode_integer(info[2]),
       key = decode_noise_key(info[3].As<Napi::Object>())] {
        return keyed_dropout_mask(shape, p, static_cast<uint32_t>(layer), key);
      },
      wrap_tensor);
}

// fileRead(path): Promise<{ tensors: [name, tensor][], metadata }>; .pt files by their restricted reader
Napi::Value file_read(const Napi::CallbackInfo& info) {
  const auto path = decode_string(info[0]);
  return submit(
      info.Env(),
      [path] {
        auto file = path.ends_with(".safetensors") ? read_safetensors(path) : read_torch_file(path);
        for (auto& [name, tensor] : file.tensors) tensor = to_host(tensor);
        return file;
      },
      [](Napi::Env env, const TensorFile& file) -> Napi::Value {
        auto tensors = Napi::Array::New(env, file.tensors.size());
        for (uint32_t i = 0; i < file.tensors.size(); ++i) {
          auto pair = Napi::Array::New(env, 2);
          pair.Set(0u, file.tensors[i].name);
          pair.Set(1u, encode_tensor(env, file.tensors[i].tensor));
          tensors.Set(i, pair);
        }
        auto metadata = Napi::Object::New(env);
        for (const auto& [key, value] : file.metadata) metadata.Set(key, value);
        auto object = Napi::Object::New(env);
        object.Set("tensors", tensors);
        object.Set("metadata", metadata);
        return object;
      });
}

// fileWrite(path, [name, { data, shape }][], metadata): Promise<void>, as safetensors, whole or not at all
Napi::Value file_write(const Napi::CallbackInfo& info) {
  std::vector<NamedTensor> tensors;
  const auto list = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const auto pair = list.Get(i).As<Napi::Array>();
    tensors.push_back({decode_string(pair.Get(0u)), decode_tensor(pair.Get(1u))});
  }
  std::map<std::string, std::string> metadata;
  const auto object = info[2].As<Napi::Object>();
  const auto keys = object.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    metadata[decode_string(keys.Get(i))] = decode_string(object.Get(keys.Get(i)));
  }
  return submit(
      info.Env(),
      [path = decode_string(info[0]), tensors = std::move(tensors), metadata = std::move(metadata)] {
        write_safetensors(path, tensors, metadata);
      },
      encode_nothing);
}

}  // namespace trislot
