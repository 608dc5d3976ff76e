// The fast kernels against LibTorch's own operators in float64, once for each instruction set that this processor has;
// and the arena.
//
//   kernels_test            all of that
//   kernels_test verbose    the same, with the worst error of each group as a fraction of its tolerance
#include "kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "runtime/arena.h"
#include "runtime/rng.h"
#include "train/optimizer.h"
#include "unet/unet.h"

namespace {

using namespace trislot;
using namespace trislot::fast;

constexpr auto kTypes = {at::kFloat, at::kBFloat16};
constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

// Of results against float64, relative to the largest expected value. bfloat16 has 8 bits; a result is rounded once, or
// several times where its factors are rounded too.
constexpr double kFloatError = 5e-6, kRounded = 0.004, kRoundedOften = 0.015;

// Of convolutions whose factors are rounded to bfloat16 at Winograd's points: the root mean square relative to that of
// the expected values (bench/reference/winograd_error.py: 1.0e-2, of white noise 1.3e-2), and the largest relative to
// the largest.
constexpr double kRoundedAtPoints = 0.015, kMostRoundedAtPoints = 0.04;

int failures = 0;
std::map<std::string, double> worst;  // by group and tolerance, as a fraction of that

void check(bool passed, const std::string& fact) {
  if (!passed) std::cout << "FAILED: " << fact << "\n", ++failures;
}

template <typename... Values>
std::string text(const Values&... values) {
  std::ostringstream stream;
  ((stream << values << " "), ...);
  return stream.str();
}

void check_error(double error, double tolerance, const std::string& group, const std::string& fact) {
  check(error <= 1, std::string(kernel_table().name) + ", " + group + " " + fact + " is right, got " +
                        std::to_string(error) + " of the tolerance");
  auto& most = worst[group + text(" to", tolerance)];
  most = std::max(most, error);
}

void check_close(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& group,
                 const std::string& fact) {
  const auto what = std::string(kernel_table().name) + ", " + group + " " + fact;
  if (actual.sizes() != expected.sizes()) return check(false, what + " has the expected shape");
  const auto difference = actual.to(at::kDouble).sub(expected).abs().max().item<double>();
  check_error(difference / (tolerance * expected.abs().max().item<double>() + 1e-30), tolerance, group, fact);
}

void check_rms(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& group,
               const std::string& fact) {
  const auto difference = (actual.to(at::kDouble) - expected).norm().item<double>();
  check_error(difference / (tolerance * expected.norm().item<double>() + 1e-30), tolerance,
              "root mean square of " + group, fact);
}

// Whether products of bfloat16 images have factors that are rounded to bfloat16, on the table in use.
bool multiplies_pairs(at::ScalarType type) {
  return type == at::kBFloat16 && std::string_view(kernel_table().name) == "avx512bf16";
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         at::equal(a.contiguous().view(a.itemsize() == 2 ? at::kShort : at::kInt),
                   b.contiguous().view(b.itemsize() == 2 ? at::kShort : at::kInt));
}

void for_each_table(const std::function<void()>& body) {
  const auto& usual = kernel_table();
  for (const auto* table : kernel_tables()) {
    choose_table(*table);
    body();
  }
  choose_table(usual);
}

// float64 values that an image of this type can hold.
at::Tensor random(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  return at::randn(shape, at::kFloat).to(type).to(at::kDouble);
}

at::Tensor image(const at::Tensor& values, at::ScalarType type) { return nhwc(values.to(type)); }
at::Tensor floats(const at::Tensor& values) {
  return values.defined() ? values.to(at::kFloat).contiguous() : at::Tensor();
}

at::Tensor conv_reference(const at::Tensor& x, const at::Tensor& weight) {
  return at::convolution(x, weight, {}, {1, 1}, {weight.size(2) / 2, weight.size(3) / 2}, {1, 1}, false, {0, 0}, 1);
}

// --- 3x3 convolutions ---

struct ConvCase {
  int64_t batch, height, width, in, out;
  int64_t tiles() const { return batch * ((height + 3) / 4) * ((width + 3) / 4); }
};

std::vector<ConvCase> conv_cases() {
  // A single pixel; borders of tiles; panels of output channels shared among threads (few tiles) and not; several
  // blocks and chunks of tiles.
  std::vector<ConvCase> cases = {{1, 1, 1, 1, 1},    {9, 1, 1, 3, 8},     {1, 28, 28, 1, 33},  {2, 16, 12, 16, 24},
                                 {3, 5, 7, 33, 64},  {1, 9, 9, 96, 64},   {9, 8, 8, 64, 96},   {4, 4, 4, 24, 3},
                                 {1, 12, 20, 3, 3},  {1, 13, 13, 1, 96},  {1, 16, 16, 8, 33},  {2, 33, 31, 3, 1},
                                 {1, 4, 64, 33, 33}, {16, 1, 1, 96, 96},  {4, 28, 28, 16, 8},  {9, 9, 9, 33, 1},
                                 {1, 64, 64, 24, 1}, {2, 28, 28, 64, 33}, {1, 65, 67, 16, 16}, {9, 16, 12, 96, 24},
                                 {3, 44, 44, 96, 96}};
  std::mt19937 random(1);
  const auto draw = [&](const std::vector<int64_t>& from) { return from[random() % from.size()]; };
  const std::vector<int64_t> channels = {1, 3, 8, 16, 24, 33, 64, 96}, small = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<int64_t> sizes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 28};
  while (cases.size() < 250) {
    const ConvCase next{draw(small), draw(sizes), draw(sizes), draw(channels), draw(channels)};
    if (next.batch * next.height * next.width * next.in * next.out < 3'000'000) cases.push_back(next);
  }
  return cases;
}

void test_conv3x3() {
  int turn = 0;
  for (const auto& [batch, height, width, in, out] : conv_cases()) {
    const auto type = turn % 3 == 2 ? at::kBFloat16 : at::kFloat;
    const bool rounds = type == at::kBFloat16;
    const auto fact = text(batch, "x", height, "x", width, "of", in, "to", out, rounds ? "in bfloat16" : "");
    const auto x = random({batch, in, height, width}, type), dy = random({batch, out, height, width}, type);
    const auto weight = random({out, in, 3, 3}) / std::sqrt(9.0 * static_cast<double>(in));
    const auto rounded_weight = floats(weight).to(at::kDouble);
    const auto addend = random({batch, out, height, width}, type);
    // No bias, one for all images, one for each image.
    const auto bias = turn / 2 % 3 == 0   ? at::Tensor()
                      : turn / 2 % 3 == 1 ? floats(random({out}))
                                          : floats(random({batch, out}));
    const bool adds = turn % 2 == 0, reuses = turn % 4 == 0;
    ++turn;

    auto y = conv_reference(x, rounded_weight);
    if (bias.defined()) y = y + bias.to(at::kDouble).view({-1, out, 1, 1});
    if (adds) y = y + addend;
    const auto [dx, dw, none] = at::convolution_backward(dy, x, rounded_weight, c10::nullopt, {1, 1}, {1, 1}, {1, 1},
                                                         false, {0, 0}, 1, {true, true, false});
    const double tolerance = rounds ? kRounded : kFloatError;
    const double few = ConvCase{batch, height, width, in, out}.tiles() < 16 ? 2 : 1;  // values, which may all be small
    for_each_table([&, &dx = dx, &dw = dw] {
      const auto own_x = image(x, type), own_dy = image(dy, type), own_weight = floats(weight);
      const auto own_addend = adds ? image(addend, type) : at::Tensor();
      const auto result = conv3x3(own_x, own_weight, bias, own_addend, reuses);
      check_close(result, y, tolerance, "conv3x3", fact);
      check(result.scalar_type() == type && result.is_contiguous(at::MemoryFormat::ChannelsLast), fact + "is NHWC");
      if (adds && !reuses) check(at::equal(own_addend.to(at::kDouble), addend), "conv3x3 keeps its addend, " + fact);
      if (adds && reuses) check(result.is_same(own_addend), "conv3x3 reuses its addend, " + fact);
      const auto d_x = conv3x3_input_gradient(own_dy, own_weight);
      const auto d_weight = conv3x3_weight_gradient(own_x, own_dy, own_weight);
      const bool at_points = multiplies_pairs(type);
      const double most = few * kMostRoundedAtPoints, usual = few * kRoundedAtPoints;
      check_close(d_x, dx, at_points ? most : tolerance, "conv3x3_input_gradient", fact);
      check_close(d_weight, dw, at_points ? most : kFloatError, "conv3x3_weight_gradient", fact);
      if (at_points) {
        check_rms(d_x, dx, usual, "conv3x3_input_gradient", fact);
        check_rms(d_weight, dw, usual, "conv3x3_weight_gradient", fact);
      }
      check(d_weight.scalar_type() == at::kFloat && d_weight.is_contiguous(), "the gradient of a weight is float32");
    });
  }
}

void test_conv3x3_down() {
  int turn = 0;
  for (const auto& [batch, height, width, in, out] : conv_cases()) {
    if (++turn % 3 != 0) continue;
    const auto type = turn % 2 == 0 ? at::kBFloat16 : at::kFloat;
    const bool rounds = type == at::kBFloat16;
    const auto fact = text(batch, "x", height, "x", width, "of", in, "to", out, rounds ? "in bfloat16" : "");
    const auto x = random({batch, in, height, width}, type);
    // Weights that bfloat16 holds, as some products have them.
    const auto weight = random({out, in, 3, 3}, at::kBFloat16) / 8, bias = random({out});
    const auto y = at::convolution(x, weight, {}, {2, 2}, {1, 1}, {1, 1}, false, {0, 0}, 1);
    const auto dy = random(y.sizes(), type);
    const auto [dx, dw, none] = at::convolution_backward(dy, x, weight, c10::nullopt, {2, 2}, {1, 1}, {1, 1}, false,
                                                         {0, 0}, 1, {true, true, false});
    const auto shift = floats(bias).to(at::kDouble).view({1, out, 1, 1});
    const double tolerance = rounds ? kRounded : kFloatError;
    for_each_table([&, height = height, width = width, &dx = dx, &dw = dw] {
      const auto own_x = image(x, type), own_dy = image(dy, type), own_weight = floats(weight);
      const auto result = conv3x3_down(own_x, own_weight, floats(bias));
      check_close(result, y + shift, tolerance, "conv3x3_down", fact);
      check(result.scalar_type() == type && result.is_contiguous(at::MemoryFormat::ChannelsLast), fact + "is NHWC");
      // Up to four gradients, each rounded once.
      check_close(conv3x3_down_input_gradient(own_dy, own_weight, height, width), dx,
                  rounds ? 2 * tolerance : tolerance, "conv3x3_down_input_gradient", fact);
      const auto d_weight = conv3x3_down_weight_gradient(own_x, own_dy);
      check_close(d_weight, dw, kFloatError, "conv3x3_down_weight_gradient", fact);
      check(d_weight.scalar_type() == at::kFloat && d_weight.is_contiguous(), "the gradient of a weight is float32");
    });
  }
}

void test_prepared_weights() {
  for (const auto& [batch, size] : {std::pair<int64_t, int64_t>{1, 8}, {1, 16}, {5, 9}, {1, 4}}) {
    const auto x = floats(random({batch, 24, size, size}));
    for_each_table([&, batch = batch, size = size] {
      const auto own = nhwc(x);
      auto weight = floats(random({33, 24, 3, 3}));
      PreparedWeight prepared;
      const auto once = conv3x3(own, weight, {}, {}, false, &prepared);
      check_close(once, conv_reference(x.to(at::kDouble), weight.to(at::kDouble)), kFloatError, "prepared weights",
                  text(batch, size));
      check(same_bits(once, conv3x3(own, weight, {})), "a prepared weight gives the same bits");
      // By any operation that tells of a change; the kept memory is written again.
      const auto* kept = prepared.transformed.const_data_ptr();
      check(same_bits(once, conv3x3(own, weight, {}, {}, false, &prepared)), "a second call gives the same bits");
      weight.mul_(2);
      check(same_bits(once * 2, conv3x3(own, weight, {}, {}, false, &prepared)), "a changed weight is prepared again");
      weight.detach().mul_(2);
      check(same_bits(once * 4, conv3x3(own, weight, {}, {}, false, &prepared)), "also when changed by another name");
      weight.data_ptr<float>()[0] += 1;
      weight.unsafeGetTensorImpl()->bump_version();
      check_close(conv3x3(own, weight, {}, {}, false, &prepared),
                  conv_reference(x.to(at::kDouble), weight.to(at::kDouble)), kFloatError, "prepared weights",
                  "after a change from outside");
      check(prepared.transformed.const_data_ptr() == kept, "the kept memory stays");
    });
  }

  // 36 values for each of 9: 302 MB, which is more than all prepared weights together may take.
  const auto weight = at::zeros({2048, 1024, 3, 3});
  weight[7][5][1][1] = 3;
  PreparedWeight prepared;
  const auto x = nhwc(floats(random({1, 1024, 8, 8})));
  const auto y = conv3x3(x, weight, {}, {}, false, &prepared);
  check(!prepared.transformed.defined(), "a weight beyond the limit is not kept");
  check_close(y[0][7], x[0][5].to(at::kDouble) * 3, kFloatError, "a weight beyond the limit", "");
  check(y[0][8].abs().max().item<float>() == 0, "zeros stay zeros");
}

// --- 1x1 convolutions ---

void test_conv1x1() {
  struct Case {
    int64_t batch, height, width, in, out;
  };
  const std::vector<Case> cases = {{1, 1, 1, 1, 1},   {2, 1, 5, 3, 8},   {1, 7, 14, 33, 33},  {3, 8, 8, 64, 96},
                                   {1, 5, 5, 700, 8}, {2, 9, 9, 8, 3},   {1, 12, 16, 97, 1},  {5, 4, 4, 1, 130},
                                   {1, 1, 1, 513, 3}, {9, 9, 9, 24, 16}, {1, 31, 33, 96, 40}, {2, 28, 28, 16, 100}};
  for (const auto& [batch, height, width, in, out] : cases) {
    for (const auto type : kTypes) {
      const bool rounds = type == at::kBFloat16;
      const double tolerance = rounds ? kRoundedOften : kFloatError;
      const auto fact = text(batch, "x", height, "x", width, "of", in, "to", out, rounds ? "in bfloat16" : "");
      const auto x = random({batch, in, height, width}, type), dy = random({batch, out, height, width}, type);
      const auto addend = random({batch, out, height, width}, type);
      const auto weight = floats(random({out, in})), bias = floats(random({out}));
      const auto reference = [](const at::Tensor& images, const at::Tensor& matrix) {
        return conv_reference(images, matrix.to(at::kDouble).unsqueeze(2).unsqueeze(3));
      };
      const auto y = reference(x, weight), shift = bias.to(at::kDouble).view({-1, 1, 1});
      const auto dw = at::einsum("nohw,nihw->oi", {dy, x});
      for_each_table([&, in = in, out = out] {
        const auto own = image(x, type);
        check_close(conv1x1(own, weight, bias), y + shift, tolerance, "conv1x1", fact + "with bias");
        check_close(conv1x1(own, weight, {}), y, tolerance, "conv1x1", fact);
        const auto own_addend = image(addend, type);
        const auto sum = conv1x1(own, weight, bias, own_addend);
        check_close(sum, y + shift + addend, tolerance, "conv1x1", fact + "with addend");
        check(sum.is_same(own_addend), "conv1x1 writes to its addend");

        // The weight of the way back is a transpose; that of a part is some of the columns.
        check_close(conv1x1(image(dy, type), weight.t(), {}), reference(dy, weight.t()), tolerance, "conv1x1",
                    fact + "transposed");
        if (in > 1) {
          const int64_t split = in / 3 + 1;
          const auto first = image(x.narrow(1, 0, split), type), second = image(x.narrow(1, split, in - split), type);
          auto both = conv1x1(first, weight.narrow(1, 0, split), bias);
          both = conv1x1(second, weight.narrow(1, split, in - split), {}, both);
          check_close(both, y + shift, tolerance, "conv1x1", fact + "in two parts");
        }

        // Rows apart: what lies between them stays as it was.
        const auto wide = at::full({out, in + 5}, 7.0f);
        conv1x1_weight_gradient(own, image(dy, type), wide.narrow(1, 2, in));
        check_close(wide.narrow(1, 2, in), dw, kFloatError, "conv1x1_weight_gradient", fact);
        check(wide.narrow(1, 0, 2).eq(7).all().item<bool>() && wide.narrow(1, in + 2, 3).eq(7).all().item<bool>(),
              "conv1x1_weight_gradient writes to its columns only, " + fact);
      });
    }
  }
}

// --- normalisation ---

struct NormCase {
  int64_t batch, height, width, first, second, groups;
  bool scale_shift, activates, adds;
  double weight_size = 1;
};

void test_norm(const NormCase& shape, at::ScalarType type) {
  const bool rounds = type == at::kBFloat16;
  const int64_t batch = shape.batch, height = shape.height, width = shape.width;
  const int64_t channels = shape.first + shape.second;
  const auto fact = text(batch, "x", height, "x", width, "of", shape.first, "+", shape.second, "in", shape.groups,
                         "groups", rounds ? "in bfloat16" : "");
  const auto leaf = [](const at::Tensor& values) { return values.clone().requires_grad_(true); };
  const auto x = leaf(random({batch, channels, height, width}, type));
  const auto weight = leaf(random({channels}) * shape.weight_size), bias = leaf(random({channels}));
  const auto scale_shift = leaf(random({batch, 2 * channels}));
  const auto gradient = random({batch, channels, height, width}, type);
  const auto addend = random({batch, channels, height, width}, type);

  auto y = at::group_norm(x, shape.groups, weight, bias, 1e-5);
  if (shape.scale_shift) {
    const auto parts = scale_shift.view({batch, 2 * channels, 1, 1}).chunk(2, 1);
    y = y * (1 + parts[0]) + parts[1];
  }
  if (shape.activates) y = at::silu(y);
  y.backward(gradient);
  const auto dx = shape.adds ? x.grad() + addend : x.grad();
  const auto groups = x.detach().reshape({batch, shape.groups, -1});
  const auto mean = groups.mean(2), rstd = (groups.var(2, /*unbiased=*/false) + 1e-5).rsqrt();

  c10::NoGradGuard no_grad;
  for_each_table([&] {
    Parts parts = {image(x.narrow(1, 0, shape.first), type), {}};
    if (shape.second > 0) parts.second = image(x.narrow(1, shape.first, shape.second), type);
    const auto gamma = floats(weight.detach()), beta = floats(bias.detach());
    const auto extra = shape.scale_shift ? floats(scale_shift.detach()) : at::Tensor();
    const auto found = moments(parts, shape.groups);
    check_close(found.values[0], mean, kFloatError, "moments", fact);
    check_close(found.values[1], rstd, kFloatError, "moments", fact);
    const auto factors = affine(found, gamma, beta, extra);
    check_close(apply(parts, factors, shape.activates), y, rounds ? kRounded : kFloatError, "apply", fact);

    const auto result = apply_backward(image(gradient, type), parts, found, factors, gamma, beta, extra,
                                       shape.activates, shape.adds ? image(addend, type) : at::Tensor());
    const double tolerance = rounds ? kRoundedOften : 2 * kFloatError;
    check(result.x.second.defined() == (shape.second > 0), "the gradient has the parts of x, " + fact);
    const auto joined = shape.second > 0 ? at::cat({result.x.first, result.x.second}, 1) : result.x.first;
    check_close(joined, dx, tolerance, "apply_backward", fact);
    check_close(result.weight, weight.grad(), 2 * kFloatError, "apply_backward: weight", fact);
    check_close(result.bias, bias.grad(), 2 * kFloatError, "apply_backward: bias", fact);
    if (shape.scale_shift) {
      check_close(result.scale_shift, scale_shift.grad(), 2 * kFloatError, "apply_backward: scale_shift", fact);
    }
    const auto sums = dx.narrow(1, 0, shape.first).sum({2, 3});
    const auto scale = dx.abs().sum({2, 3}).max().item<double>();  // the sums nearly cancel
    check_close(result.x_sums / scale + 1, sums / scale + 1, tolerance, "apply_backward: x_sums", fact);
  });
}

void test_norms() {
  // Groups that end at the boundary of the parts, and groups that go across it.
  const std::vector<NormCase> cases = {
      {2, 8, 8, 32, 0, 8, false, true, false},     {1, 1, 1, 8, 0, 1, false, true, true},
      {3, 7, 9, 24, 8, 4, false, true, true},      {2, 9, 9, 20, 12, 4, true, true, false},
      {1, 16, 12, 33, 31, 4, true, true, true},    {2, 5, 5, 64, 96, 32, false, true, true},
      {2, 13, 11, 1, 2, 1, false, false, true},    {1, 28, 28, 3, 0, 3, true, false, false},
      {9, 4, 4, 96, 64, 8, true, true, true},      {1, 2, 33, 130, 6, 2, false, true, false},
      {2, 6, 6, 16, 0, 4, false, true, false, 300}};
  for (const auto& shape : cases) {
    for (const auto type : kTypes) test_norm(shape, type);
  }
}

void test_moments_of_large_means() {
  const auto noise = at::rand({2, 32, 9, 15}, at::kDouble).mul(2).sub(1);
  const auto signs = at::arange(32, at::kDouble).remainder(2).mul(2).sub(1).view({32, 1, 1});
  // All channels of a group at 1000; half of them at -1000.
  for (const auto& centre : {at::full({32, 1, 1}, 1000.0, at::kDouble), signs * 1000}) {
    for (const auto type : kTypes) {
      const auto x = (noise * (type == at::kBFloat16 ? 16 : 1) + centre).to(type).to(at::kDouble);
      const auto groups = x.reshape({2, 4, -1});
      for_each_table([&] {
        const auto found = moments({image(x, type), {}}, 4);
        const auto error = found.values[0].to(at::kDouble).sub(groups.mean(2)).abs().max().item<double>();
        check(error < 1e-4, text(kernel_table().name, "the mean of 1000 +- 1 is exact, got an error of", error));
        check_close(found.values[1], (groups.var(2, false) + 1e-5).rsqrt(), 1e-5, "moments of large means", "");
      });
    }
  }
}

// --- attention ---

at::Tensor attention_reference(const at::Tensor& qkv, int64_t heads, bool type_major) {
  const int64_t batch = qkv.size(0), width = qkv.size(1) / 3 / heads, positions = qkv.size(2) * qkv.size(3);
  const auto parts = type_major ? qkv.reshape({batch, 3, heads, width, positions}).permute({1, 0, 2, 3, 4})
                                : qkv.reshape({batch, heads, 3, width, positions}).permute({2, 0, 1, 3, 4});
  const auto scores = at::matmul(parts[0].transpose(2, 3), parts[1]) / std::sqrt(static_cast<double>(width));
  const auto mixed = at::matmul(parts[2], scores.softmax(-1).transpose(2, 3));  // [batch, heads, width, positions]
  return mixed.reshape({batch, heads * width, qkv.size(2), qkv.size(3)});
}

void test_attention() {
  struct Case {
    int64_t batch, height, width, heads, head_width;
    double size = 1;
  };
  // The last: scores of hundreds, of which one takes all.
  const std::vector<Case> cases = {{1, 1, 1, 1, 8},    {2, 1, 7, 4, 16},  {2, 7, 7, 2, 33}, {1, 8, 8, 4, 8},
                                   {1, 16, 16, 1, 64}, {2, 16, 16, 2, 8}, {3, 5, 10, 3, 1}, {2, 8, 8, 2, 16, 30}};
  for (const auto& [batch, height, width, heads, head_width, size] : cases) {
    for (const auto type : kTypes) {
      for (const bool type_major : {false, true}) {
        const bool rounds = type == at::kBFloat16;
        const auto fact = text(batch, "x", height, "x", width, "of", heads, "heads of", head_width,
                               type_major ? "by type" : "by head", rounds ? "in bfloat16" : "");
        const auto qkv = (random({batch, 3 * heads * head_width, height, width}) * size)
                             .to(type)
                             .to(at::kDouble)
                             .requires_grad_(true);
        const auto gradient = random({batch, heads * head_width, height, width}, type);
        const auto y = attention_reference(qkv, heads, type_major);
        y.backward(gradient);
        c10::NoGradGuard no_grad;
        for_each_table([&, heads = heads, head_width = head_width, size = size] {
          const auto own = image(qkv.detach(), type);
          const bool rounds_factors = multiplies_pairs(type) && head_width % 2 == 0;
          const double rounded = rounds_factors ? kRoundedOften : kRounded;
          const double tolerance = rounds ? rounded : kFloatError * (size > 1 ? 50 : 1);
          check_close(attend(own, heads, type_major), y, tolerance, "attend", fact);
          check_close(attend_backward(own, image(gradient, type), heads, type_major), qkv.grad(),
                      rounds ? rounded : 2 * tolerance, "attend_backward", fact);
        });
      }
    }
  }
}

void test_pixel_sums() {
  for (const auto& [channels, height, width] :
       {std::array<int64_t, 3>{1, 1, 1}, {3, 8, 8}, {33, 5, 13}, {130, 1, 200}, {64, 28, 28}}) {
    for (const auto type : kTypes) {
      const auto x = random({3, channels, height, width}, type);
      for_each_table([&, channels = channels] {
        check_close(pixel_sums(image(x, type)), x.sum({2, 3}), kFloatError, "pixel_sums", text(channels));
      });
    }
  }
}

// --- a whole network ---

// Output and gradients of all weights, flat, of the mean squared difference to noise.
struct Pass {
  at::Tensor out, gradient;
};

Pass train_once(const UNet& unet, Kernels kernels, at::ScalarType type) {
  choose_kernels(kernels);
  const auto noise = [](uint32_t key) { return keyed_normal({4, 3, 32, 32}, {5, Purpose::StartNoise, 0, key}); };
  ForwardContext context;
  context.dtype = type;
  const auto weights = unet.weights();
  for (auto weight : weights) {
    weight.mutable_grad() = at::Tensor();
    weight.set_requires_grad(true);
  }
  const auto out = unet.forward({noise(0), at::tensor({10.0f, 300.0f, 600.0f, 900.0f}), {}, {}}, context);
  (out - noise(4)).pow(2).mean().backward();
  std::vector<at::Tensor> gradients;
  for (const auto& weight : weights) gradients.push_back(weight.grad().to(at::kDouble).flatten());
  choose_kernels(Kernels::Fast);
  return {out.detach().to(at::kDouble), at::cat(gradients)};
}

// bfloat16 in fast kernels against LibTorch's operators, which round at every one of them: the output is nearer to
// float32's, the gradient at most a quarter farther from it, on this network (its rounding at Winograd's points).
void test_network_in_bfloat16() {
  UNetConfig config;
  config.model_channels = 32;
  config.out_channels = 3;
  config.num_res_blocks = 1;
  config.attention_resolutions = {2};
  config.channel_mult = {1, 2};
  config.num_heads = 2;
  config.use_scale_shift_norm = true;
  config.resblock_updown = true;
  const UNet unet(config, at::kCPU, /*seed=*/1);
  {
    c10::NoGradGuard no_grad;  // what starts at zero hides what comes before it
    for (auto weight : unet.weights()) {
      const bool starts_at_zero = weight.dim() > 1 && weight.count_nonzero().item<int64_t>() == 0;
      if (starts_at_zero) weight.normal_(0, 0.5 / std::sqrt(static_cast<double>(weight[0].numel())));
    }
  }
  const auto exact = train_once(unet, Kernels::Plain, at::kFloat);
  const auto plain = train_once(unet, Kernels::Plain, at::kBFloat16);
  for_each_table([&] {
    const auto fast = train_once(unet, Kernels::Fast, at::kBFloat16);
    check_rms(fast.out, exact.out, ((plain.out - exact.out).norm() / exact.out.norm()).item<double>(),
              "a network's output in bfloat16", "against LibTorch's operators");
    check_rms(fast.gradient, exact.gradient,
              ((plain.gradient - exact.gradient).norm() / exact.gradient.norm()).item<double>() * 1.25,
              "a network's gradient in bfloat16", "against LibTorch's operators");
  });
}

// --- numbers that are none, and their borders ---

// y = act(x * scale + shift), as one image of one pixel; a float32 result holds what the vectors held.
at::Tensor elementwise(const at::Tensor& x, const at::Tensor& scale, bool activates) {
  const auto shift = at::full_like(scale, -0.0f);
  return apply({x.view({1, -1, 1, 1}), {}}, {at::stack({scale, shift, shift}).unsqueeze(1)}, activates).view(-1);
}

void test_rounding_to_bfloat16() {
  std::mt19937 random(2);
  std::vector<uint32_t> words = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7f7fffff, 0x7f7f8000,
                                 0x7f7f7fff, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f800001, 0xff800001,
                                 0x3f808000, 0x3f818000, 0x3f808001, 1};
  while (words.size() < 100'003) words.push_back(static_cast<uint32_t>(random()));
  const auto scale = at::empty({static_cast<int64_t>(words.size())}, at::kFloat);
  std::memcpy(scale.data_ptr(), words.data(), words.size() * sizeof(uint32_t));
  const auto nearest = scale.to(at::kBFloat16), real = scale.isnan().logical_not();
  // The instruction that rounds takes what is below float32's normal numbers as 0.
  const auto flushed = [](const at::Tensor& values, const at::Tensor& sources) {
    const auto keeps = !multiplies_pairs(at::kBFloat16);
    return keeps ? values : at::where(sources.to(at::kFloat).abs() < 0x1p-126f, values * 0, values);
  };
  for_each_table([&] {
    const std::string name = kernel_table().name;
    const auto result = elementwise(at::ones_like(nearest), scale, /*activates=*/false);
    check(same_bits(result.masked_select(real), flushed(nearest, scale).masked_select(real)),
          name + " rounds to even as LibTorch does");
    check(at::equal(result.isnan(), scale.isnan()), name + " stores NaN as NaN, whatever its bits");

    // The other way: every bfloat16.
    const auto all = at::arange(65536, at::kInt).to(at::kShort).view(at::kBFloat16);
    const auto copies = elementwise(all, at::ones({65536}), /*activates=*/false);
    const auto numbers = all.isnan().logical_not();
    check(same_bits(copies.masked_select(numbers), flushed(all, all).masked_select(numbers)),
          name + " reads every bfloat16");
    check(at::equal(copies.isnan(), all.isnan()), name + " reads NaN as NaN");

    // Weights of products are rounded too, where they are multiplied in pairs.
    const auto weights = scale.narrow(0, 7, 5).view({5, 1}).expand({5, 2}).contiguous();
    const auto products = conv1x1(at::ones({1, 2, 1, 1}, at::kBFloat16), weights, {}).view(-1);
    check(products.isnan().all().item<bool>(), name + " multiplies NaN weights to NaN, whatever their bits");
  });
}

void test_silu() {
  auto x =
      at::cat({at::linspace(-200, 200, 40'001), at::tensor({-1000.0f, 1000.0f, -3e38f, 3e38f, 0.0f, -0.0f, 1e-40f}),
               at::tensor({kNan, kInfinity, -kInfinity}).to(at::kFloat)});
  const auto expected = at::silu(x.to(at::kDouble)), real = expected.isfinite();
  for_each_table([&] {
    const std::string name = kernel_table().name;
    const auto y = elementwise(x, at::ones_like(x), /*activates=*/true);
    const auto error = (y.to(at::kDouble) - expected).abs() / (expected.abs() * 5e-7 + 1e-35);
    const auto most = error.masked_select(real).max().item<double>();
    check(most <= 1, text(name, "has SiLU to a few units of the last place, got", most, "of the tolerance"));
    check(at::equal(y.isnan(), expected.isnan()), name + ": SiLU of NaN is NaN, and of what has no limit");
    check(at::equal(y.isposinf(), expected.isposinf()), name + ": SiLU of infinity is infinity");
  });
}

void test_not_finite() {
  for (const double odd : {kNan, kInfinity}) {
    for (const auto type : kTypes) {
      for_each_table([&] {
        const auto name = text(kernel_table().name, c10::toString(type), odd, ":");
        // One pixel of the first of two images. Winograd's form spreads it over its tile, but never to another image.
        const auto weight = floats(random({8, 8, 3, 3}));
        auto x = random({2, 8, 16, 16}, type);
        const auto before = image(x, type);
        x[0][3][6][6] = odd;
        const auto own = image(x, type);
        const auto clean = [](const at::Tensor& y) { return y.isfinite().all().item<bool>(); };
        const auto spoiled = [](const at::Tensor& y) { return y.isfinite().logical_not().all().item<bool>(); };
        for (const auto& y : {conv3x3(own, weight, {}), conv3x3_input_gradient(own, weight)}) {
          check(spoiled(y[0].slice(1, 5, 8).slice(2, 5, 8)), name + "what sees the pixel is not finite");
          check(clean(y[0].slice(1, 0, 4)) && clean(y[0].slice(1, 12)), name + "tiles that do not see it are");
          check(clean(y[1]), name + "other images are");
        }
        check(spoiled(conv3x3_weight_gradient(own, before, weight).select(1, 3)),
              name + "its weights' gradients are not");
        const auto down = conv3x3_down(own, weight, {});
        check(spoiled(down[0].slice(1, 3, 4).slice(2, 3, 4)) && clean(down[0].slice(1, 4)) && clean(down[1]),
              name + "conv3x3_down");
        check(spoiled(conv1x1(own, weight.select(3, 1).select(2, 1).contiguous(), {})[0].select(1, 6).select(1, 6)),
              name + "conv1x1");
        check(!pixel_sums(own)[0][3].isfinite().item<bool>() && clean(pixel_sums(own)[1]), name + "pixel_sums");

        const auto ones = at::ones({8}), zeros = at::zeros({8});
        const auto found = moments({own, {}}, 2);
        const auto factors = affine(found, ones, zeros, {});
        const auto y = apply({own, {}}, factors, /*activates=*/true);
        check(y[0].narrow(0, 0, 4).isnan().all().item<bool>() && clean(y[0].narrow(0, 4, 4)) && clean(y[1]),
              name + "its group becomes NaN, and no other");
        const auto back = apply_backward(before.clone(at::MemoryFormat::Preserve), {own, {}}, found, factors, ones,
                                         zeros, {}, true, {});
        check(back.x.first[0].narrow(0, 0, 4).isnan().all().item<bool>() && clean(back.x.first[1]),
              name + "so does its gradient");

        // A value spoils its position of every query; a query only itself.
        auto qkv = random({2, 24, 4, 4}, type);
        qkv[0][0][1][1] = odd;  // of the first head's q
        auto mixed = attend(image(qkv, type), 2, /*type_major=*/false);
        const auto rows = mixed[0].flatten(1).isnan();  // [channels, positions]
        check(rows.narrow(0, 0, 4).select(1, 5).all().item<bool>() && rows.sum().item<int64_t>() == 4,
              name + "a spoiled query spoils its own output");
        check(clean(mixed[1]), name + "attention keeps images apart");
        qkv = random({2, 24, 4, 4}, type);
        qkv[1][8][2][2] = odd;  // of the first head's v
        mixed = attend(image(qkv, type), 2, /*type_major=*/false);
        check(spoiled(mixed[1][0]) && clean(mixed[0]) && clean(mixed[1].narrow(0, 1, 7)),
              name + "a spoiled value spoils its channel");
      });
    }
  }
}

// --- the optimizer ---

void test_optimizer() {
  const std::vector<std::vector<int64_t>> shapes = {{1},     {7},      {33},          {16384},
                                                    {16385}, {64, 96}, {3, 17, 1001}, {24, 8, 3, 3}};
  for (const bool decay_all : {true, false}) {
    for_each_table([&] {
      const std::string name = kernel_table().name;
      at::manual_seed(3);
      const AdamWConfig config{0.9, 0.99, 1e-8, 0.1, decay_all};
      struct Side {
        std::vector<at::Tensor> weights;
        AdamW optimizer;
        std::vector<Ema> averages;
      };
      std::vector<at::Tensor> start;
      for (const auto& shape : shapes) start.push_back(at::randn(shape));
      const auto side = [&] {
        std::vector<at::Tensor> weights;
        for (const auto& tensor : start) weights.push_back(tensor.clone());
        return Side{weights, AdamW(weights, config), {Ema(0.9, false, weights), Ema(0.999, true, weights)}};
      };
      Side fast = side(), plain = side();
      const auto version = fast.weights[0]._version();
      for (int step = 0; step < 5; ++step) {
        std::vector<at::Tensor> gradients, copies;
        double square = 0;
        for (const auto& shape : shapes) {
          gradients.push_back(at::randn(shape) * std::pow(10.0, step - 3));
          copies.push_back(gradients.back().clone());
          square += gradients.back().to(at::kDouble).pow(2).sum().item<double>();
        }
        check(std::abs(fast.optimizer.norm(gradients) / std::sqrt(square) - 1) < 1e-6, name + ": the gradient's norm");
        fast.optimizer.step(gradients, 0.3, 1e-2, fast.averages);
        choose_kernels(Kernels::Plain);
        check(std::abs(plain.optimizer.norm(copies) / std::sqrt(square) - 1) < 1e-5, "plain: the gradient's norm");
        plain.optimizer.step(copies, 0.3, 1e-2, plain.averages);
        choose_kernels(Kernels::Fast);
      }
      const auto compare = [&](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b,
                               const std::string& what) {
        for (size_t i = 0; i < a.size(); ++i) check_close(a[i], b[i].to(at::kDouble), 2e-6, "AdamW", what + text(i));
      };
      compare(fast.weights, plain.weights, "weight");
      compare(fast.optimizer.exp_avg, plain.optimizer.exp_avg, "exp_avg");
      compare(fast.optimizer.exp_avg_sq, plain.optimizer.exp_avg_sq, "exp_avg_sq");
      for (size_t k = 0; k < 2; ++k) {
        compare(fast.averages[k].averages, plain.averages[k].averages, "average");
        check(fast.averages[k].update_count == 5, "averages count their updates");
      }
      check(fast.weights[0]._version() > version && fast.averages[1].averages[2]._version() > 0,
            name + ": weights and averages tell of their change");

      std::vector<at::Tensor> gradients;
      for (const auto& shape : shapes) gradients.push_back(at::ones(shape));
      gradients[6][1][2][3] = kInfinity;
      check(fast.optimizer.norm(gradients) == kInfinity, name + ": an infinite gradient has an infinite norm");
      gradients[0][0] = kNan;
      check(std::isnan(fast.optimizer.norm(gradients)), name + ": the norm of NaN is NaN");
    });
  }
}

// --- threads ---

// Runs a kernel with one to three threads, three times each, and compares the bits.
void check_threads(const std::string& name, const std::function<std::vector<at::Tensor>()>& run) {
  at::set_num_threads(1);
  const auto expected = run();
  for (const int threads : {2, 3, 2}) {
    at::set_num_threads(threads);
    const auto got = run();
    for (size_t i = 0; i < got.size(); ++i) {
      check(same_bits(got[i], expected[i]),
            text(kernel_table().name, name, i, "has the same bits with", threads, "threads"));
    }
  }
  at::set_num_threads(1);
}

void test_threads() {
  for (const auto type : kTypes) {
    for_each_table([&] {
      for (const auto& [batch, height, width, in, out] :
           {ConvCase{1, 16, 20, 33, 96}, {3, 28, 28, 24, 33}, {9, 9, 9, 96, 64}, {16, 1, 1, 16, 8}}) {
        const auto x = image(random({batch, in, height, width}), type),
                   dy = image(random({batch, out, height, width}), type);
        const auto weight = floats(random({out, in, 3, 3})), matrix = floats(random({out, in}));
        const auto bias = floats(random({batch, out}));
        const auto name = text(c10::toString(type), batch, height, width, in, out);
        check_threads("conv3x3 " + name, [&]() -> std::vector<at::Tensor> {
          return {conv3x3(x, weight, bias, dy), conv3x3_input_gradient(dy, weight),
                  conv3x3_weight_gradient(x, dy, weight)};
        });
        const auto y = conv3x3_down(x, weight, {});
        check_threads("conv3x3_down " + name, [&, height = height, width = width]() -> std::vector<at::Tensor> {
          return {conv3x3_down(x, weight, {}), conv3x3_down_input_gradient(y, weight, height, width),
                  conv3x3_down_weight_gradient(x, y)};
        });
        check_threads("conv1x1 " + name, [&, in = in, out = out]() -> std::vector<at::Tensor> {
          auto gradient = at::empty({out, in});
          conv1x1_weight_gradient(x, dy, gradient);
          return {conv1x1(x, matrix, {}), conv1x1(dy, matrix.t(), {}), gradient, pixel_sums(x)};
        });
        const auto ones = at::ones({in + out}), zeros = at::zeros({in + out});
        check_threads("norm " + name, [&]() -> std::vector<at::Tensor> {
          const Parts parts = {x, dy};
          const auto found = moments(parts, 1);
          const auto factors = affine(found, ones, zeros, {});
          const auto y = apply(parts, factors, true);
          const auto back =
              apply_backward(y.clone(at::MemoryFormat::Preserve), parts, found, factors, ones, zeros, {}, true, y);
          return {found.values, y, back.x.first, back.x.second, back.weight, back.bias, back.x_sums};
        });
      }
      const auto qkv = image(random({3, 3 * 48, 7, 9}), type), dy = image(random({3, 48, 7, 9}), type);
      check_threads(text("attention", c10::toString(type)), [&]() -> std::vector<at::Tensor> {
        return {attend(qkv, 3, true), attend_backward(qkv, dy, 3, true)};
      });
    });
  }
  const auto weight = at::randn({300'001}), gradient = at::randn({300'001});
  for_each_table([&] {
    check_threads("AdamW", [&]() -> std::vector<at::Tensor> {
      const std::vector<at::Tensor> weights = {weight.clone(), weight.narrow(0, 0, 77).clone()};
      const std::vector<at::Tensor> gradients = {gradient, gradient.narrow(0, 100, 77)};
      AdamW optimizer(weights, {});
      std::vector<Ema> averages = {Ema(0.9, false, weights)};
      const auto norm = optimizer.norm(gradients);
      optimizer.step(gradients, 1, 1e-3, averages);
      return {weights[0], weights[1], averages[0].averages[0], optimizer.exp_avg_sq[0],
              at::full({1}, static_cast<float>(norm))};
    });
  });
}

// --- the arena ---

constexpr size_t kMebibyte = size_t{1} << 20;

bool is_mapped(void* pointer) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;
  return mincore(reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(pointer) / page * page), page, &resident) == 0;
}

// Writes what belongs to a block to its ends; reads it again before the block is released.
struct Blocks {
  struct Block {
    char* begin;
    size_t size;
    char mark;
  };

  void add(size_t size) {
    auto* begin = static_cast<char*>(arena.allocate(size));
    check(begin != nullptr && reinterpret_cast<uintptr_t>(begin) % 64 == 0, "blocks begin at a multiple of 64");
    check(arena.size_of(begin) >= size, "blocks are as large as asked");
    for (const auto& other : live) {
      check(begin + size <= other.begin || other.begin + other.size <= begin, "blocks are disjoint");
    }
    const auto mark = static_cast<char>(live.size() + size);
    begin[0] = begin[size - 1] = mark;
    live.push_back({begin, size, mark});
  }

  void release(size_t i) {
    const auto block = live[i];
    live.erase(live.begin() + static_cast<int64_t>(i));
    check(block.begin[0] == block.mark && block.begin[block.size - 1] == block.mark, "blocks keep what is written");
    const auto size = arena.size_of(block.begin);
    check(arena.release(block.begin) == size, "release gives the size back");
  }

  Arena& arena;
  std::vector<Block> live;
};

void test_arena() {
  std::mt19937 random(4);
  {
    Arena arena;
    auto* base = static_cast<char*>(arena.allocate(32 * kMebibyte));
    arena.release(base);
    for (int round = 0; round < 20; ++round) {
      Blocks blocks{arena, {}};
      for (size_t used = 0; used < 24 * kMebibyte;) {
        const size_t size = 1 + random() % (3 * kMebibyte);
        blocks.add(size);
        check(blocks.live.back().begin >= base && blocks.live.back().begin + size <= base + 32 * kMebibyte,
              "a segment is filled before another is fetched");
        used += size;
      }
      while (!blocks.live.empty()) blocks.release(random() % blocks.live.size());
      auto* whole = static_cast<char*>(arena.allocate(32 * kMebibyte));
      check(whole == base, "released blocks become their segment again");
      check(arena.release(whole) == 32 * kMebibyte, "all of it");
    }
    int here = 0;
    const auto elsewhere = std::make_unique<char[]>(64);
    for (void* foreign :
         {static_cast<void*>(&here), static_cast<void*>(elsewhere.get()), static_cast<void*>(nullptr)}) {
      check(arena.release(foreign) == 0 && arena.size_of(foreign) == 0, "a pointer of others is refused");
    }
    auto* block = static_cast<char*>(arena.allocate(kMebibyte));
    check(arena.release(block + 64) == 0, "so is one into a block");
    arena.release(block);
    arena.trim();
    check(!is_mapped(base), "an empty arena keeps nothing after trim");
  }
  {
    Arena arena;
    Blocks blocks{arena, {}};
    std::vector<char*> seen;
    for (int turn = 0; turn < 3000; ++turn) {
      if (blocks.live.size() < 40 && random() % 5 < 3) {
        // From less than a line to more than a segment.
        const auto size = static_cast<size_t>(std::exp2(static_cast<double>(random() % 2600) / 100));
        blocks.add(size);
        seen.push_back(blocks.live.back().begin);
      } else if (!blocks.live.empty()) {
        blocks.release(random() % blocks.live.size());
      }
      if (turn % 500 == 499) arena.trim();  // what is live stays
    }
    while (blocks.live.size() > 1) blocks.release(random() % blocks.live.size());
    arena.trim();
    auto* last = blocks.live[0].begin;
    check(is_mapped(last), "trim keeps the segment of a live block");
    blocks.release(0);
    arena.trim();
    for (char* pointer : seen) check(!is_mapped(pointer), "at the end every segment is whole and goes back");
  }
  {
    Arena arena;
    check(arena.allocate(size_t{1} << 60) == nullptr, "what the system does not have is null");
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        std::mt19937 own(thread);
        std::vector<std::pair<char*, size_t>> live;
        for (int turn = 0; turn < 2000; ++turn) {
          if (live.size() < 8) {
            const size_t size = 1 + own() % kMebibyte;
            auto* block = static_cast<char*>(arena.allocate(size));
            block[0] = block[size - 1] = static_cast<char>(thread);
            live.emplace_back(block, size);
          } else {
            const auto [block, size] = live[own() % 8];
            wrong += block[0] != thread || block[size - 1] != thread || arena.release(block) < size;
            std::erase(live, std::pair(block, size));
          }
        }
      });
    }
    for (auto& thread : threads) thread.join();
    check(wrong == 0, "threads share an arena");
  }
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  at::manual_seed(1);
  choose_kernels(Kernels::Fast);
  try {
    test_conv3x3();
    test_conv3x3_down();
    test_prepared_weights();
    test_conv1x1();
    test_norms();
    test_moments_of_large_means();
    test_attention();
    test_network_in_bfloat16();
    test_pixel_sums();
    test_rounding_to_bfloat16();
    test_silu();
    test_not_finite();
    test_optimizer();
    test_threads();
    test_arena();
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  if (argc > 1 && std::string(argv[1]) == "verbose") {
    for (const auto& [group, error] : worst) std::cout << group << ": " << error << "\n";
  }
  for (const auto* table : kernel_tables()) std::cout << table->name << " ";
  std::cout << (failures ? std::to_string(failures) + " failed\n" : "passed\n");
  return failures != 0;
}
