// trislot's side of the bench without Node: builds and steps what it is asked to, over native/ alone. The protocol is
// described in bench/protocol.ts. On CUDA steps are timed by events.
//
// Usage: bench_worker [--threads N] [--device cpu]
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>

#include "denoise/denoiser.h"
#include "json.h"
#include "runtime/device.h"
#include "runtime/memory.h"
#include "runtime/rng.h"
#include "schedule/betas.h"
#include "schedule/reverse.h"
#include "train/trainer.h"
#include "unet/unet.h"

namespace bench {
namespace {

constexpr int64_t kTimesteps = 1000;
constexpr int64_t kSamplingSteps = 50;

trislot::OutputLayout layout_of(const Json& network) {
  trislot::OutputLayout layout;
  for (const auto& head : network.at("heads").list) {
    const auto& names = trislot::kHeadNames;
    const auto place = std::find(names.begin(), names.end(), head.text) - names.begin();
    layout.heads.push_back(static_cast<trislot::Head>(place));
  }
  layout.image_channels = network.integer("imageChannels");
  layout.learns_variance = network.is("learnsVariance");
  return layout;
}

trislot::UNetConfig config_of(const Json& network) {
  trislot::UNetConfig config;
  config.in_channels = network.integer("imageChannels");
  config.model_channels = network.integer("modelChannels");
  config.out_channels = layout_of(network).channel_count();
  config.num_res_blocks = network.integer("resBlockCount");
  for (const auto& factor : network.at("attentionResolutions").list) {
    config.attention_resolutions.push_back(static_cast<int64_t>(factor.number));
  }
  config.dropout = network.at("dropout").number;
  config.channel_mult.clear();
  for (const auto& multiple : network.at("channelMult").list) config.channel_mult.push_back(multiple.number);
  config.conv_resample = network.is("convResample");
  config.recompute = network.is("recompute");
  config.num_heads = network.integer("attentionHeads");
  config.num_head_channels = network.integer("headChannels");
  config.num_heads_upsample = network.integer("attentionHeadsUp");
  config.use_scale_shift_norm = network.is("scaleShiftNorm");
  config.resblock_updown = network.is("resBlockUpDown");
  config.use_new_attention_order = network.is("newAttentionOrder");
  config.norm_groups = network.integer("normGroups");
  return config;
}

at::ScalarType dtype_of(const Json& job) { return job.at("precision").text == "bf16" ? at::kBFloat16 : at::kFloat; }

std::vector<int64_t> shape_of(const Json& job) {
  return {job.integer("batch"), job.at("network").integer("imageChannels"), job.integer("size"), job.integer("size")};
}

// Something that can be stepped.
struct Stepper {
  virtual ~Stepper() = default;
  virtual double step() = 0;  // the loss; 0 without one
  std::shared_ptr<trislot::UNet> unet;
};

struct TrainStepper : Stepper {
  TrainStepper(const Json& job, at::Device device) {
    const auto& network = job.at("network");
    unet = std::make_shared<trislot::UNet>(config_of(network), device, /*seed=*/0);
    trislot::TrainerConfig config;
    config.layout = layout_of(network);
    config.loss.choose = trislot::choose_mean;
    config.optimizer = {0.9, 0.999, 1e-8, /*weight_decay=*/0, /*decay_all=*/false};
    config.ema_rates = {0.9999};
    config.clip_norm = 1;
    config.dtype = dtype_of(job);
    const auto schedule = std::make_shared<trislot::Schedule>(trislot::named_betas("linear", kTimesteps));
    trainer.emplace(unet, schedule, config);
    const auto shape = shape_of(job);
    int64_t count = 1;
    for (const auto length : shape) count *= length;
    pixels = at::arange(count).mul_(37).remainder_(256).to(at::kByte).view(shape);
  }

  double step() override {
    trislot::TrainingBatch batch;
    batch.images = pixels.to(at::kFloat).div_(127.5).sub_(1);
    const auto t = at::randint(kTimesteps, {pixels.size(0)}, at::kLong);
    batch.t.assign(t.const_data_ptr<int64_t>(), t.const_data_ptr<int64_t>() + t.numel());
    batch.weight = at::ones({pixels.size(0)});
    batch.lr = 1e-4;
    return trainer->step(batch).loss;
  }

  std::optional<trislot::Trainer> trainer;
  at::Tensor pixels;
};

// DDIM with eta 0 and the v head alone, over and over from the same noise.
struct DdimStepper : Stepper {
  DdimStepper(const Json& job, at::Device device) : layout(layout_of(job.at("network"))) {
    unet = std::make_shared<trislot::UNet>(config_of(job.at("network")), device, /*seed=*/0);
    const trislot::Schedule schedule(trislot::named_betas("linear", kTimesteps));
    std::vector<double> kept;
    for (int64_t i = 0; i < kSamplingSteps; ++i) {
      const double position = static_cast<double>(i) * (kTimesteps - 1) / (kSamplingSteps - 1);
      kept.push_back(std::nearbyint(position));
    }
    process = schedule.respaced(kept);
    options.dtype = dtype_of(job);
    for (const auto head : layout.heads) options.head_weights.push_back(head == trislot::Head::V ? 1 : 0);
    start = trislot::keyed_normal(shape_of(job), {0, trislot::Purpose::StartNoise, 0, 0}).to(device);
    x_t = start;
  }

  double step() override {
    const auto denoised = trislot::predict_x_start(*unet, *process, layout, x_t, k, {}, {}, options);
    const trislot::Steps steps(x_t.size(0), k);
    c10::NoGradGuard no_grad;
    x_t = k == 0 ? start : trislot::ddim_step(*process, denoised.x_start, x_t, {}, /*eta=*/0, steps);
    k = k == 0 ? kSamplingSteps - 1 : k - 1;
    return 0;
  }

  trislot::OutputLayout layout;
  std::optional<trislot::Schedule> process;
  trislot::DenoiseOptions options;
  at::Tensor start, x_t;
  int64_t k = kSamplingSteps - 1;
};

// A field of /proc/self/status in bytes: VmRSS (now) or VmHWM (most since the last reset).
int64_t status_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

// Milliseconds of a piece of work: wall time on the CPU, events elsewhere.
double measured(at::Device device, const std::function<void()>& work) {
  if (device.is_cpu()) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  }
  const c10::impl::VirtualGuardImpl guard(device.type());
  const auto stream = guard.getStream(device);
  c10::Event begin(device.type(), c10::EventFlag::BACKEND_DEFAULT), end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream);
  work();
  end.record(stream);
  end.synchronize();
  return begin.elapsedTime(end);
}

class Bench {
 public:
  explicit Bench(at::Device device)
      : device_(device.is_cpu() || device.has_index() ? device : at::Device(device.type(), 0)) {}

  std::string answer(const Json& question) {
    const auto& command = question.at("command").text;
    if (command == "info") return info();
    if (command == "build") return build(question);
    if (command == "warm" || command == "time") return time(question.integer("steps"));
    if (command == "memory") return memory();
    if (command == "close") return "{}";
    throw std::runtime_error("expected a command, got " + command);
  }

 private:
  std::string info() const {
    auto facts = trislot::runtime_info();
    std::ostringstream out;
    out << R"({"name": "trislot without Node", "versions": {"libtorch": ")" << facts["libtorch"]
        << R"(", "cpuCapability": ")" << facts["cpuCapability"] << R"("}, "threads": )" << at::get_num_threads()
        << R"(, "device": ")" << device_.str() << "\"}";
    return out.str();
  }

  std::string build(const Json& job) {
    stepper_.reset();
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak counts from here
    resident_before_ = status_bytes("VmRSS");
    live_before_ = trislot::memory_count().live_bytes;
    trislot::reset_peak_memory();
    if (!device_.is_cpu()) {
      auto* allocator = at::getDeviceAllocator(device_.type());
      allocator->emptyCache();
      allocator->resetPeakStats(device_.index());
    }
    if (job.at("work").text == "train") {
      stepper_ = std::make_unique<TrainStepper>(job, device_);
    } else {
      stepper_ = std::make_unique<DdimStepper>(job, device_);
    }
    int64_t count = 0;
    for (const auto& weight : stepper_->unet->weights()) count += weight.numel();
    return "{\"parameterCount\": " + std::to_string(count) + "}";
  }

  std::string time(int64_t steps) {
    if (!stepper_) throw std::runtime_error("expected build before time, got none");
    std::ostringstream out;
    out << "{\"ms\": [";
    double loss = 0;
    for (int64_t i = 0; i < steps; ++i) {
      out << (i > 0 ? ", " : "") << measured(device_, [&] { loss = stepper_->step(); });
    }
    // JSON has no word for a loss that is not finite; a text is no number for the other side either.
    out << "], \"loss\": ";
    std::isfinite(loss) ? out << loss : out << "\"not finite\"";
    out << "}";
    return out.str();
  }

  std::string memory() const {
    int64_t peak = status_bytes("VmHWM") - resident_before_;
    if (!device_.is_cpu()) {
      peak = at::getDeviceAllocator(device_.type())->getDeviceStats(device_.index()).allocated_bytes[0].peak;
    }
    return "{\"peakBytes\": " + std::to_string(peak) +
           ", \"tensorBytes\": " + std::to_string(trislot::memory_count().peak_bytes - live_before_) + "}";
  }

  at::Device device_;
  std::unique_ptr<Stepper> stepper_;
  int64_t resident_before_ = 0, live_before_ = 0;
};

std::string quoted(std::string text) {
  for (auto& letter : text) {
    if (letter == '"' || letter == '\\' || static_cast<unsigned char>(letter) < ' ') letter = '\'';
  }
  return "\"" + text + "\"";
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  std::string device = "cpu";
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--threads") at::set_num_threads(std::stoi(argv[i + 1]));
    if (option == "--device") device = argv[i + 1];
  }
  trislot::prepare_runtime();
  trislot::count_cpu_memory();
  at::globalContext().setBenchmarkCuDNN(true);
  bench::Bench bench(trislot::device_named(device));
  for (std::string line; std::getline(std::cin, line);) {
    bool closes = false;
    std::string answer;
    try {
      const auto question = bench::JsonReader(line).read();
      closes = question.at("command").text == "close";
      answer = bench.answer(question);
    } catch (const std::exception& error) {
      answer = "{\"error\": " + bench::quoted(error.what()) + "}";
    }
    std::cout << answer << std::endl;
    if (closes) return 0;
  }
}
