#include "bindings/decode.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

namespace trislot {
namespace {

[[noreturn]] void wrong_kind(const Napi::Value& value, const std::string& what) {
  throw Napi::TypeError::New(value.Env(), "native: expected " + what);
}

Napi::Object object_of(const Napi::Value& value) {
  if (!value.IsObject()) wrong_kind(value, "an object");
  return value.As<Napi::Object>();
}

bool flag(const Napi::Object& object, const char* key) { return object.Get(key).ToBoolean().Value(); }
int64_t integer(const Napi::Object& object, const char* key) { return decode_integer(object.Get(key)); }
double number(const Napi::Object& object, const char* key) { return decode_number(object.Get(key)); }
std::string text(const Napi::Object& object, const char* key) { return decode_string(object.Get(key)); }

template <size_t N>
size_t position(const Napi::Value& value, const std::array<std::string_view, N>& words) {
  const auto word = decode_string(value);
  const auto found = std::find(words.begin(), words.end(), word);
  if (found == words.end()) wrong_kind(value, "a known word, got " + word);
  return static_cast<size_t>(found - words.begin());
}

at::ScalarType dtype_of(const Napi::TypedArray& array) {
  switch (array.TypedArrayType()) {
    case napi_uint8_array:
      return at::kByte;
    case napi_int32_array:
      return at::kInt;
    case napi_bigint64_array:
      return at::kLong;
    case napi_float32_array:
      return at::kFloat;
    case napi_float64_array:
      return at::kDouble;
    default:
      wrong_kind(array, "a typed array of uint8, int32, int64, float32 or float64");
  }
}

const uint8_t* bytes_of(const Napi::TypedArray& array) {
  void* data = nullptr;  // as Napi's ArrayBuffer does not, this knows shared buffers, too
  napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, &data, nullptr, nullptr);
  return static_cast<const uint8_t*>(data);
}

HeadInputs decode_head_inputs(const Napi::Object& object) {
  HeadInputs inputs;
  inputs.choice.share = decode_optional_tensor(object.Get("share"));
  inputs.weight = decode_optional_tensor(object.Get("headWeight"));
  if (object.Get("temperature").IsNumber()) inputs.choice.temperature = number(object, "temperature");
  if (object.Get("floor").IsNumber()) inputs.choice.floor = number(object, "floor");
  const auto mixture = object.Get("mixture");
  if (mixture.IsObject()) {
    inputs.mixture = decode_optional_tensor(object_of(mixture).Get("weight"));
    inputs.mixture_factor = number(object_of(mixture), "factor");
  }
  return inputs;
}

}  // namespace

std::string decode_string(const Napi::Value& value) {
  if (!value.IsString()) wrong_kind(value, "a string");
  return value.As<Napi::String>();
}

double decode_number(const Napi::Value& value) {
  if (!value.IsNumber()) wrong_kind(value, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t decode_integer(const Napi::Value& value) {
  if (!value.IsNumber()) wrong_kind(value, "an integer");
  return value.As<Napi::Number>().Int64Value();
}

std::vector<int64_t> decode_integers(const Napi::Value& value) {
  std::vector<int64_t> list;
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
    const auto array = value.As<Napi::Int32Array>();
    list.assign(array.Data(), array.Data() + array.ElementLength());
    return list;
  }
  if (!value.IsArray()) wrong_kind(value, "an array of integers");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(decode_integer(array.Get(i)));
  return list;
}

std::vector<double> decode_numbers(const Napi::Value& value) {
  std::vector<double> list;
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float64_array) {
    const auto array = value.As<Napi::Float64Array>();
    list.assign(array.Data(), array.Data() + array.ElementLength());
    return list;
  }
  if (!value.IsArray()) wrong_kind(value, "an array of numbers");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(decode_number(array.Get(i)));
  return list;
}

at::Tensor decode_tensor(const Napi::Value& value) {
  const auto object = object_of(value);
  const auto shape = decode_integers(object.Get("shape"));
  const auto data = object.Get("data");  // last: what a getter runs before it may change the buffer's length
  if (!data.IsTypedArray()) wrong_kind(data, "a typed array");
  const auto array = data.As<Napi::TypedArray>();
  int64_t count = 1;
  for (const auto size : shape) {
    const bool overflows = size < 0 || __builtin_mul_overflow(count, size, &count);
    if (overflows || count > (int64_t{1} << 40)) wrong_kind(value, "a sensible shape");
  }
  if (count != static_cast<int64_t>(array.ElementLength())) wrong_kind(value, "as much data as the shape says");
  auto tensor = at::empty(shape, dtype_of(array));
  if (array.ByteLength() > 0) std::memcpy(tensor.mutable_data_ptr(), bytes_of(array), array.ByteLength());
  return tensor;
}

at::Tensor decode_optional_tensor(const Napi::Value& value) {
  return value.IsUndefined() || value.IsNull() ? at::Tensor() : decode_tensor(value);
}

at::Tensor as_network_input(const at::Tensor& images) {
  return images.scalar_type() == at::kByte ? images.to(at::kFloat).div_(127.5).sub_(1) : images.to(at::kFloat);
}

TrainingBatch on_device(TrainingBatch batch, const NoiseKey& key, at::Device device) {
  const auto noise = batch.noise.defined() ? batch.noise : keyed_normal(batch.images.sizes(), key);
  batch.noise = noise.to(device);
  batch.images = as_network_input(batch.images).to(device);
  if (batch.y.defined()) batch.y = batch.y.to(at::kLong).to(device);
  if (batch.low_res.defined()) batch.low_res = as_network_input(batch.low_res).to(device);
  if (batch.reference.defined()) batch.reference = as_network_input(batch.reference).to(device);
  return batch;
}

UNetConfig decode_unet_config(const Napi::Object& object) {
  UNetConfig config;
  config.in_channels = integer(object, "inChannels");
  config.model_channels = integer(object, "modelChannels");
  config.out_channels = integer(object, "outChannels");
  config.num_res_blocks = integer(object, "resBlockCount");
  config.attention_resolutions = decode_integers(object.Get("attentionResolutions"));
  config.dropout = number(object, "dropout");
  config.channel_mult = decode_numbers(object.Get("channelMult"));
  config.conv_resample = flag(object, "convResample");
  config.dims = integer(object, "dims");
  config.num_classes = integer(object, "classCount");
  config.recompute = flag(object, "recompute");
  config.num_heads = integer(object, "attentionHeads");
  config.num_head_channels = integer(object, "headChannels");
  config.num_heads_upsample = integer(object, "attentionHeadsUp");
  config.use_scale_shift_norm = flag(object, "scaleShiftNorm");
  config.resblock_updown = flag(object, "resBlockUpDown");
  config.use_new_attention_order = flag(object, "newAttentionOrder");
  config.norm_groups = integer(object, "normGroups");
  config.low_res = flag(object, "lowRes");
  if (object.Get("gateChannels").IsNumber()) config.gate_channels = integer(object, "gateChannels");
  if (object.Get("targetAngles").IsNumber()) {
    config.target_angles = integer(object, "targetAngles");
    config.angle_span = number(object, "angleSpan");
  }
  return config;
}

EncoderConfig decode_encoder_config(const Napi::Object& object) {
  static constexpr std::array<std::string_view, 4> kPools = {"adaptive", "attention", "spatial", "spatial_v2"};
  return {decode_unet_config(object), static_cast<Pool>(position(object.Get("pool"), kPools)),
          integer(object, "imageSize")};
}

OutputLayout decode_layout(const Napi::Object& object) {
  OutputLayout layout;
  const auto heads = object.Get("heads").As<Napi::Array>();
  for (uint32_t i = 0; i < heads.Length(); ++i) {
    layout.heads.push_back(static_cast<Head>(position(heads.Get(i), kHeadNames)));
  }
  layout.image_channels = integer(object, "imageChannels");
  layout.learns_variance = flag(object, "learnsVariance");
  layout.gate = flag(object, "gate");
  return layout;
}

LossConfig decode_loss_config(const Napi::Object& object, const OutputLayout& layout) {
  LossConfig config;
  config.compare = static_cast<Space>(position(object.Get("compare"), kSpaceNames));
  config.space = static_cast<Space>(position(object.Get("space"), kSpaceNames));
  config.sigma_data = number(object, "sigmaData");
  config.direction_weight = number(object, "directionWeight");
  const auto choose = text(object, "choose");
  for (size_t i = 0; i < layout.heads.size(); ++i) {
    if (choose != kHeadNames[static_cast<size_t>(layout.heads[i])]) continue;
    config.choose = choose_single;
    config.single_head = static_cast<int64_t>(i);
    return config;
  }
  config.choose = choice_named(choose);
  return config;
}

TrainerConfig decode_trainer_config(const Napi::Object& object) {
  TrainerConfig config;
  config.seed = static_cast<uint64_t>(integer(object, "seed"));
  config.layout = decode_layout(object);
  config.loss = decode_loss_config(object_of(object.Get("loss")), config.layout);
  config.bound = decode_bound_config(object);
  config.rescales_timesteps = flag(object, "rescalesTimesteps");
  config.optimizer = {number(object, "beta1"), number(object, "beta2"), number(object, "tiny"),
                      number(object, "weightDecay"), flag(object, "decayAll")};
  config.ema_rates = decode_numbers(object.Get("emaRates"));
  config.ema_warms_up = flag(object, "emaWarmsUp");
  config.clip_norm = number(object, "clipNorm");
  config.micro_batch = integer(object, "microBatch");
  config.sums_micro_batches = flag(object, "sumsMicroBatches");
  config.dtype = decode_precision(object.Get("precision"));
  const auto scale = object_of(object.Get("lossScale"));
  config.loss_scale = {number(scale, "log2"), number(scale, "growth"), number(scale, "min"), number(scale, "max")};
  config.skips_non_finite = text(object, "nonFinite") == "skip";
  return config;
}

ClassifierTrainerConfig decode_classifier_trainer_config(const Napi::Object& object) {
  ClassifierTrainerConfig config;
  config.seed = static_cast<uint64_t>(integer(object, "seed"));
  config.noised = flag(object, "noised");
  config.optimizer = {number(object, "beta1"), number(object, "beta2"), number(object, "tiny"),
                      number(object, "weightDecay"), flag(object, "decayAll")};
  config.clip_norm = number(object, "clipNorm");
  config.micro_batch = integer(object, "microBatch");
  config.dtype = decode_precision(object.Get("precision"));
  config.skips_non_finite = text(object, "nonFinite") == "skip";
  return config;
}

BoundConfig decode_bound_config(const Napi::Object& object) {
  const auto kind = position(object_of(object.Get("loss")).Get("kind"), kLossKindNames);
  return {static_cast<LossKind>(kind), decode_variance_type(object.Get("variance")), number(object, "boundWeight")};
}

TrainingBatch decode_batch(const Napi::Object& object) {
  TrainingBatch batch;
  batch.images = decode_tensor(object.Get("images"));
  batch.t = decode_integers(object.Get("t"));
  const auto count = static_cast<int64_t>(batch.t.size());
  batch.weight = decode_optional_tensor(object.Get("weight"));
  batch.noise = decode_optional_tensor(object.Get("noise"));
  batch.y = decode_optional_tensor(object.Get("y"));
  batch.low_res = decode_optional_tensor(object.Get("lowRes"));
  batch.heads = decode_head_inputs(object);
  batch.reference = decode_optional_tensor(object.Get("reference"));
  for (const auto& tensor : {batch.images, batch.weight, batch.noise, batch.y, batch.low_res, batch.heads.choice.share,
                             batch.heads.weight, batch.heads.mixture}) {
    if (tensor.defined() && (tensor.dim() == 0 || tensor.size(0) != count)) {
      wrong_kind(object, "one row an example in each part of a batch");
    }
  }
  if (object.Get("lr").IsNumber()) batch.lr = number(object, "lr");
  return batch;
}

VarianceType decode_variance_type(const Napi::Value& value) {
  static constexpr std::array<std::string_view, 4> kNames = {"fixedSmall", "fixedLarge", "learned", "learnedRange"};
  return static_cast<VarianceType>(position(value, kNames));
}

DenoiseOptions decode_denoise_options(const Napi::Object& object) {
  return {decode_numbers(object.Get("headWeights")), flag(object, "clip"),
          flag(object, "rescalesTimesteps"),         decode_precision(object.Get("precision")),
          number(object, "guidanceScale"),           integer(object, "nullClass")};
}

at::ScalarType decode_precision(const Napi::Value& value) {
  const auto name = decode_string(value);
  return name == "bf16" ? at::kBFloat16 : name == "fp16" ? at::kHalf : at::kFloat;
}

NoiseKey decode_noise_key(const Napi::Object& object) {
  const auto purpose = text(object, "purpose");
  return {static_cast<uint64_t>(integer(object, "seed")),
          purpose == "startNoise"  ? Purpose::StartNoise
          : purpose == "stepNoise" ? Purpose::StepNoise
          : purpose == "probe"     ? Purpose::Probe
                                   : Purpose::Noise,
          static_cast<uint32_t>(integer(object, "step")), static_cast<uint32_t>(integer(object, "firstSample"))};
}

}  // namespace trislot
