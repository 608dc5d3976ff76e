#include "bindings/file.h"

#include "bindings/decode.h"
#include "bindings/functions.h"
#include "bindings/submit.h"
#include "checkpoint/dtype.h"

namespace trislot {
namespace {

Napi::Object encode_metadata(Napi::Env env, const std::map<std::string, std::string>& metadata) {
  auto object = Napi::Object::New(env);
  for (const auto& [key, value] : metadata) object.Set(key, value);
  return object;
}

}  // namespace

LoadOptions decode_load_options(const Napi::Object& object) {
  LoadOptions options{decode_string(object.Get("part")), object.Get("partial").ToBoolean(), {}};
  const auto rows = object.Get("rows").As<Napi::Object>();
  const auto names = rows.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    options.rows[decode_string(names.Get(i))] = decode_integers(rows.Get(names.Get(i)));
  }
  return options;
}

Napi::Value encode_loaded(Napi::Env env, const Loaded& loaded) {
  const auto list = [&](const std::vector<std::string>& names) {
    auto array = Napi::Array::New(env, names.size());
    for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, names[i]);
    return array;
  };
  auto object = Napi::Object::New(env);
  object.Set("loaded", list(loaded.report.loaded));
  object.Set("missing", list(loaded.report.missing));
  object.Set("unexpected", list(loaded.report.unexpected));
  object.Set("misshapen", list(loaded.report.misshapen));
  object.Set("metadata", encode_metadata(env, loaded.metadata));
  return object;
}

// fileInspect(path, part): Promise<{ format, tensors: { name, dtype, shape }[], metadata }>, without the data
Napi::Value file_inspect(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [path = decode_string(info[0]), part = decode_string(info[1])] {
        return std::shared_ptr<TensorReader>(open_tensors(path, part));
      },
      [](Napi::Env env, const std::shared_ptr<TensorReader>& reader) -> Napi::Value {
        auto tensors = Napi::Array::New(env, reader->tensors.size());
        for (uint32_t i = 0; i < reader->tensors.size(); ++i) {
          const auto& [name, dtype, shape] = reader->tensors[i];
          auto entry = Napi::Object::New(env);
          entry.Set("name", name);
          entry.Set("dtype", std::string(find_dtype(&DtypeNames::dtype, dtype)->name));
          auto sizes = Napi::Array::New(env, shape.size());
          for (uint32_t k = 0; k < shape.size(); ++k) sizes.Set(k, static_cast<double>(shape[k]));
          entry.Set("shape", sizes);
          tensors.Set(i, entry);
        }
        auto object = Napi::Object::New(env);
        object.Set("format", reader->format);
        object.Set("tensors", tensors);
        object.Set("metadata", encode_metadata(env, reader->metadata));
        return object;
      });
}

// fileConvert(from, to, part): Promise<void>, to .safetensors or .pt, whole or not at all
Napi::Value file_convert(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [from = decode_string(info[0]), to = decode_string(info[1]), part = decode_string(info[2])] {
        convert_file(from, to, part);
      },
      encode_nothing);
}

}  // namespace trislot
