// JavaScript values to C++ structs. Only what memory safety needs is checked here; lib/ has checked the rest.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "denoise/denoiser.h"
#include "prediction/head.h"
#include "train/classifier_trainer.h"
#include "train/trainer.h"
#include "unet/config.h"
#include "unet/encoder.h"

namespace trislot {

std::string decode_string(const Napi::Value& value);
double decode_number(const Napi::Value& value);
int64_t decode_integer(const Napi::Value& value);
std::vector<int64_t> decode_integers(const Napi::Value& value);  // of an array or an Int32Array
std::vector<double> decode_numbers(const Napi::Value& value);    // of an array or a Float64Array

// { data, shape } -> a CPU tensor with a copy of the data, in the dtype of the typed array.
at::Tensor decode_tensor(const Napi::Value& value);

// The same, or an undefined tensor for undefined.
at::Tensor decode_optional_tensor(const Napi::Value& value);

// Images as the network sees them: uint8 becomes float32 in [-1, 1]. For the executor thread.
at::Tensor as_network_input(const at::Tensor& images);

// A batch as the network sees it, on its device, with the noise of the key where none is given. For the executor
// thread.
TrainingBatch on_device(TrainingBatch batch, const NoiseKey& key, at::Device device);

UNetConfig decode_unet_config(const Napi::Object& object);
EncoderConfig decode_encoder_config(const Napi::Object& object);
OutputLayout decode_layout(const Napi::Object& object);
LossConfig decode_loss_config(const Napi::Object& object, const OutputLayout& layout);
TrainerConfig decode_trainer_config(const Napi::Object& object);
ClassifierTrainerConfig decode_classifier_trainer_config(const Napi::Object& object);
BoundConfig decode_bound_config(const Napi::Object& object);
TrainingBatch decode_batch(const Napi::Object& object);
VarianceType decode_variance_type(const Napi::Value& value);
DenoiseOptions decode_denoise_options(const Napi::Object& object);
at::ScalarType decode_precision(const Napi::Value& value);
NoiseKey decode_noise_key(const Napi::Object& object);

}  // namespace trislot
