#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/feature_network_handle.h"
#include "bindings/functions.h"
#include "bindings/submit.h"
#include "metrics/metrics.h"
#include "runtime/device.h"

namespace trislot {
namespace {

Gaussian decode_gaussian(const Napi::Value& value) {
  const auto object = value.As<Napi::Object>();
  return {decode_tensor(object.Get("mean")), decode_tensor(object.Get("covariance"))};
}

Napi::Value encode_number(Napi::Env env, double value) { return Napi::Number::New(env, value); }

}  // namespace

// featureNetworkLoad(path, device): Promise<handle>
Napi::Value feature_network_load(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [path = decode_string(info[0]), name = decode_string(info[1])] {
        return std::make_shared<FeatureNetwork>(path, device_named(name));
      },
      [](Napi::Env env, const std::shared_ptr<FeatureNetwork>& network) -> Napi::Value {
        return wrap(env, network, 0);
      });
}

// featureNetworkRun(network, images): Promise<{ pool, spatial?, probabilities? }>; images: { data, shape }, 0 to 255
Napi::Value feature_network_run(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [network = unwrap<FeatureNetwork>(info[0]), images = decode_tensor(info[1])] {
        return (*network)(images.to(at::kFloat));
      },
      [](Napi::Env env, const Features& features) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("pool", wrap_tensor(env, features.pool));
        if (features.spatial.defined()) object.Set("spatial", wrap_tensor(env, features.spatial));
        if (features.probabilities.defined()) object.Set("probabilities", wrap_tensor(env, features.probabilities));
        return object;
      });
}

// tensorConcatenate(handles): Promise<handle>, along the first dimension
Napi::Value tensor_concatenate(const Napi::CallbackInfo& info) {
  std::vector<std::shared_ptr<at::Tensor>> parts;
  const auto list = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) parts.push_back(unwrap<at::Tensor>(list.Get(i)));
  return submit(
      info.Env(),
      [parts = std::move(parts)] {
        std::vector<at::Tensor> tensors;
        for (const auto& part : parts) tensors.push_back(*part);
        return at::cat(tensors);
      },
      wrap_tensor);
}

// featureStatistics(features): Promise<{ mean, covariance }>, tensors in host memory
Napi::Value feature_statistics(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [features = unwrap<at::Tensor>(info[0])] {
        c10::NoGradGuard no_grad;
        const auto gaussian = gaussian_of(*features);
        return Gaussian{to_host(gaussian.mean), to_host(gaussian.covariance)};
      },
      [](Napi::Env env, const Gaussian& gaussian) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("mean", encode_tensor(env, gaussian.mean));
        object.Set("covariance", encode_tensor(env, gaussian.covariance));
        return object;
      });
}

// frechetDistance({ mean, covariance }, { mean, covariance }): Promise<number>
Napi::Value frechet_distance(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [a = decode_gaussian(info[0]), b = decode_gaussian(info[1])] {
        c10::NoGradGuard no_grad;
        return frechet_distance(a, b);
      },
      encode_number);
}

// inceptionScore(probabilities, split): Promise<number>
Napi::Value inception_score(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [probabilities = unwrap<at::Tensor>(info[0]), split = decode_integer(info[1])] {
        c10::NoGradGuard no_grad;
        return inception_score(*probabilities, split);
      },
      encode_number);
}

// precisionRecall(reference, samples, neighbour): Promise<{ precision, recall }>
Napi::Value precision_recall(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [reference = unwrap<at::Tensor>(info[0]), samples = unwrap<at::Tensor>(info[1]),
       neighbour = decode_integer(info[2])] {
        c10::NoGradGuard no_grad;
        return precision_recall(*reference, *samples, neighbour);
      },
      [](Napi::Env env, const PrecisionRecall& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("precision", result.precision);
        object.Set("recall", result.recall);
        return object;
      });
}

// kernelDistances(a, b, rowsA, rowsB): Promise<Float64Array>, one a pair of subsets
Napi::Value kernel_distances(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [a = unwrap<at::Tensor>(info[0]), b = unwrap<at::Tensor>(info[1]), rows_a = decode_tensor(info[2]),
       rows_b = decode_tensor(info[3])] {
        c10::NoGradGuard no_grad;
        return kernel_distances(*a, *b, rows_a.to(a->device()), rows_b.to(b->device()));
      },
      encode_numbers);
}

// projectImages(images, directions): Promise<handle>; images: { data, shape } as a network sees them
Napi::Value project_images(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [images = decode_tensor(info[0]), directions = unwrap<at::Tensor>(info[1])] {
        c10::NoGradGuard no_grad;
        return project(as_network_input(images).to(directions->device()), *directions);
      },
      wrap_tensor);
}

// slicedWasserstein(a, b): Promise<number>, of projections
Napi::Value sliced_wasserstein(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [a = unwrap<at::Tensor>(info[0]), b = unwrap<at::Tensor>(info[1])] {
        c10::NoGradGuard no_grad;
        return sliced_wasserstein(*a, *b);
      },
      encode_number);
}

}  // namespace trislot
