#include "runtime/device.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/headeronly/version.h>

#include "kernels/kernels.h"

#include <filesystem>
#include <mutex>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace trislot {
namespace {

struct CudaState {
  bool library_present = false, driver_present = false, loaded = false;
  std::string folder, load_error;
};

CudaState& cuda_state() {
  static CudaState state;
  return state;
}

void load_cuda() {
#ifndef _WIN32
  auto& state = cuda_state();
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&at::get_num_threads), &info) == 0 || info.dli_fname == nullptr) return;
  state.folder = std::filesystem::path(info.dli_fname).parent_path().string();
  const auto library = std::filesystem::path(state.folder) / "libtorch_cuda.so";
  std::error_code ignored;
  state.library_present = std::filesystem::exists(library, ignored);
  if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) {
    state.driver_present = true;
    dlclose(driver);
  }
  if (!state.library_present || !state.driver_present) return;
  state.loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
  if (!state.loaded) state.load_error = dlerror();
#endif
}

std::string missing_for_cuda() {
  const auto& state = cuda_state();
  if (!state.driver_present) return "no NVIDIA driver (libcuda.so.1) on this machine";
  if (!state.library_present) return "a CPU-only LibTorch in " + state.folder + "; run `npx trislot setup --cuda`";
  if (!state.loaded) return "a CUDA LibTorch that does not load: " + state.load_error;
  return "a driver and a CUDA LibTorch, but no CUDA device";
}

}  // namespace

void prepare_runtime() {
  static std::once_flag once;
  std::call_once(once, load_cuda);
}

c10::Device device_named(const std::string& name) {
  if (name == "meta") return c10::Device(c10::kMeta);
  c10::Device device(name);
  if (device.is_cuda()) {
    if (!at::hasCUDA() || at::detail::getCUDAHooks().deviceCount() == 0) {
      throw std::runtime_error("device: expected a usable CUDA device for '" + name + "', got " + missing_for_cuda());
    }
    const int count = at::detail::getCUDAHooks().deviceCount();
    if (device.index() >= count) {
      throw std::runtime_error("device: expected " + name + " to be one of " + std::to_string(count) +
                               " CUDA devices, got index " + std::to_string(device.index()));
    }
  }
  return device;
}

std::map<std::string, std::string> runtime_info() {
  const auto& state = cuda_state();
  const auto yes_no = [](bool value) { return std::string(value ? "yes" : "no"); };
  return {
      {"libtorch", TORCH_VERSION},
      {"libtorchFolder", state.folder},
      {"cpuCapability", at::get_cpu_capability()},
      {"kernels", chosen_kernels() == Kernels::Plain ? "plain" : "fast"},
      {"kernelSet", kernel_table().name},
      {"mkl", yes_no(at::hasMKL())},
      {"onednn", yes_no(at::hasMKLDNN())},
      {"openmp", yes_no(at::hasOpenMP())},
      {"lapack", yes_no(at::hasLAPACK())},
      {"threads", std::to_string(at::get_num_threads())},
      {"parallel", at::get_parallel_info()},
      {"cudaLibrary", yes_no(state.library_present)},
      {"cudaDriver", yes_no(state.driver_present)},
      {"cudaLoaded", yes_no(state.loaded)},
      {"cudaDevices", std::to_string(at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0)},
      {"cudaMissing", at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0 ? "" : missing_for_cuda()},
  };
}

}  // namespace trislot
