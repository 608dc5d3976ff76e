// A job for the executor and the promise that it settles.
#pragma once

#include <napi.h>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "bindings/environment.h"
#include "bindings/error.h"

namespace trislot {

struct Nothing {};

// A result or a failure, and the promise that takes it.
template <typename Result, typename Encode>
struct PromiseOutcome final : Outcome {
  PromiseOutcome(Napi::Env env, Encode encode)
      : deferred(Napi::Promise::Deferred::New(env)), encode(std::move(encode)) {}

  void settle(Napi::Env env) override {
    if (failure) {
      deferred.Reject(to_javascript_error(env, *failure).Value());
      return;
    }
    try {
      deferred.Resolve(encode(env, *result));
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
    } catch (...) {
      deferred.Reject(to_javascript_error(env, describe(std::current_exception())).Value());
    }
  }

  Napi::Promise::Deferred deferred;
  Encode encode;
  std::optional<Result> result;
  std::optional<Failure> failure;
};

template <typename Compute, typename Encode>
class PromiseJob final : public Job {
  using Raw = std::invoke_result_t<Compute&>;
  using Result = std::conditional_t<std::is_void_v<Raw>, Nothing, Raw>;

 public:
  PromiseJob(Napi::Env env, Compute compute, Encode encode)
      : environment_(Environment::of(env)),
        compute_(std::move(compute)),
        outcome_(std::make_unique<PromiseOutcome<Result, Encode>>(env, std::move(encode))) {}

  Napi::Promise promise() const { return outcome_->deferred.Promise(); }

  // On the executor thread.
  void run() override {
    try {
      if constexpr (std::is_void_v<Raw>) {
        (*compute_)();
        outcome_->result = Nothing{};
      } else {
        outcome_->result = (*compute_)();
      }
    } catch (...) {
      outcome_->failure = describe(std::current_exception());
    }
    compute_.reset();  // before the promise settles, so that what the job held is free by then
    environment_.finish(std::move(outcome_));
  }

 private:
  Environment& environment_;
  std::optional<Compute> compute_;
  std::unique_ptr<PromiseOutcome<Result, Encode>> outcome_;
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
