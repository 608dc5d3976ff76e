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

#include "checkpoint/crc32.h"
#include "checkpoint/dtype.h"
#include "checkpoint/input_file.h"
#include "checkpoint/unpickler.h"
#include "checkpoint/zip.h"

namespace trislot {
namespace {

using namespace pickle;

constexpr size_t kMaxName = 1024;         // bytes of a tensor's name
constexpr size_t kMaxMetadata = 4 << 20;  // bytes of keys and values
constexpr size_t kMaxNames = 64 << 20;    // bytes of all tensors' names, with kTensorCost for each
constexpr size_t kTensorCost = 256;       // bytes that a tensor takes beside its name and values
constexpr size_t kMaxDepth = 8;           // of dicts and lists in one another
constexpr uint64_t kMaxTimes = 4;         // bytes of all tensors, in files; tied weights are in it twice

constexpr std::string_view kParts[] = {"ema", "model", "state_dict", "model_state_dict"};

// The tensors and plain values of an unpickled dict.
class StateDict {
 public:
  StateDict(const InputFile& file, const Unpickler& unpickler, TensorReader& result, std::vector<View>& views)
      : file_(file), unpickler_(unpickler), result_(result), views_(views) {}

  void read(Ref top, const std::string& part) {
    if (unpickler_[top].kind != Kind::kDict) file_.fail("a dict of tensors", "something else");
    const auto path = part.empty() ? usual_path(top) : path_to(top, part);
    if (!part.empty() && path.empty()) {
      std::string dicts;
      for_each(top, "", [&](const std::string& name, Ref value) {
        if (unpickler_[value].kind == Kind::kDict) dicts += (dicts.empty() ? "" : ", ") + name;
      });
      file_.fail("part to name a dict of the file (" + (dicts.empty() ? "it has none" : dicts) + ")", show(part));
    }
    std::string root = part;
    if (part.empty()) {
      for (const auto& [name, dict] : path) root += (root.empty() ? "" : ".") + name;
    }
    collect(path.empty() ? top : path.back().second, "", path.size(), true);

    // Beside each dict on the way: plain values, and what holds tensors too.
    std::string unread, prefix;
    Ref container = top;
    for (const auto& [name, dict] : path) {
      const auto on_the_way = prefix.empty() ? name : prefix + "." + name;
      for_each(container, prefix, [&](const std::string& other, Ref value) {
        if (other == on_the_way) return;
        const auto before = skipped_;
        collect(value, other, 1, false);
        if (skipped_ > before) unread += (unread.empty() ? "" : ", ") + other;
      });
      prefix = on_the_way;
      container = dict;
    }
    if (!unread.empty()) result_.metadata.insert_or_assign("unread", unread);
    if (!path.empty()) result_.metadata.insert_or_assign("root", root);
    if (result_.tensors.empty()) file_.fail("a dict of tensors", "one without any");
  }

 private:
  using Path = std::vector<std::pair<std::string, Ref>>;  // keys and the dicts under them, from the outermost

  // The value of a string key that is a dict, if it is one.
  std::optional<Ref> dict_under(Ref dict, std::string_view key) const {
    const auto& items = unpickler_[dict].items;
    for (size_t i = 0; i < items.size(); i += 2) {
      const auto& name = unpickler_[items[i]];
      if (name.kind != Kind::kString || name.text != key) continue;
      if (unpickler_[items[i + 1]].kind == Kind::kDict) return items[i + 1];
    }
    return std::nullopt;
  }

  Path usual_path(Ref top) const {
    Path path;
    for (Ref dict = top; path.size() < kMaxDepth;) {
      std::optional<std::pair<std::string, Ref>> next;
      for (const auto name : kParts) {
        const auto inner = dict_under(dict, name);
        if (!inner || !(holds_tensors(*inner) || holds_part(*inner))) continue;
        next = {std::string(name), *inner};
        break;
      }
      if (!next) break;
      path.push_back(*next);
      dict = next->second;
      if (holds_tensors(dict)) break;
    }
    return path;
  }

  bool holds_tensors(Ref dict) const {
    const auto& items = unpickler_[dict].items;
    return std::any_of(items.begin(), items.end(), [&](Ref item) { return unpickler_[item].kind == Kind::kTensor; });
  }

  bool holds_part(Ref dict) const {
    return std::any_of(std::begin(kParts), std::end(kParts), [&](std::string_view name) {
      const auto inner = dict_under(dict, name);
      return inner && holds_tensors(*inner);
    });
  }

  // Keys may hold dots themselves, so the shortest key that leads on is taken first.
  Path path_to(Ref dict, std::string_view part) const {
    Path path;
    for (auto end = part.find('.'); path.size() < kMaxDepth; end = part.find('.', end + 1)) {
      const auto key = part.substr(0, end);
      if (const auto inner = dict_under(dict, key)) {
        path.emplace_back(key, *inner);
        if (end == std::string_view::npos) return path;
        dict = *inner;
        part.remove_prefix(end + 1);
        end = static_cast<size_t>(-1);
      } else if (end == std::string_view::npos) {
        break;
      }
    }
    return {};
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

  void collect(Ref ref, const std::string& name, size_t depth, bool with_tensors) {
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
    names_size_ += name.size() + kTensorCost;
    if (names_size_ > kMaxNames) file_.fail("at most " + std::to_string(kMaxNames) + " bytes of names", "more");
    if (!names_.insert(name).second) file_.fail("every name once", show(name) + " twice");
    auto view = unpickler_.view(value);
    const auto dtype = unpickler_.storages()[view.storage].dtype;
    // What is read for it: a transposed tensor, or a part of one, is cut out of a longer stretch.
    bytes_ += std::max(*byte_count(view.shape, dtype), view.span * c10::elementSize(dtype));
    if (bytes_ > kMaxTimes * file_.size()) {
      file_.fail("tensors to take at most " + std::to_string(kMaxTimes) + " times the file", "more");
    }
    result_.tensors.push_back({std::move(name), dtype, view.shape});
    views_.push_back(std::move(view));
  }

  const InputFile& file_;
  const Unpickler& unpickler_;
  TensorReader& result_;
  std::vector<View>& views_;
  std::unordered_set<std::string> names_;
  int64_t visits_ = 0, skipped_ = 0;
  size_t metadata_size_ = 0, names_size_ = 0;
  uint64_t bytes_ = 0;
};

class TorchReader final : public TensorReader {
 public:
  TorchReader(const std::string& path, const std::string& part) : file_("readTorchFile", path) {
    char start[4] = {};
    file_.read(start, std::min<uint64_t>(file_.size(), 4), 0);
    const bool is_zip = load<uint32_t>(start) == 0x04034b50;
    if (!is_zip && start[0] != '\x80') {
      file_.fail("a zip archive or pickle that torch.save wrote",
                 file_.size() == 0 ? "an empty file" : show({start, 4}));
    }
    format = is_zip ? "torch-zip" : "torch-legacy";
    const auto top = is_zip ? open_zip() : open_legacy();
    StateDict(file_, *unpickler_, *this, views_).read(top, part);
  }

  at::Tensor read(size_t index) const override {
    const auto& view = views_[index];
    const auto& storage = unpickler_->storages()[view.storage];
    const auto& name = tensors[index].name;
    if (view.span == 0) return at::empty(view.shape, at::TensorOptions(storage.dtype));
    const auto begin = storage.begin + static_cast<uint64_t>(view.offset) * c10::elementSize(storage.dtype);
    if (view.contiguous) return file_.read_tensor(view.shape, storage.dtype, begin, name);
    const auto stretch = file_.read_tensor({static_cast<int64_t>(view.span)}, storage.dtype, begin, name);
    return at::as_strided(stretch, view.shape, view.strides).contiguous();
  }

  void verify() const override {
    std::unordered_set<size_t> used;
    for (const auto& view : views_) used.insert(view.storage);
    for (size_t i = 0; i < checksums_.size(); ++i) {
      if (used.contains(i)) check_crc(checksums_[i].first, checksums_[i].second);
    }
  }

 private:
  Ref open_zip();
  Ref open_legacy();

  void check_crc(const std::string& name, const ZipEntry& entry) const {
    if (entry.crc == 0) return;  // PyTorch can be told to leave it out
    std::vector<char> buffer(std::min<uint64_t>(entry.size, 1 << 20));
    uint32_t crc = 0;
    for (uint64_t done = 0; done < entry.size;) {
      const auto part = std::min<uint64_t>(entry.size - done, buffer.size());
      file_.read(buffer.data(), part, entry.begin + done);
      crc = crc32(crc, buffer.data(), part);
      done += part;
    }
    if (crc != entry.crc) file_.fail("zip entry " + show(name) + " to have its checksum", "damaged data");
  }

  InputFile file_;
  std::optional<Unpickler> unpickler_;
  std::vector<View> views_;                                  // one a tensor
  std::vector<std::pair<std::string, ZipEntry>> checksums_;  // one a storage, in zip archives
};

Ref TorchReader::open_zip() {
  const auto entries = read_zip(file_);
  const auto is_pickle = [](const std::string& name) {
    const auto slash = name.find('/');
    return slash != std::string::npos && name.substr(slash) == "/data.pkl";
  };
  std::string folder;
  for (const auto& [name, entry] : entries) {
    if (!is_pickle(name)) continue;
    if (!folder.empty()) file_.fail("one data.pkl", "several");
    folder = name.substr(0, name.find('/') + 1);
  }
  if (folder.empty()) file_.fail("a zip archive that torch.save wrote", "one without <name>/data.pkl");
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end()) {
    char text[8] = {};
    file_.read(text, std::min<uint64_t>(order->second.size, 7), order->second.begin);
    if (text != std::string_view("little")) file_.fail("byteorder to be little", show(text));
  }
  const auto& data = entries.at(folder + "data.pkl");
  check_crc(folder + "data.pkl", data);
  unpickler_.emplace(file_, data.begin, data.begin + data.size);
  const auto top = unpickler_->next();
  for (auto& storage : unpickler_->storages()) {
    const auto entry = entries.find(folder + "data/" + std::string(storage.key));
    if (entry == entries.end()) file_.fail("a zip entry for storage " + show(storage.key), "none");
    if (entry->second.size != storage.bytes()) {
      file_.fail("storage " + show(storage.key) + " to take " + std::to_string(storage.bytes()) + " bytes",
                 std::to_string(entry->second.size));
    }
    storage.begin = entry->second.begin;
    checksums_.emplace_back(*entry);
  }
  return top;
}

// Five pickles: magic number, protocol version, system, object, storage keys; then for each key its element
// count as int64 and its elements.
Ref TorchReader::open_legacy() {
  auto& unpickler = unpickler_.emplace(file_, 0, file_.size());
  constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
  if (const auto& magic = unpickler[unpickler.next()]; magic.kind != Kind::kLongInteger || magic.text != kMagic) {
    file_.fail("a pickle that torch.save wrote", "another magic number");
  }
  if (const auto& version = unpickler[unpickler.next()]; version.kind != Kind::kInteger || version.integer != 1001) {
    file_.fail("torch.save's protocol 1001", "another");
  }
  const auto& system = unpickler[unpickler.next()];
  for (size_t i = 0; system.kind == Kind::kDict && i < system.items.size(); i += 2) {
    const auto &key = unpickler[system.items[i]], &value = unpickler[system.items[i + 1]];
    if (key.text == "little_endian" && value.integer != 1) file_.fail("little_endian to be true", "false");
  }
  const auto top = unpickler.next();
  const auto& keys = unpickler[unpickler.next()];
  if (keys.kind != Kind::kList) file_.fail("a list of storage keys", "something else");

  std::unordered_map<std::string_view, Storage*> by_key;
  for (auto& storage : unpickler.storages()) by_key.emplace(storage.key, &storage);
  auto position = unpickler.position();
  for (const auto ref : keys.items) {
    const auto entry = by_key.find(unpickler[ref].text);
    if (entry == by_key.end()) file_.fail("storage keys that tensors name", show(unpickler[ref].text));
    auto& storage = *entry->second;
    if (storage.begin != 0) file_.fail("every storage once", show(storage.key) + " twice");
    int64_t count = 0;
    file_.read(&count, sizeof count, position);
    if (count != static_cast<int64_t>(storage.count)) {
      file_.fail("storage " + show(storage.key) + " to have " + std::to_string(storage.count) + " elements",
                 std::to_string(count));
    }
    storage.begin = position + sizeof count;
    if (storage.bytes() > file_.size() - storage.begin) {
      file_.fail("storage " + show(storage.key) + " to take " + std::to_string(storage.bytes()) + " bytes",
                 "the end of the file after " + std::to_string(file_.size() - storage.begin));
    }
    position = storage.begin + storage.bytes();
  }
  for (const auto& storage : unpickler.storages()) {
    if (storage.begin == 0) file_.fail("storage " + show(storage.key) + " among the storage keys", "none");
  }
  if (position != file_.size()) {
    file_.fail("the file to end after its storages", std::to_string(file_.size() - position) + " bytes more");
  }
  return top;
}

}  // namespace

std::unique_ptr<TensorReader> open_torch_file(const std::string& path, const std::string& part) {
  return std::make_unique<TorchReader>(path, part);
}

TensorFile read_torch_file(const std::string& path, const std::string& part) {
  return read_all(*open_torch_file(path, part));
}

}  // namespace trislot
