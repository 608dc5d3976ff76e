// A job for the executor and the promise that it settles.
#pragma once

#include <napi.h>

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "bindings/environment.h"
#include "bindings/error.h"

namespace trislot {

struct Nothing {};

template <typename Compute, typename Encode>
class PromiseJob final : public Job {
  using Raw = std::invoke_result_t<Compute&>;
  using Result = std::conditional_t<std::is_void_v<Raw>, Nothing, Raw>;

 public:
  PromiseJob(Napi::Env env, Compute compute, Encode encode)
      : environment_(Environment::of(env)),
        deferred_(Napi::Promise::Deferred::New(env)),
        compute_(std::move(compute)),
        encode_(std::move(encode)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  // On the executor thread. The job then lives on until JavaScript has taken its result.
  void run() override {
    try {
      if constexpr (std::is_void_v<Raw>) {
        (*compute_)();
        result_ = Nothing{};
      } else {
        result_ = (*compute_)();
      }
    } catch (...) {
      failure_ = describe(std::current_exception());
    }
    compute_.reset();  // what the job held is freed here, not on the JavaScript thread
    auto* finished = new PromiseJob(std::move(*this));
    const auto status = environment_.to_javascript.NonBlockingCall(
        finished, [](Napi::Env env, Napi::Function, PromiseJob* job) { job->settle(env); });
    if (status != napi_ok) delete finished;  // the environment is closing
  }

 private:
  void settle(Napi::Env env) {
    Napi::HandleScope scope(env);
    environment_.call_ends(env);
    if (failure_) {
      deferred_.Reject(to_javascript_error(env, *failure_).Value());
    } else {
      try {
        deferred_.Resolve(encode_(env, *result_));
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
      }
    }
    delete this;
  }

  Environment& environment_;
  Napi::Promise::Deferred deferred_;
  std::optional<Compute> compute_;
  Encode encode_;
  std::optional<Result> result_;
  std::optional<Failure> failure_;
};

// compute runs on the executor thread; encode(env, result) on the JavaScript thread.
template <typename Compute, typename Encode>
Napi::Value submit(Napi::Env env, Compute compute, Encode encode) {
  auto job = std::make_unique<PromiseJob<Compute, Encode>>(env, std::move(compute), std::move(encode));
  const auto promise = job->promise();
  auto& environment = Environment::of(env);
  environment.call_begins(env);
  environment.executor.submit(std::move(job));
  return promise;
}

inline Napi::Value encode_nothing(Napi::Env env, const Nothing&) { return env.Undefined(); }

}  // namespace trislot
