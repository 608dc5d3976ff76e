#include "checkpoint/torch_file.h"

#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/input_file.h"
#include "checkpoint/unpickler.h"
#include "checkpoint/zip.h"

namespace trislot {
namespace {

using namespace pickle;

constexpr size_t kMaxName = 1024;         // bytes of a tensor's name
constexpr size_t kMaxMetadata = 4 << 20;  // bytes of keys and values
constexpr int kMaxDepth = 8;              // of dicts and lists in one another
constexpr uint64_t kMaxCopies = 4;        // bytes of transposed views, in files

// The tensors and plain values of an unpickled dict.
class StateDict {
 public:
  StateDict(const InputFile& file, Unpickler& unpickler) : file_(file), unpickler_(unpickler) {}

  TensorFile read(Ref top) {
    if (unpickler_[top].kind != Kind::kDict) file_.fail("a dict of tensors", "something else");
    const auto root = find_root(top);
    if (!root) {
      collect(top, "", 0, true);
    } else {
      collect(root->second, "", 1, true);
      std::string unread;
      for_each(top, "", [&](const std::string& name, Ref value) {
        if (name == root->first) return;
        const auto before = skipped_;
        collect(value, name, 1, false);
        if (skipped_ > before) unread += (unread.empty() ? "" : ", ") + name;
      });
      if (!unread.empty()) result_.metadata.insert_or_assign("unread", unread);
      result_.metadata.insert_or_assign("root", root->first);
    }
    if (result_.tensors.empty()) file_.fail("a dict of tensors", "one without any");
    return std::move(result_);
  }

 private:
  std::optional<std::pair<std::string, Ref>> find_root(Ref top) {
    for (const std::string_view wrapper : {"model", "state_dict", "model_state_dict", "ema"}) {
      const auto& items = unpickler_[top].items;
      const auto is_wrapper = [&](size_t i) {
        const auto& key = unpickler_[items[i]];
        return key.kind == Kind::kString && key.text == wrapper;
      };
      size_t i = 0;
      while (i < items.size() && !is_wrapper(i)) i += 2;
      if (i == items.size() || unpickler_[items[i + 1]].kind != Kind::kDict) continue;
      for (const auto inner : unpickler_[items[i + 1]].items) {
        if (unpickler_[inner].kind == Kind::kTensor) return std::pair(std::string(wrapper), items[i + 1]);
      }
    }
    return std::nullopt;
  }

  // The items of a dict, list or tuple with their dotted names. What is in the file can be many times itself:
  // the same list twice in a list, and so on; so visits are counted.
  template <typename Visit>
  void for_each(Ref container, const std::string& prefix, Visit visit) {
    const auto& value = unpickler_[container];
    const auto name_of = [&](const std::string& key) {
      const auto name = prefix.empty() ? key : prefix + "." + key;
      if (name.size() > kMaxName) file_.fail("names of at most " + std::to_string(kMaxName) + " bytes", show(name));
      if (++visits_ > kMaxSteps) file_.fail("at most " + std::to_string(kMaxSteps) + " values", "more");
      return name;
    };
    if (value.kind != Kind::kDict) {
      for (size_t i = 0; i < value.items.size(); ++i) visit(name_of(std::to_string(i)), value.items[i]);
      return;
    }
    for (size_t i = 0; i < value.items.size(); i += 2) {
      const auto& key = unpickler_[value.items[i]];
      if (key.kind != Kind::kString && key.kind != Kind::kInteger) {
        file_.fail("keys of dicts to be strings or integers", "something else in " + show(prefix));
      }
      if (key.text.size() > kMaxName)
        file_.fail("names of at most " + std::to_string(kMaxName) + " bytes", show(key.text));
      visit(name_of(key.kind == Kind::kString ? std::string(key.text) : std::to_string(key.integer)),
            value.items[i + 1]);
    }
  }

  void collect(Ref ref, const std::string& name, int depth, bool with_tensors) {
    const auto& value = unpickler_[ref];
    switch (value.kind) {
      case Kind::kTensor:
        if (with_tensors) {
          add_tensor(name, value);
        } else {
          ++skipped_;
        }
        break;
      case Kind::kDict:
      case Kind::kList:
      case Kind::kTuple:
        if (depth > kMaxDepth) file_.fail("at most " + std::to_string(kMaxDepth) + " dicts in one another", "more");
        for_each(ref, name, [&](const std::string& inner, Ref item) { collect(item, inner, depth + 1, with_tensors); });
        break;
      case Kind::kBool:
        add_metadata(name, value.integer ? "true" : "false");
        break;
      case Kind::kInteger:
        add_metadata(name, std::to_string(value.integer));
        break;
      case Kind::kFloat: {
        char text[32];
        const auto end = std::to_chars(text, text + sizeof text, value.real).ptr;  // the shortest that reads back
        add_metadata(name, {text, static_cast<size_t>(end - text)});
        break;
      }
      case Kind::kString:
        add_metadata(name, value.text);
        break;
      default:
        break;
    }
  }

  void add_metadata(const std::string& name, std::string_view value) {
    metadata_size_ += name.size() + value.size();
    if (metadata_size_ > kMaxMetadata) {
      file_.fail("at most " + std::to_string(kMaxMetadata) + " bytes of numbers and strings beside the tensors",
                 "more");
    }
    result_.metadata.insert_or_assign(name, std::string(value));
  }

  // `module.` comes from DataParallel.
  void add_tensor(std::string name, const Value& value) {
    if (name.starts_with("module.")) name.erase(0, 7);
    if (!names_.insert(name).second) file_.fail("every name once", show(name) + " twice");
    result_.tensors.push_back({name, materialise(unpickler_.view(value), name)});
  }

  at::Tensor materialise(const View& view, const std::string& name) {
    auto& storage = unpickler_.storages()[view.storage];
    if (std::count(view.shape.begin(), view.shape.end(), 0) > 0)
      return at::empty(view.shape, at::TensorOptions(storage.dtype));
    if (!storage.data.defined()) {
      storage.data = file_.read_tensor({static_cast<int64_t>(storage.count)}, storage.dtype, storage.begin, name);
    }
    auto tensor = at::as_strided(storage.data, view.shape, view.strides, view.offset);
    if (view.contiguous) return tensor;
    copied_ += tensor.nbytes();
    if (copied_ > kMaxCopies * file_.size()) {
      file_.fail("transposed tensors to take at most " + std::to_string(kMaxCopies) + " times the file", "more");
    }
    return tensor.contiguous();
  }

  const InputFile& file_;
  Unpickler& unpickler_;
  TensorFile result_;
  std::unordered_set<std::string> names_;
  int64_t visits_ = 0, skipped_ = 0;
  size_t metadata_size_ = 0;
  uint64_t copied_ = 0;
};

TensorFile read_zip_file(const InputFile& file) {
  const auto entries = read_zip(file);
  const auto is_pickle = [](const std::string& name) {
    const auto slash = name.find('/');
    return slash != std::string::npos && name.substr(slash) == "/data.pkl";
  };
  std::string folder;
  for (const auto& [name, entry] : entries) {
    if (!is_pickle(name)) continue;
    if (!folder.empty()) file.fail("one data.pkl", "several");
    folder = name.substr(0, name.find('/') + 1);
  }
  if (folder.empty()) file.fail("a zip archive that torch.save wrote", "one without <name>/data.pkl");
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end()) {
    char text[8] = {};
    file.read(text, std::min<uint64_t>(order->second.size, 7), order->second.begin);
    if (text != std::string_view("little")) file.fail("byteorder to be little", show(text));
  }
  const auto& data = entries.at(folder + "data.pkl");
  Unpickler unpickler(file, data.begin, data.begin + data.size);
  const auto top = unpickler.next();
  for (auto& storage : unpickler.storages()) {
    const auto entry = entries.find(folder + "data/" + std::string(storage.key));
    if (entry == entries.end()) file.fail("a zip entry for storage " + show(storage.key), "none");
    if (entry->second.size != storage.bytes()) {
      file.fail("storage " + show(storage.key) + " to take " + std::to_string(storage.bytes()) + " bytes",
                std::to_string(entry->second.size));
    }
    storage.begin = entry->second.begin;
  }
  return StateDict(file, unpickler).read(top);
}

// Five pickles: magic number, protocol version, system, object, storage keys; then for each key its element
// count as int64 and its elements.
TensorFile read_legacy_file(const InputFile& file) {
  Unpickler unpickler(file, 0, file.size());
  constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
  if (const auto& magic = unpickler[unpickler.next()]; magic.kind != Kind::kLongInteger || magic.text != kMagic) {
    file.fail("a pickle that torch.save wrote", "another magic number");
  }
  if (const auto& version = unpickler[unpickler.next()]; version.kind != Kind::kInteger || version.integer != 1001) {
    file.fail("torch.save's protocol 1001", "another");
  }
  const auto& system = unpickler[unpickler.next()];
  for (size_t i = 0; system.kind == Kind::kDict && i < system.items.size(); i += 2) {
    const auto &key = unpickler[system.items[i]], &value = unpickler[system.items[i + 1]];
    if (key.text == "little_endian" && value.integer != 1) file.fail("little_endian to be true", "false");
  }
  const auto top = unpickler.next();
  const auto& keys = unpickler[unpickler.next()];
  if (keys.kind != Kind::kList) file.fail("a list of storage keys", "something else");

  std::unordered_map<std::string_view, Storage*> by_key;
  for (auto& storage : unpickler.storages()) by_key.emplace(storage.key, &storage);
  auto position = unpickler.position();
  for (const auto ref : keys.items) {
    const auto entry = by_key.find(unpickler[ref].text);
    if (entry == by_key.end()) file.fail("storage keys that tensors name", show(unpickler[ref].text));
    auto& storage = *entry->second;
    if (storage.begin != 0) file.fail("every storage once", show(storage.key) + " twice");
    int64_t count = 0;
    file.read(&count, sizeof count, position);
    if (count != static_cast<int64_t>(storage.count)) {
      file.fail("storage " + show(storage.key) + " to have " + std::to_string(storage.count) + " elements",
                std::to_string(count));
    }
    storage.begin = position + sizeof count;
    if (storage.bytes() > file.size() - storage.begin) {
      file.fail("storage " + show(storage.key) + " to take " + std::to_string(storage.bytes()) + " bytes",
                "the end of the file after " + std::to_string(file.size() - storage.begin));
    }
    position = storage.begin + storage.bytes();
  }
  for (const auto& storage : unpickler.storages()) {
    if (storage.begin == 0) file.fail("storage " + show(storage.key) + " among the storage keys", "none");
  }
  if (position != file.size()) {
    file.fail("the file to end after its storages", std::to_string(file.size() - position) + " bytes more");
  }
  return StateDict(file, unpickler).read(top);
}

}  // namespace

TensorFile read_torch_file(const std::string& path) {
  const InputFile file("readTorchFile", path);
  char start[4] = {};
  file.read(start, std::min<uint64_t>(file.size(), 4), 0);
  if (load<uint32_t>(start) == 0x04034b50) return read_zip_file(file);
  if (start[0] == '\x80') return read_legacy_file(file);
  file.fail("a zip archive or pickle that torch.save wrote", file.size() == 0 ? "an empty file" : show({start, 4}));
}

}  // namespace trislot
