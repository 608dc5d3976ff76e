// What this machine and this LibTorch offer.
#pragma once

#include <c10/core/Device.h>

#include <map>
#include <string>

namespace trislot {

// Once a process, before LibTorch is first asked about devices: its answer is kept. Loads libtorch_cuda from beside
// libtorch_cpu when it is there and a driver is present; nothing of CUDA is linked.
void prepare_runtime();

// The device for 'cpu', 'cuda', 'cuda:N' or 'meta'; for CUDA that cannot be used, an error that says what is missing.
c10::Device device_named(const std::string& name);

// Facts for `trislot doctor`: versions, libraries, threads, CPU capability, CUDA.
std::map<std::string, std::string> runtime_info();

}  // namespace trislot
