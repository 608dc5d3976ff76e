// What one JavaScript environment (the main thread, or a worker) owns: an executor and its way back.
#pragma once

#include <napi.h>

#include <cstdint>

#include "runtime/executor.h"

namespace trislot {

class Environment {
 public:
  explicit Environment(Napi::Env env);

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  // A thread-safe function keeps the process alive by a switch, not by a count, so calls in flight are counted here.
  void call_begins(Napi::Env env);
  void call_ends(Napi::Env env);

  Executor executor;
  Napi::ThreadSafeFunction to_javascript;
  int64_t handle_count = 0;

 private:
  int64_t in_flight_ = 0;
};

}  // namespace trislot
