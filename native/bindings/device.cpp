#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>

#include <cmath>

#include "bindings/decode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "kernels/kernels.h"
#include "runtime/device.h"
#include "runtime/memory.h"

namespace trislot {

// version(): string, of the LibTorch that the addon was compiled against
Napi::Value version(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), TORCH_VERSION); }

// shutdown(): void; waits for the job under way and drops the others. process.exit() runs no cleanup hooks, and the
// destructors of LibTorch's statics must not run beside a job.
Napi::Value shutdown(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).executor.stop();
  return info.Env().Undefined();
}

// runtimeInfo(): Promise<Record<string, string>>
Napi::Value runtime_info(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [] { return trislot::runtime_info(); },
      [](Napi::Env env, const std::map<std::string, std::string>& facts) -> Napi::Value {
        auto object = Napi::Object::New(env);
        for (const auto& [name, value] : facts) object.Set(name, value);
        return object;
      });
}

// selfTest(device): Promise<{ loss, gradNorm }>, a forward and backward pass of a tiny convolution
Napi::Value self_test(const Napi::CallbackInfo& info) {
  const auto name = decode_string(info[0]);
  return submit(
      info.Env(),
      [name] {
        const auto options = at::TensorOptions(at::kFloat).device(device_named(name));
        const auto x = at::linspace(-1, 1, 2 * 3 * 8 * 8, options).view({2, 3, 8, 8});
        auto weight = at::linspace(-0.5, 0.5, 4 * 3 * 3 * 3, options).view({4, 3, 3, 3}).requires_grad_(true);
        const auto loss = at::silu(at::conv2d(x, weight, {}, 1, 1)).square().mean();
        loss.backward();
        return std::pair(loss.item<double>(), weight.grad().norm().item<double>());
      },
      [](Napi::Env env, const std::pair<double, double>& result) -> Napi::Value {
        auto object = Napi::Object::New(env);
        object.Set("loss", result.first);
        object.Set("gradNorm", result.second);
        return object;
      });
}

// threadsSet(count): Promise<void>
Napi::Value threads_set(const Napi::CallbackInfo& info) {
  const auto count = decode_integer(info[0]);
  return submit(
      info.Env(), [count] { at::set_num_threads(static_cast<int>(count)); }, encode_nothing);
}

// kernelsChoose(name): Promise<void>
Napi::Value kernels_choose(const Napi::CallbackInfo& info) {
  const auto kernels = decode_string(info[0]) == "plain" ? Kernels::Plain : Kernels::Fast;
  return submit(
      info.Env(), [kernels] { choose_kernels(kernels); }, encode_nothing);
}

// memoryCount(): { liveBytes, peakBytes, liveAllocations, handles }
Napi::Value memory_count(const Napi::CallbackInfo& info) {
  const auto count = trislot::memory_count();
  auto object = Napi::Object::New(info.Env());
  object.Set("liveBytes", static_cast<double>(count.live_bytes));
  object.Set("peakBytes", static_cast<double>(count.peak_bytes));
  object.Set("liveAllocations", static_cast<double>(count.live_allocations));
  object.Set("handles", static_cast<double>(Environment::of(info.Env()).handle_count));
  return object;
}

// memoryResetPeak(): Promise<void>
Napi::Value memory_reset_peak(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(), [] { reset_peak_memory(); }, encode_nothing);
}

// deviceCheck(name): Promise<void>, rejected with what is missing
Napi::Value device_check(const Napi::CallbackInfo& info) {
  const auto name = decode_string(info[0]);
  return submit(
      info.Env(), [name] { device_named(name); }, encode_nothing);
}

}  // namespace trislot
