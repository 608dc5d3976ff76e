// How weights are loaded from a file, as JavaScript says it, and what came of it.
#pragma once

#include <napi.h>

#include "checkpoint/state.h"

namespace trislot {

// { part, partial, rows: { name: Int32Array } }
LoadOptions decode_load_options(const Napi::Object& object);

// { loaded, missing, unexpected, misshapen, metadata }
Napi::Value encode_loaded(Napi::Env env, const Loaded& loaded);

}  // namespace trislot
