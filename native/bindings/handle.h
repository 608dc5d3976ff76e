// Handles: what JavaScript holds of native objects. JavaScript owns a handle; a running job shares its object, so
// disposing or collecting a handle during a job is safe. Disposal is prompt, the garbage collector only a safety net.
#pragma once

#include <napi.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "bindings/environment.h"
#include "schedule/schedule.h"
#include "train/classifier_trainer.h"
#include "train/trainer.h"
#include "unet/encoder.h"
#include "unet/unet.h"

namespace trislot {

struct DisposedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A name for messages and a tag that guards against foreign objects, for each kind of handle.
template <typename T>
struct HandleKind;

template <>
struct HandleKind<at::Tensor> {
  static constexpr const char* kName = "tensor";
  static constexpr napi_type_tag kTag = {0x7472697300000001, 0x6c6f740000000001};
};
template <>
struct HandleKind<const Schedule> {
  static constexpr const char* kName = "noise schedule";
  static constexpr napi_type_tag kTag = {0x7472697300000002, 0x6c6f740000000002};
};
template <>
struct HandleKind<UNet> {
  static constexpr const char* kName = "UNet";
  static constexpr napi_type_tag kTag = {0x7472697300000003, 0x6c6f740000000003};
};
template <>
struct HandleKind<Trainer> {
  static constexpr const char* kName = "trainer";
  static constexpr napi_type_tag kTag = {0x7472697300000004, 0x6c6f740000000004};
};
template <>
struct HandleKind<Encoder> {
  static constexpr const char* kName = "classifier";
  static constexpr napi_type_tag kTag = {0x7472697300000005, 0x6c6f740000000005};
};
template <>
struct HandleKind<ClassifierTrainer> {
  static constexpr const char* kName = "classifier trainer";
  static constexpr napi_type_tag kTag = {0x7472697300000006, 0x6c6f740000000006};
};

struct HandleBase {
  virtual ~HandleBase() = default;
  virtual void release(Napi::Env env) = 0;
};

template <typename T>
struct Handle final : HandleBase {
  std::shared_ptr<T> object;
  int64_t bytes = 0;

  void release(Napi::Env env) override {
    if (!object) return;
    object.reset();
    Napi::MemoryManagement::AdjustExternalMemory(env, -bytes);
    --Environment::of(env).handle_count;
  }
};

// bytes: what V8 is told that the handle keeps alive.
template <typename T>
Napi::Value wrap(Napi::Env env, std::shared_ptr<T> object, int64_t bytes) {
  auto handle = std::make_unique<Handle<T>>();
  handle->object = std::move(object);
  handle->bytes = bytes;
  auto external = Napi::External<HandleBase>::New(env, handle.get(), [](Napi::Env finalizing, HandleBase* base) {
    base->release(finalizing);
    delete base;
  });
  handle.release();  // JavaScript's from here on
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes);
  ++Environment::of(env).handle_count;
  external.TypeTag(&HandleKind<T>::kTag);
  return external;
}

template <typename T>
std::shared_ptr<T> unwrap(const Napi::Value& value) {
  const auto external = value.As<Napi::External<HandleBase>>();
  if (!value.IsExternal() || !external.CheckTypeTag(&HandleKind<T>::kTag)) {
    throw Napi::TypeError::New(value.Env(), std::string("expected a handle of a ") + HandleKind<T>::kName);
  }
  auto object = static_cast<Handle<T>*>(external.Data())->object;
  if (!object) throw DisposedError(std::string("this ") + HandleKind<T>::kName + " has been disposed");
  return object;
}

inline Napi::Value wrap_tensor(Napi::Env env, const at::Tensor& tensor) {
  return wrap(env, std::make_shared<at::Tensor>(tensor), static_cast<int64_t>(tensor.nbytes()));
}

}  // namespace trislot
