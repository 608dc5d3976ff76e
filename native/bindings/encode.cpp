#include "bindings/encode.h"

#include <ATen/ATen.h>

#include <cstring>

namespace trislot {
namespace {

template <typename Array>
Napi::Value copy_to(Napi::Env env, const at::Tensor& tensor) {
  auto array = Array::New(env, static_cast<size_t>(tensor.numel()));
  if (tensor.numel() > 0) std::memcpy(array.Data(), tensor.const_data_ptr(), tensor.nbytes());
  return array;
}

const char* dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kByte:
      return "uint8";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kDouble:
      return "float64";
    default:
      return "float32";
  }
}

}  // namespace

at::Tensor to_host(const at::Tensor& tensor) {
  auto host = tensor.detach().to(at::kCPU);
  switch (host.scalar_type()) {
    case at::kBool:
      host = host.to(at::kByte);
      break;
    case at::kByte:
    case at::kInt:
    case at::kLong:
    case at::kFloat:
    case at::kDouble:
      break;
    default:
      host = host.to(at::kFloat);
  }
  return host.contiguous();
}

Napi::Value encode_data(Napi::Env env, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kByte:
      return copy_to<Napi::Uint8Array>(env, tensor);
    case at::kInt:
      return copy_to<Napi::Int32Array>(env, tensor);
    case at::kLong:
      return copy_to<Napi::BigInt64Array>(env, tensor);
    case at::kDouble:
      return copy_to<Napi::Float64Array>(env, tensor);
    default:
      return copy_to<Napi::Float32Array>(env, tensor);
  }
}

Napi::Array encode_shape(Napi::Env env, at::IntArrayRef shape) {
  auto array = Napi::Array::New(env, shape.size());
  for (uint32_t i = 0; i < shape.size(); ++i) array.Set(i, static_cast<double>(shape[i]));
  return array;
}

Napi::Object encode_tensor(Napi::Env env, const at::Tensor& tensor) {
  auto object = Napi::Object::New(env);
  object.Set("dtype", dtype_name(tensor.scalar_type()));
  object.Set("shape", encode_shape(env, tensor.sizes()));
  object.Set("data", encode_data(env, tensor));
  return object;
}

Napi::Float64Array encode_numbers(Napi::Env env, const std::vector<double>& values) {
  auto array = Napi::Float64Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(double));
  return array;
}

Napi::Object encode_step_result(Napi::Env env, const StepResult& result) {
  auto object = Napi::Object::New(env);
  object.Set("loss", result.loss);
  object.Set("gradNorm", result.grad_norm);
  object.Set("skipped", result.skipped);
  object.Set("exampleLoss", encode_data(env, result.example_loss));
  object.Set("perHead", encode_data(env, result.per_head));
  object.Set("chosen", encode_data(env, result.chosen));
  if (result.bound.defined()) object.Set("bound", encode_data(env, result.bound));
  if (result.error_products.defined()) {
    object.Set("errorProducts", encode_data(env, result.error_products));
    object.Set("meanError", encode_data(env, result.mean_error));
  }
  object.Set("lossScale", result.loss_scale);
  return object;
}

}  // namespace trislot
