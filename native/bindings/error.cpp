#include "bindings/error.h"

#include <c10/util/Exception.h>

#include <new>

#include "bindings/handle.h"
#include "checkpoint/state.h"
#include "train/trainer.h"

namespace trislot {

Failure describe(std::exception_ptr thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const StateError& e) {
    return {"ERR_CHECKPOINT", e.what(), e.report.missing, e.report.unexpected, e.report.misshapen};
  } catch (const FileError& e) {
    return {"ERR_CHECKPOINT", e.what(), {}, {}, {}};
  } catch (const NonFiniteError& e) {
    return {"ERR_NON_FINITE", e.what(), {}, {}, {}};
  } catch (const DisposedError& e) {
    return {"ERR_DISPOSED", e.what(), {}, {}, {}};
  } catch (const c10::OutOfMemoryError& e) {
    return {"ERR_OUT_OF_MEMORY", e.what_without_backtrace(), {}, {}, {}};
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    const bool memory = text.find("can't allocate memory") != std::string::npos;
    return {memory ? "ERR_OUT_OF_MEMORY" : "ERR_LIBTORCH", text, {}, {}, {}};
  } catch (const std::bad_alloc&) {
    return {"ERR_OUT_OF_MEMORY", "out of memory; use a smaller batch, a micro-batch, or recompute", {}, {}, {}};
  } catch (const std::exception& e) {
    return {"ERR_NATIVE", e.what(), {}, {}, {}};
  } catch (...) {
    return {"ERR_NATIVE", "a C++ exception that is not a std::exception", {}, {}, {}};
  }
}

Napi::Error to_javascript_error(Napi::Env env, const Failure& failure) {
  auto error = Napi::Error::New(env, failure.message);
  const auto list = [&](const std::vector<std::string>& names) {
    auto array = Napi::Array::New(env, names.size());
    for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, names[i]);
    return array;
  };
  error.Set("code", failure.code);
  error.Set("missing", list(failure.missing));
  error.Set("unexpected", list(failure.unexpected));
  error.Set("misshapen", list(failure.misshapen));
  return error;
}

}  // namespace trislot
