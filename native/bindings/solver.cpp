#include "schedule/solver.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "bindings/decode.h"
#include "bindings/functions.h"
#include "bindings/handle.h"
#include "bindings/submit.h"

namespace trislot {

// reverseEuler(process, xStart, xt, k): Promise<handle>
Napi::Value reverse_euler(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       x_t = unwrap<at::Tensor>(info[2]), k = decode_integer(info[3])] {
        c10::NoGradGuard no_grad;
        return euler_step(*process, *x_start, *x_t, k);
      },
      wrap_tensor);
}

// reverseHeun(process, xStart, xStartAhead, xt, k): Promise<handle>
Napi::Value reverse_heun(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       ahead = unwrap<at::Tensor>(info[2]), x_t = unwrap<at::Tensor>(info[3]), k = decode_integer(info[4])] {
        c10::NoGradGuard no_grad;
        return heun_step(*process, *x_start, *ahead, *x_t, k);
      },
      wrap_tensor);
}

// reverseDpmpp2m(process, xStart, xStartBefore, xt, k): Promise<handle>
Napi::Value reverse_dpmpp_2m(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [process = unwrap<const Schedule>(info[0]), x_start = unwrap<at::Tensor>(info[1]),
       before = unwrap<at::Tensor>(info[2]), x_t = unwrap<at::Tensor>(info[3]), k = decode_integer(info[4])] {
        c10::NoGradGuard no_grad;
        return dpmpp_2m_step(*process, *x_start, *before, *x_t, k);
      },
      wrap_tensor);
}

}  // namespace trislot
