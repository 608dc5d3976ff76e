#include <ATen/ATen.h>

#include "bindings/decode.h"
#include "bindings/encode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"
#include "loss/space.h"
#include "schedule/betas.h"

namespace trislot {
namespace {

Napi::Value wrap_schedule(Napi::Env env, Schedule schedule) {
  const auto bytes = schedule.length() * static_cast<int64_t>(sizeof(double)) * 20;
  return wrap(env, std::make_shared<const Schedule>(std::move(schedule)), bytes);
}

}  // namespace

// scheduleCreate(name, timestepCount, zeroTerminal, betas?, timestepMap?): handle; with a map, betas are those of a
// process that visits these of the original's timestepCount
Napi::Value schedule_create(const Napi::CallbackInfo& info) {
  auto betas =
      info[3].IsUndefined() ? named_betas(decode_string(info[0]), decode_integer(info[1])) : decode_numbers(info[3]);
  if (info[2].ToBoolean()) betas = rescale_to_zero_terminal_snr(betas);
  Schedule schedule(std::move(betas));
  if (!info[4].IsUndefined()) {
    schedule.timestep_map = decode_numbers(info[4]);
    TORCH_CHECK(schedule.timestep_map.size() == schedule.betas.size(), "a timestep map needs a timestep for each beta");
    schedule.original_length = decode_integer(info[1]);
  }
  return wrap_schedule(info.Env(), std::move(schedule));
}

// scheduleRespace(schedule, kept): handle
Napi::Value schedule_respace(const Napi::CallbackInfo& info) {
  return wrap_schedule(info.Env(), unwrap<const Schedule>(info[0])->respaced(decode_numbers(info[1])));
}

// scheduleTables(schedule): { [name]: Float64Array }
Napi::Value schedule_tables(const Napi::CallbackInfo& info) {
  const auto schedule = unwrap<const Schedule>(info[0]);
  const auto env = info.Env();
  auto object = Napi::Object::New(env);
  const auto put = [&](const char* name, const std::vector<double>& table) {
    object.Set(name, encode_numbers(env, table));
  };
  put("beta", schedule->betas);
  put("alphaBar", schedule->alpha_bar);
  put("alphaBarPrev", schedule->alpha_bar_prev);
  put("alphaBarNext", schedule->alpha_bar_next);
  put("sqrtAlphaBar", schedule->sqrt_alpha_bar);
  put("sqrtOneMinusAlphaBar", schedule->sqrt_one_minus_alpha_bar);
  put("logOneMinusAlphaBar", schedule->log_one_minus_alpha_bar);
  put("sqrtRecipAlphaBar", schedule->sqrt_recip_alpha_bar);
  put("sqrtRecipAlphaBarMinusOne", schedule->sqrt_recip_alpha_bar_minus_one);
  put("posteriorVariance", schedule->posterior_variance);
  put("posteriorLogVarianceClipped", schedule->posterior_log_variance_clipped);
  put("posteriorMeanXStart", schedule->posterior_mean_x_start);
  put("posteriorMeanXt", schedule->posterior_mean_x_t);
  put("snr", schedule->snr);
  put("timestepMap", schedule->timestep_map);
  return object;
}

// scheduleQSample(schedule, xStart, noise, t): Promise<tensor>
Napi::Value schedule_q_sample(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [schedule = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       noise = unwrap<at::Tensor>(info[2]),
       t = decode_integers(info[3])] { return schedule->q_sample(*x_start, *noise, t); },
      wrap_tensor);
}

// scheduleLossFactors(schedule, layout, loss): { compare, space }, each Float64Array [T * heads]
Napi::Value schedule_loss_factors(const Napi::CallbackInfo& info) {
  const auto schedule = unwrap<const Schedule>(info[0]);
  const auto layout = decode_layout(info[1].As<Napi::Object>());
  const auto loss = decode_loss_config(info[2].As<Napi::Object>(), layout);
  auto object = Napi::Object::New(info.Env());
  object.Set("compare",
             encode_numbers(info.Env(), space_factors(*schedule, layout.heads, loss.compare, loss.sigma_data)));
  object.Set("space", encode_numbers(info.Env(), space_factors(*schedule, layout.heads, loss.space, loss.sigma_data)));
  return object;
}

}  // namespace trislot
