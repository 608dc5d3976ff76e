// The only place where a C++ exception becomes a JavaScript error.
#pragma once

#include <napi.h>

#include <exception>
#include <string>
#include <vector>

namespace trislot {

struct Failure {
  std::string code, message;
  std::vector<std::string> missing, unexpected, misshapen;  // of a checkpoint
};

Failure describe(std::exception_ptr thrown);

Napi::Error to_javascript_error(Napi::Env env, const Failure& failure);

}  // namespace trislot
