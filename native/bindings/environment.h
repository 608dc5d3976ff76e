// What one JavaScript environment (the main thread, or a worker) owns: an executor and its way back.
#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "runtime/executor.h"

namespace trislot {

// What a job has come to, on its way to the promise that waits for it.
struct Outcome {
  virtual ~Outcome() = default;
  virtual void settle(Napi::Env env) = 0;
};

class Environment {
 public:
  explicit Environment(Napi::Env env);

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  // A thread-safe function keeps the process alive by a switch, not by a count, so calls in flight are counted here.
  void call_begins(Napi::Env env);
  void call_ends(Napi::Env env);

  // On the executor thread: has the outcome settled on the JavaScript thread.
  void finish(std::unique_ptr<Outcome> outcome);

 private:
  static void settle_next(Napi::Env env, Napi::Function, Environment* environment, void*);

  // Outcomes wait here and not in the thread-safe function, which would lose those that an ending worker leaves in it.
  std::mutex mutex_;
  std::deque<std::unique_ptr<Outcome>> finished_;
  Napi::TypedThreadSafeFunction<Environment, void, settle_next> to_javascript_;
  int64_t in_flight_ = 0;

 public:
  int64_t handle_count = 0;
  Executor executor;  // last, so that it ends first
};

}  // namespace trislot
