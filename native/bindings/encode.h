// C++ results to JavaScript values; buffers are fresh copies that JavaScript owns.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "train/trainer.h"

namespace trislot {

// { dtype, shape, data }; half-precision tensors come as float32. tensor: CPU, contiguous.
Napi::Object encode_tensor(Napi::Env env, const at::Tensor& tensor);

// Only the data, as a typed array.
Napi::Value encode_data(Napi::Env env, const at::Tensor& tensor);

Napi::Array encode_shape(Napi::Env env, at::IntArrayRef shape);
Napi::Float64Array encode_numbers(Napi::Env env, const std::vector<double>& values);
// With `chosen` as int32.
Napi::Object encode_step_result(Napi::Env env, const StepResult& result);

// What encode_tensor can take: on the CPU, contiguous, of a dtype that JavaScript has.
at::Tensor to_host(const at::Tensor& tensor);

}  // namespace trislot
