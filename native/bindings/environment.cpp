#include "bindings/environment.h"

namespace trislot {

Environment::Environment(Napi::Env env) {
  to_javascript = Napi::ThreadSafeFunction::New(env, Napi::Function(), "trislot", /*maxQueueSize=*/0,
                                                /*initialThreadCount=*/1);
  to_javascript.Unref(env);
  // Hooks run in reverse order: the executor is joined while the way back still exists.
  env.AddCleanupHook([this] { executor.stop(); });
}

void Environment::call_begins(Napi::Env env) {
  if (in_flight_++ == 0) to_javascript.Ref(env);
}

void Environment::call_ends(Napi::Env env) {
  if (--in_flight_ == 0) to_javascript.Unref(env);
}

}  // namespace trislot
