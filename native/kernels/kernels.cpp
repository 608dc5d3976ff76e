#include "kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

namespace trislot {

namespace baseline {
extern const KernelTable kTable;
}
#ifdef TRISLOT_X86_KERNELS
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
namespace avx512bf16 {
extern const KernelTable kTable;
}
#endif

namespace {

std::atomic<Kernels>& choice() {
  static std::atomic<Kernels> chosen = [] {
    const char* wanted = std::getenv("TRISLOT_KERNELS");
    return wanted != nullptr && std::string_view(wanted) == "plain" ? Kernels::Plain : Kernels::Fast;
  }();
  return chosen;
}

std::atomic<const KernelTable*>& chosen_table() {
  static std::atomic<const KernelTable*> chosen = []() -> const KernelTable* {
#ifdef TRISLOT_X86_KERNELS
    const std::string capability = at::get_cpu_capability();
    if (capability == "AVX512") return __builtin_cpu_supports("avx512bf16") ? &avx512bf16::kTable : &avx512::kTable;
    if (capability == "AVX2") return &avx2::kTable;
#endif
    return &baseline::kTable;
  }();
  return chosen;
}

}  // namespace

void choose_kernels(Kernels kernels) { choice() = kernels; }
Kernels chosen_kernels() { return choice(); }

std::vector<const KernelTable*> kernel_tables() {
  std::vector<const KernelTable*> tables = {&baseline::kTable};
#ifdef TRISLOT_X86_KERNELS
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return tables;
  tables.push_back(&avx2::kTable);
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!wide) return tables;
  tables.push_back(&avx512::kTable);
  if (__builtin_cpu_supports("avx512bf16")) tables.push_back(&avx512bf16::kTable);
#endif
  return tables;
}

const KernelTable& kernel_table() { return *chosen_table(); }
void choose_table(const KernelTable& table) { chosen_table() = &table; }

bool has_fast_kernels(const at::Tensor& x) {
  return chosen_kernels() == Kernels::Fast && x.device().is_cpu() && x.dim() == 4 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

namespace fast {
namespace {

constexpr auto kNhwc = at::MemoryFormat::ChannelsLast;

// Calls body with a value of the type in which x lies in memory.
template <typename Body>
void with_type(const at::Tensor& x, const Body& body) {
  if (x.scalar_type() == at::kBFloat16) {
    body(kernel_table().bfloat16, BFloat16{});
  } else {
    body(kernel_table().float32, 0.0f);
  }
}

template <typename T>
const T* in(const at::Tensor& x) {
  return x.defined() ? static_cast<const T*>(x.const_data_ptr()) : nullptr;
}

template <typename T>
T* out(at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.mutable_data_ptr()) : nullptr;
}

const float* floats(const at::Tensor& x) { return in<float>(x); }

// As at::empty, but for its way through the dispatcher, which costs more than small kernels.
at::Tensor new_tensor(at::IntArrayRef shape, at::ScalarType type, std::optional<at::MemoryFormat> format = {}) {
  return at::detail::empty_cpu(shape, type, /*pin_memory=*/false, format);
}

at::Tensor new_floats(at::IntArrayRef shape) { return new_tensor(shape, at::kFloat); }

// Memory that kernels write and read again before they return. It is kept, one block a use and thread, because a block
// that is still in the cache is several times as fast as a fresh one.
enum class Use { Workspace, Weights, Norm };
float* scratch(Use use, int64_t count) {
  static thread_local std::array<at::Tensor, 3> kept;
  auto& block = kept[static_cast<size_t>(use)];
  if (!block.defined() || block.numel() < count) {
    block.reset();
    block = new_floats({count});
  }
  return block.mutable_data_ptr<float>();
}

// Channels of a pixel outside of the image.
template <typename T>
const T* zero_pixel(int64_t channels) {
  static thread_local at::Tensor kept;
  if (!kept.defined() || kept.numel() < channels) kept = at::zeros({channels}, at::kFloat);
  return static_cast<const T*>(kept.const_data_ptr());
}

at::Tensor new_image(const at::Tensor& like, int64_t channels) {
  return new_tensor({like.size(0), channels, like.size(2), like.size(3)}, like.scalar_type(), kNhwc);
}

NormShape norm_shape(const Parts& x, int64_t groups) {
  return {x.first.size(0), x.first.size(2) * x.first.size(3), x.first.size(1),
          x.second.defined() ? x.second.size(1) : 0, groups};
}

float* piece_space(const NormShape& shape, int64_t values) {
  const int64_t channels = shape.first_channels + shape.second_channels;
  return scratch(Use::Workspace, values * kernel_table().piece_floats(shape.batch, shape.pixels, channels));
}

Conv3x3Shape conv_shape(const at::Tensor& x, int64_t out_channels) {
  return {x.size(0), x.size(2), x.size(3), x.size(1), out_channels};
}

AttentionShape attention_shape(const at::Tensor& qkv, int64_t heads, bool type_major) {
  return {qkv.size(0), qkv.size(2) * qkv.size(3), heads, qkv.size(1) / 3 / heads, type_major};
}

Weight3x3 weight3x3(const at::Tensor& weight, bool turned) {
  return {floats(weight), weight.size(turned ? 0 : 1), weight.size(turned ? 1 : 0), turned};
}

// Bytes of all prepared weights, and a part of them while it is counted.
std::atomic<int64_t> prepared_bytes{0};
constexpr int64_t kMostPreparedBytes = int64_t{256} << 20;

struct PreparedBytes {
  explicit PreparedBytes(int64_t bytes) : bytes(bytes) { prepared_bytes += bytes; }
  PreparedBytes(const PreparedBytes&) = delete;
  PreparedBytes& operator=(const PreparedBytes&) = delete;
  ~PreparedBytes() { prepared_bytes -= bytes; }
  const int64_t bytes;
};

// The prepared weight, brought up to date; null where it may not be kept.
const float* kept_weight(const at::Tensor& weight, PreparedWeight* prepared) {
  if (prepared == nullptr) return nullptr;
  const auto version = static_cast<uint32_t>(weight._version());
  if (!prepared->transformed.defined()) {
    const int64_t size = kernel_table().transformed_size(weight.size(1), weight.size(0));
    const auto counted = std::make_shared<PreparedBytes>(size * static_cast<int64_t>(sizeof(float)));
    if (prepared_bytes > kMostPreparedBytes) return nullptr;
    auto holder = new_floats({size});
    // The tensor looks at the holder's memory; its deleter holds both until it is let go.
    prepared->transformed = at::from_blob(
        holder.data_ptr(), {size}, [holder, counted](void*) {}, at::kFloat);
    prepared->version = version + 1;
  }
  if (prepared->version != version) {
    kernel_table().transform_weight(weight3x3(weight, /*turned=*/false), prepared->transformed.data_ptr<float>());
    prepared->version = version;
  }
  return floats(prepared->transformed);
}

// y = conv(x) + bias + addend; ready: the transformed weight or null.
at::Tensor winograd(const at::Tensor& x, const Weight3x3& weight, const float* ready, const at::Tensor& bias,
                    const at::Tensor& addend, bool reuses_addend) {
  auto y = reuses_addend && addend.defined() ? addend : new_image(x, weight.columns);
  const auto shape = conv_shape(x, weight.columns);
  const int64_t bias_stride = bias.defined() && bias.dim() == 2 ? weight.columns : 0;
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    const auto size = kernels.conv_workspace(shape, weight.turned, ready != nullptr, at::get_num_threads());
    float* workspace = scratch(Use::Workspace, size);
    kernels.conv(shape, in<T>(x), weight, ready, floats(bias), bias_stride, in<T>(addend), out<T>(y),
                 zero_pixel<T>(shape.in_channels), workspace);
  });
  return y;
}

}  // namespace

Matrix::Matrix(const at::Tensor& weight)
    : data(weight.data_ptr<float>()),
      rows(weight.size(0)),
      columns(weight.size(1)),
      row_stride(weight.stride(0)),
      column_stride(weight.stride(1)) {
  TORCH_CHECK(weight.numel() == rows * columns, "a matrix");
  TORCH_CHECK(row_stride == 1 || column_stride == 1, "rows or columns of a weight lie together");
}

at::Tensor nhwc(const at::Tensor& x) { return x.is_contiguous(kNhwc) ? x : x.contiguous(kNhwc); }

Moments moments(const Parts& x, int64_t groups) {
  constexpr float kTiny = 1e-5f;
  const auto shape = norm_shape(x, groups);
  Moments result{new_floats({2, shape.batch, groups})};
  float* mean = out<float>(result.values);
  float* workspace = piece_space(shape, 2);
  with_type(x.first, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.moments(shape, in<T>(x.first), in<T>(x.second), kTiny, mean, mean + shape.batch * groups, workspace);
  });
  return result;
}

Affine affine(const Moments& moments, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& scale_shift) {
  const int64_t batch = moments.values.size(1), groups = moments.groups();
  const int64_t channels = weight.size(0), width = channels / groups;
  Affine result{new_floats({3, batch, channels})};
  const float *gamma = floats(weight), *beta = floats(bias), *extra = floats(scale_shift);
  for (int64_t n = 0; n < batch; ++n) {
    const float* mean = floats(moments.values) + n * groups;
    const float* rstd = mean + batch * groups;
    float* scale = out<float>(result.values) + n * channels;
    float* shift = scale + batch * channels;
    float* means = shift + batch * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const float m = mean[c / width];
      const float factor = rstd[c / width] * gamma[c];
      const float more = extra == nullptr ? 1 : 1 + extra[n * 2 * channels + c];
      const float term = extra == nullptr ? 0 : extra[n * 2 * channels + channels + c];
      scale[c] = factor * more;
      shift[c] = (beta[c] - m * factor) * more + term;
      means[c] = m;
    }
  }
  return result;
}

at::Tensor apply(const Parts& x, const Affine& affine, bool activates) {
  auto y = new_image(x.first, x.channels());
  const float* scale = floats(affine.values);
  const float* shift = scale + x.first.size(0) * x.channels();
  with_type(x.first, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.apply(norm_shape(x, 1), activates, in<T>(x.first), in<T>(x.second), scale, shift, out<T>(y));
  });
  return y;
}

NormGradients apply_backward(at::Tensor gradient, const Parts& x, const Moments& moments, const Affine& affine,
                             const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& scale_shift,
                             bool activates, const at::Tensor& addend) {
  const auto shape = norm_shape(x, moments.groups());
  const int64_t batch = shape.batch, channels = x.channels(), groups = shape.groups, width = channels / groups;
  const int64_t all = batch * channels;
  float* sums = scratch(Use::Norm, 5 * all);  // [batch][2][channels]
  float *dz_factor = sums + 2 * all, *x_factor = dz_factor + all, *term = x_factor + all;
  float* workspace = piece_space(shape, 2);
  const float* scale = floats(affine.values);
  with_type(x.first, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.apply_gradient(shape, activates, in<T>(x.first), in<T>(x.second), scale, scale + all, scale + 2 * all,
                           out<T>(gradient), sums, workspace);
  });

  // With xhat = (x - mean) rstd and z = xhat g + b, g = weight (1 + scale): dx = rstd (dz g - mean(dz g) -
  // xhat mean(dz g xhat)), means over the group.
  NormGradients result;
  result.weight = new_floats({channels});
  result.bias = new_floats({channels});
  if (scale_shift.defined()) result.scale_shift = new_floats({batch, 2 * channels});
  const float *gamma = floats(weight), *beta = floats(bias), *extra = floats(scale_shift);
  const double count = static_cast<double>(width * shape.pixels);
  float *dgamma = out<float>(result.weight), *dbeta = out<float>(result.bias);
  float* d_extra = out<float>(result.scale_shift);
  std::fill_n(dgamma, channels, 0.0f);
  std::fill_n(dbeta, channels, 0.0f);
  for (int64_t n = 0; n < batch; ++n) {
    const float* sum = sums + n * 2 * channels;
    const float* product = sum + channels;
    for (int64_t group = 0; group < groups; ++group) {
      const double mean = floats(moments.values)[n * groups + group];
      const double rstd = floats(moments.values)[(batch + n) * groups + group];
      double mean_dz = 0, mean_dz_xhat = 0;
      for (int64_t c = group * width; c < (group + 1) * width; ++c) {
        const double more = extra == nullptr ? 1 : 1 + extra[n * 2 * channels + c];
        const double g = gamma[c] * more, d_shift = sum[c], d_scale = rstd * product[c];
        mean_dz += g * d_shift;
        mean_dz_xhat += g * d_scale;
        dgamma[c] += static_cast<float>(more * d_scale);
        dbeta[c] += static_cast<float>(more * d_shift);
        if (extra != nullptr) {
          d_extra[n * 2 * channels + c] = static_cast<float>(gamma[c] * d_scale + beta[c] * d_shift);
          d_extra[(2 * n + 1) * channels + c] = static_cast<float>(d_shift);
        }
      }
      mean_dz /= count;
      mean_dz_xhat /= count;
      for (int64_t c = group * width; c < (group + 1) * width; ++c) {
        const double g = gamma[c] * (extra == nullptr ? 1 : 1.0 + extra[n * 2 * channels + c]);
        dz_factor[n * channels + c] = static_cast<float>(rstd * g);
        x_factor[n * channels + c] = static_cast<float>(-rstd * rstd * mean_dz_xhat);
        term[n * channels + c] = static_cast<float>(rstd * (rstd * mean_dz_xhat * mean - mean_dz));
      }
    }
  }

  if (x.second.defined()) {
    result.x = {new_image(x.first, x.first.size(1)), new_image(x.second, x.second.size(1))};
  } else {
    result.x = {gradient, {}};
  }
  result.x_sums = new_floats({batch, x.first.size(1)});
  with_type(x.first, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.norm_gradient(shape, in<T>(x.first), in<T>(x.second), in<T>(gradient), dz_factor, x_factor, term,
                          in<T>(addend), out<T>(result.x.first), out<T>(result.x.second), out<float>(result.x_sums),
                          workspace);
  });
  return result;
}

at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& addend,
                   bool reuses_addend, PreparedWeight* prepared) {
  const float* ready = kept_weight(weight, prepared);
  return winograd(x, weight3x3(weight, /*turned=*/false), ready, bias, addend, reuses_addend);
}

at::Tensor conv3x3_input_gradient(const at::Tensor& gradient, const at::Tensor& weight) {
  return winograd(gradient, weight3x3(weight, /*turned=*/true), nullptr, {}, {}, false);
}

at::Tensor conv3x3_weight_gradient(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& weight) {
  const auto shape = conv_shape(x, gradient.size(1));
  auto result = new_floats({shape.out_channels, shape.in_channels, 3, 3});
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    float* workspace = scratch(Use::Workspace, kernels.conv_gradient_workspace(shape));
    kernels.conv_weight_gradient(shape, in<T>(x), in<T>(gradient), out<float>(result), zero_pixel<T>(shape.in_channels),
                                 workspace);
  });
  return result;
}

at::Tensor conv1x1(const at::Tensor& x, const Matrix& weight, const at::Tensor& bias, const at::Tensor& addend) {
  auto y = addend.defined() ? addend : x.dim() == 2 ? new_floats({x.size(0), weight.rows}) : new_image(x, weight.rows);
  const ProductShape shape{x.numel() / weight.columns, weight.columns, weight.rows};
  const auto thread_stride = kernel_table().product_workspace(shape);
  float* packed = scratch(Use::Weights, kernel_table().packed_size(shape));
  float* workspace = scratch(Use::Workspace, at::get_num_threads() * thread_stride);
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.product(shape, in<T>(x), shape.depth, weight.data, weight.column_stride, weight.row_stride, floats(bias),
                    in<T>(addend), out<T>(y), shape.columns, packed, workspace, thread_stride);
  });
  return y;
}

void conv1x1_weight_gradient(const at::Tensor& x, const at::Tensor& gradient, const Matrix& result) {
  const ProductShape shape{result.rows, x.numel() / result.columns, result.columns};
  const auto thread_stride = kernel_table().outer_sum_workspace(shape);
  float* workspace = scratch(Use::Workspace, at::get_num_threads() * thread_stride);
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.outer_sum(shape, in<T>(gradient), shape.rows, in<T>(x), shape.columns, result.data, result.row_stride,
                      workspace, thread_stride);
  });
}

namespace {

// [N, 9 C, ceil(H / 2), ceil(W / 2)], tap by tap.
at::Tensor windows_of(const at::Tensor& x) {
  const WindowShape shape{x.size(0), x.size(2), x.size(3), x.size(1)};
  auto result = new_tensor({shape.batch, 9 * shape.channels, (shape.height + 1) / 2, (shape.width + 1) / 2},
                           x.scalar_type(), kNhwc);
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.gather_windows(shape, in<T>(x), out<T>(result));
  });
  return result;
}

// [C_out, C_in, 3, 3] as a matrix [C_out, 9 C_in] over windows.
at::Tensor tap_by_tap(const at::Tensor& weight) {
  return weight.detach().permute({0, 2, 3, 1}).contiguous().view({weight.size(0), -1});
}

}  // namespace

at::Tensor conv3x3_down(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto matrix = tap_by_tap(weight);
  return conv1x1(windows_of(x), matrix, bias);
}

at::Tensor conv3x3_down_input_gradient(const at::Tensor& gradient, const at::Tensor& weight, int64_t height,
                                       int64_t width) {
  const auto matrix = tap_by_tap(weight);
  const auto windows = conv1x1(gradient, Matrix(matrix).turned(), {});
  const WindowShape shape{gradient.size(0), height, width, weight.size(1)};
  auto result = new_tensor({shape.batch, shape.channels, height, width}, gradient.scalar_type(), kNhwc);
  with_type(windows, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.add_windows(shape, in<T>(windows), out<T>(result));
  });
  return result;
}

at::Tensor conv3x3_down_weight_gradient(const at::Tensor& x, const at::Tensor& gradient) {
  const auto result = new_floats({gradient.size(1), 9 * x.size(1)});
  conv1x1_weight_gradient(windows_of(x), gradient, result);
  return result.view({gradient.size(1), 3, 3, x.size(1)}).permute({0, 3, 1, 2}).contiguous();
}

at::Tensor attend(const at::Tensor& qkv, int64_t heads, bool type_major) {
  const auto shape = attention_shape(qkv, heads, type_major);
  auto result = new_image(qkv, qkv.size(1) / 3);
  const auto thread_stride = kernel_table().attention_workspace(shape);
  float* workspace = scratch(Use::Workspace, at::get_num_threads() * thread_stride);
  with_type(qkv, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.attention(shape, in<T>(qkv), out<T>(result), workspace, thread_stride);
  });
  return result;
}

at::Tensor attend_backward(const at::Tensor& qkv, const at::Tensor& gradient, int64_t heads, bool type_major) {
  const auto shape = attention_shape(qkv, heads, type_major);
  auto result = new_image(qkv, qkv.size(1));
  const auto thread_stride = kernel_table().attention_workspace(shape);
  float* workspace = scratch(Use::Workspace, at::get_num_threads() * thread_stride);
  with_type(qkv, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.attention_gradient(shape, in<T>(qkv), in<T>(gradient), out<T>(result), workspace, thread_stride);
  });
  return result;
}

at::Tensor pixel_sums(const at::Tensor& x) {
  const int64_t batch = x.size(0), channels = x.size(1), pixels = x.size(2) * x.size(3);
  auto sums = new_floats({batch, channels});
  float* workspace = scratch(Use::Workspace, kernel_table().piece_floats(batch, pixels, channels));
  with_type(x, [&]<typename T>(const ImageKernels<T>& kernels, T) {
    kernels.pixel_sums(in<T>(x), batch, pixels, channels, out<float>(sums), workspace);
  });
  return sums;
}

at::Tensor row_sum(const at::Tensor& rows) {
  const int64_t count = rows.size(0), width = rows.size(1);
  auto sum = new_floats({width});
  const float* from = floats(rows);
  float* to = out<float>(sum);
  std::fill_n(to, width, 0.0f);
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t i = 0; i < width; ++i) to[i] += from[n * width + i];
  }
  return sum;
}

}  // namespace fast
}  // namespace trislot
