#include "bindings/environment.h"

#include <utility>

namespace trislot {

Environment::Environment(Napi::Env env) {
  to_javascript_ = decltype(to_javascript_)::New(env, "trislot", /*maxQueueSize=*/0, /*initialThreadCount=*/1, this);
  to_javascript_.Unref(env);
  // Hooks run in reverse order: the executor is joined while the way back still exists.
  env.AddCleanupHook([this] { executor.stop(); });
}

void Environment::call_begins(Napi::Env env) {
  if (in_flight_++ == 0) to_javascript_.Ref(env);
}

void Environment::call_ends(Napi::Env env) {
  if (--in_flight_ == 0) to_javascript_.Unref(env);
}

void Environment::finish(std::unique_ptr<Outcome> outcome) {
  {
    std::lock_guard lock(mutex_);
    finished_.push_back(std::move(outcome));
  }
  to_javascript_.NonBlockingCall();
}

void Environment::settle_next(Napi::Env env, Napi::Function, Environment* environment, void*) {
  if (env == nullptr) return;  // the environment has ended, and frees the outcome with itself
  std::unique_ptr<Outcome> outcome;
  {
    std::lock_guard lock(environment->mutex_);
    outcome = std::move(environment->finished_.front());
    environment->finished_.pop_front();
  }
  const Napi::HandleScope scope(env);
  environment->call_ends(env);
  try {
    outcome->settle(env);
  } catch (const Napi::Error&) {
    // Only a worker that is being terminated refuses its promise; nobody waits for it any more.
  }
}

}  // namespace trislot
