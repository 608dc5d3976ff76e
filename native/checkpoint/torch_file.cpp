#include "checkpoint/torch_file.h"

#include <ATen/ops/as_strided.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "checkpoint/dtype.h"
#include "checkpoint/input_file.h"

namespace trislot {
namespace {

constexpr uint64_t kMaxPickle = 64 << 20;      // bytes; a thousand tensors take 200 KB
constexpr int64_t kMaxSteps = 1'000'000;       // of one file's pickles; a tensor takes about 40
constexpr uint64_t kMaxDirectory = 16 << 20;   // bytes of the zip directory
constexpr size_t kMaxName = 1024;              // bytes of a tensor's name
constexpr size_t kMaxMetadata = 4 << 20;       // bytes of keys and values
constexpr int kMaxDepth = 8;                   // of dicts and lists in one another
constexpr uint64_t kMaxCopies = 4;             // bytes of transposed views, in files

// Little-endian, unaligned.
template <typename T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// --- zip ------------------------------------------------------------------------------------------------------------

struct ZipEntry {
  uint64_t begin, size;  // of the data, bytes of the file
};

using ZipEntries = std::unordered_map<std::string, ZipEntry>;

struct ZipDirectory {
  uint64_t begin, size, count;
};

ZipDirectory find_directory(const InputFile& file) {
  constexpr uint64_t kEnd = 22, kLocator = 20, kEnd64 = 56;
  // The end record is the last thing in the file, but for a comment of at most 65535 bytes.
  const auto tail_size = std::min<uint64_t>(file.size(), kEnd + 65535);
  std::string tail(tail_size, '\0');
  const auto tail_begin = file.size() - tail_size;
  file.read(tail.data(), tail_size, tail_begin);
  auto at = static_cast<int64_t>(tail_size) - static_cast<int64_t>(kEnd);
  const auto ends_here = [&](int64_t i) {
    const char* record = tail.data() + i;
    return load<uint32_t>(record) == 0x06054b50 && load<uint16_t>(record + 20) == tail_size - i - kEnd;
  };
  while (at >= 0 && !ends_here(at)) --at;
  if (at < 0) file.fail("a whole zip archive", "one without an end record; the file may have been cut short");

  const char* end = tail.data() + at;
  ZipDirectory directory{load<uint32_t>(end + 16), load<uint32_t>(end + 12), load<uint16_t>(end + 10)};
  auto limit = tail_begin + static_cast<uint64_t>(at);
  if (limit >= kLocator) {
    char locator[kLocator];
    file.read(locator, kLocator, limit - kLocator);
    if (load<uint32_t>(locator) == 0x07064b50) {
      const auto position = load<uint64_t>(locator + 8);
      if (position > limit - kLocator || limit - kLocator - position < kEnd64) {
        file.fail("the zip64 end record before its locator", "byte " + std::to_string(position));
      }
      char record[kEnd64];
      file.read(record, kEnd64, position);
      if (load<uint32_t>(record) != 0x06064b50) file.fail("a zip64 end record", "other bytes");
      directory = {load<uint64_t>(record + 48), load<uint64_t>(record + 40), load<uint64_t>(record + 32)};
      limit = position;
    }
  }
  if (directory.begin > limit || directory.size > limit - directory.begin) {
    file.fail("the zip directory to lie in the file",
              std::to_string(directory.size) + " bytes at byte " + std::to_string(directory.begin));
  }
  if (directory.size > kMaxDirectory) {
    file.fail("a zip directory of at most " + std::to_string(kMaxDirectory) + " bytes", std::to_string(directory.size));
  }
  return directory;
}

ZipEntries read_zip(const InputFile& file) {
  constexpr uint64_t kHeader = 46, kLocalHeader = 30;
  const auto directory = find_directory(file);
  std::string bytes(directory.size, '\0');
  file.read(bytes.data(), directory.size, directory.begin);

  ZipEntries entries;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // local header to end of data
  uint64_t at = 0;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const char* header = bytes.data() + at;
    const auto rest = directory.size - at;
    if (rest < kHeader || load<uint32_t>(header) != 0x02014b50) {
      file.fail("a zip directory of " + std::to_string(directory.count) + " entries", std::to_string(i));
    }
    const auto flags = load<uint16_t>(header + 8), method = load<uint16_t>(header + 10);
    uint64_t packed = load<uint32_t>(header + 20), size = load<uint32_t>(header + 24),
             position = load<uint32_t>(header + 42);
    const uint64_t name_size = load<uint16_t>(header + 28), extra_size = load<uint16_t>(header + 30),
                   comment_size = load<uint16_t>(header + 32);
    if (rest - kHeader < name_size + extra_size + comment_size) file.fail("a whole zip directory", "its end in an entry");
    const std::string name(header + kHeader, name_size);

    // Zip64: the fields that are all ones stand in the extra field with id 1, in this order.
    std::string_view extra(header + kHeader + name_size, extra_size);
    while (extra.size() >= 4) {
      const auto id = load<uint16_t>(extra.data()), length = load<uint16_t>(extra.data() + 2);
      extra.remove_prefix(4);
      if (length > extra.size()) file.fail("zip entry " + show(name) + " to have a whole extra field", "a part");
      auto field = extra.substr(0, length);
      extra.remove_prefix(length);
      if (id != 1) continue;
      for (auto* value : {&size, &packed, &position}) {
        if (*value != 0xffffffff) continue;
        if (field.size() < 8) file.fail("zip entry " + show(name) + " to have its 64-bit sizes", "a part");
        *value = load<uint64_t>(field.data());
        field.remove_prefix(8);
      }
    }
    at += kHeader + name_size + extra_size + comment_size;

    if (flags & 1) file.fail("zip entry " + show(name) + " to be readable", "an encrypted one");
    if (method != 0) {
      file.fail("zip entry " + show(name) + " to be stored, as torch.save writes it",
                "a compressed one (method " + std::to_string(method) + ")");
    }
    if (packed != size) {
      file.fail("stored zip entry " + show(name) + " to have one size",
                std::to_string(packed) + " and " + std::to_string(size));
    }
    char local[kLocalHeader];
    if (position > directory.begin || directory.begin - position < kLocalHeader) {
      file.fail("zip entry " + show(name) + " to lie before the directory", "byte " + std::to_string(position));
    }
    file.read(local, kLocalHeader, position);
    const uint64_t local_name = load<uint16_t>(local + 26), local_extra = load<uint16_t>(local + 28);
    const auto begin = position + kLocalHeader + local_name + local_extra;
    if (load<uint32_t>(local) != 0x04034b50 || local_name != name_size) {
      file.fail("a local header of zip entry " + show(name) + " at byte " + std::to_string(position), "other bytes");
    }
    if (begin > directory.begin || size > directory.begin - begin) {
      file.fail("zip entry " + show(name) + " to lie before the directory",
                std::to_string(size) + " bytes at byte " + std::to_string(begin));
    }
    std::string repeated(name_size, '\0');
    file.read(repeated.data(), name_size, position + kLocalHeader);
    if (repeated != name) file.fail("zip entry " + show(name) + " to be named so in its local header", show(repeated));
    if (!entries.emplace(name, ZipEntry{begin, size}).second) file.fail("every zip entry once", show(name) + " twice");
    ranges.emplace_back(position, begin + size);
  }
  // Entries on the same bytes would let a small file ask for much memory.
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      file.fail("zip entries that do not overlap", "two at byte " + std::to_string(ranges[i].first));
    }
  }
  return entries;
}

// --- pickle ---------------------------------------------------------------------------------------------------------

// Values live in one arena and name each other by index, so that cycles leak nothing and depth costs no stack.
using Ref = uint32_t;

enum class Kind : uint8_t {
  kNone, kBool, kInteger, kLongInteger, kFloat, kString, kTuple, kList, kDict,
  kOrderedDict, kSize, kRebuildTensor, kRebuildParameter, kStorageType,  // globals
  kStorage, kTensor,
};

struct Value {
  Kind kind = Kind::kNone;
  int64_t integer = 0;       // kBool, kInteger; index of the storage type or storage; of kTensor its arguments
  double real = 0;           // kFloat
  std::string_view text;     // kString, kLongInteger: a part of the pickle
  std::vector<Ref> items;    // kTuple, kList; kDict: key, value, key, value, …
};

struct Storage {
  std::string_view key;
  at::ScalarType dtype;
  uint64_t count;       // elements
  uint64_t begin = 0;   // byte of the file; 0 is not known yet
  at::Tensor data;      // read when a tensor first asks for it

  uint64_t bytes() const { return count * c10::elementSize(dtype); }
};

struct View {
  size_t storage;
  int64_t offset;
  std::vector<int64_t> shape, strides;
  bool contiguous;
};

class Unpickler {
 public:
  // Pickles lie one after another from `begin`; none reaches beyond `end`.
  Unpickler(const InputFile& file, uint64_t begin, uint64_t end)
      : file_(file), begin_(begin), limit_(std::min(end - begin, kMaxPickle)), cut_(end - begin > kMaxPickle),
        bytes_(new char[limit_]) {}

  // Reads one pickle and gives its value.
  Ref next();

  uint64_t position() const { return begin_ + at_; }
  const Value& operator[](Ref ref) const { return values_[ref]; }
  std::vector<Storage>& storages() { return storages_; }

  // What the arguments of a tensor say, checked against its storage.
  View view(const Value& tensor) const;

 private:
  const char* take(uint64_t count);
  std::string_view line();
  Ref make(Value value);
  void push(Value value) { stack_.push_back(make(std::move(value))); }
  Ref pop();
  std::vector<Ref> pop_to_mark();
  void remember(uint32_t index) { memo_[index] = top(); }
  void recall(uint32_t index);
  Ref top();
  void tuple(size_t size);
  void extend(Kind kind, std::vector<Ref> items);
  void global();
  void persistent();
  void reduce();
  void build();
  const Value& argument(const Value& tuple, size_t index, Kind kind, const char* what) const;
  std::vector<int64_t> integers(const Value& tuple, const char* what) const;

  const InputFile& file_;
  uint64_t begin_, limit_;
  bool cut_;
  std::unique_ptr<char[]> bytes_;
  uint64_t read_ = 0, at_ = 0;
  int64_t steps_ = 0;
  size_t floor_ = 0;  // what lies below the last mark is not the current operation's
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, Ref> memo_;
  std::vector<Storage> storages_;
  std::unordered_map<std::string_view, size_t> storage_index_;
};

const char* Unpickler::take(uint64_t count) {
  if (count > limit_ - at_) {
    if (cut_) file_.fail("a pickle of at most " + std::to_string(kMaxPickle) + " bytes", "a longer one");
    file_.fail("a whole pickle", "its end at byte " + std::to_string(begin_ + limit_));
  }
  if (at_ + count > read_) {
    const auto part = std::min(limit_ - read_, std::max<uint64_t>(at_ + count - read_, 256 << 10));
    file_.read(bytes_.get() + read_, part, begin_ + read_);
    read_ += part;
  }
  at_ += count;
  return bytes_.get() + at_ - count;
}

std::string_view Unpickler::line() {
  const auto begin = at_;
  while (*take(1) != '\n') {
    if (at_ - begin > 256) file_.fail("names of globals to be short", "one of more than 256 bytes");
  }
  return {bytes_.get() + begin, at_ - begin - 1};
}

Ref Unpickler::make(Value value) {
  values_.push_back(std::move(value));
  return static_cast<Ref>(values_.size() - 1);
}

Ref Unpickler::top() {
  if (stack_.size() <= floor_) file_.fail("a valid pickle", "an operation without its operand");
  return stack_.back();
}

Ref Unpickler::pop() {
  const auto ref = top();
  stack_.pop_back();
  return ref;
}

std::vector<Ref> Unpickler::pop_to_mark() {
  if (marks_.empty()) file_.fail("a valid pickle", "an operation without its mark");
  std::vector<Ref> items(stack_.begin() + static_cast<std::ptrdiff_t>(floor_), stack_.end());
  stack_.resize(floor_);
  marks_.pop_back();
  floor_ = marks_.empty() ? 0 : marks_.back();
  return items;
}

void Unpickler::recall(uint32_t index) {
  const auto entry = memo_.find(index);
  if (entry == memo_.end()) file_.fail("a valid pickle", "memo " + std::to_string(index) + " before it is set");
  stack_.push_back(entry->second);
}

void Unpickler::tuple(size_t size) {
  Value value{Kind::kTuple};
  value.items.resize(size);
  for (size_t i = size; i-- > 0;) value.items[i] = pop();
  push(std::move(value));
}

void Unpickler::extend(Kind kind, std::vector<Ref> items) {
  auto& target = values_[top()];
  if (target.kind != kind || (kind == Kind::kDict && items.size() % 2 != 0)) {
    file_.fail("a valid pickle", "items for something that is not a list or dict");
  }
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void Unpickler::global() {
  const auto module = line(), name = line();
  const auto is = [&](std::string_view m, std::string_view n) { return module == m && name == n; };
  Value value;
  if (is("collections", "OrderedDict")) {
    value.kind = Kind::kOrderedDict;
  } else if (is("torch._utils", "_rebuild_tensor_v2")) {
    value.kind = Kind::kRebuildTensor;
  } else if (is("torch._utils", "_rebuild_parameter")) {
    value.kind = Kind::kRebuildParameter;
  } else if (is("torch", "Size")) {
    value.kind = Kind::kSize;
  } else if (const auto* row = find_dtype(&DtypeNames::storage, name); row && module == "torch") {
    value.kind = Kind::kStorageType;
    value.integer = row - kDtypes;
  } else if (module == "torch" && find_dtype(&DtypeNames::name, name)) {
    value.kind = Kind::kString;  // a dtype
    value.text = name;
  } else {
    const auto full = std::string(module) + "." + std::string(name);
    file_.fail("only tensors and plain values (a file can name code to run; none was run)", "the global " + show(full));
  }
  push(std::move(value));
}

const Value& Unpickler::argument(const Value& tuple, size_t index, Kind kind, const char* what) const {
  if (tuple.kind != Kind::kTuple || index >= tuple.items.size() || values_[tuple.items[index]].kind != kind) {
    file_.fail(std::string("a valid ") + what, "other arguments");
  }
  return values_[tuple.items[index]];
}

// ('storage', type, key, location, element count), in old files with a sixth item
void Unpickler::persistent() {
  constexpr auto kWhat = "storage";
  const auto id = pop();
  const auto& tuple = values_[id];
  if (argument(tuple, 0, Kind::kString, kWhat).text != "storage") file_.fail("a storage", "another persistent id");
  const auto dtype = kDtypes[argument(tuple, 1, Kind::kStorageType, kWhat).integer].dtype;
  const auto key = argument(tuple, 2, Kind::kString, kWhat).text;
  argument(tuple, 3, Kind::kString, kWhat);
  const auto count = argument(tuple, 4, Kind::kInteger, kWhat).integer;
  if (tuple.items.size() > 5 && values_[tuple.items[5]].kind != Kind::kNone) {
    file_.fail("whole storages", "a view of storage " + show(key));
  }
  if (count < 0 || static_cast<uint64_t>(count) > file_.size() / c10::elementSize(dtype)) {
    file_.fail("storage " + show(key) + " to lie in the file of " + std::to_string(file_.size()) + " bytes",
               std::to_string(count) + " elements of " + std::to_string(c10::elementSize(dtype)) + " bytes");
  }
  const auto [entry, is_new] = storage_index_.emplace(key, storages_.size());
  if (is_new) storages_.push_back({key, dtype, static_cast<uint64_t>(count), 0, {}});
  const auto& storage = storages_[entry->second];
  if (storage.dtype != dtype || storage.count != static_cast<uint64_t>(count)) {
    file_.fail("storage " + show(key) + " to have one type and size", "two");
  }
  Value value{Kind::kStorage};
  value.integer = static_cast<int64_t>(entry->second);
  push(std::move(value));
}

void Unpickler::reduce() {
  const auto arguments = pop();
  const auto function = values_[pop()].kind;
  const auto& tuple = values_[arguments];
  if (tuple.kind != Kind::kTuple) file_.fail("a valid pickle", "a call without arguments");
  Value value;
  switch (function) {
    case Kind::kOrderedDict:
      if (!tuple.items.empty()) file_.fail("an OrderedDict to be made empty", "one made of arguments");
      value.kind = Kind::kDict;
      break;
    case Kind::kSize:
      integers(argument(tuple, 0, Kind::kTuple, "torch.Size"), "torch.Size");
      stack_.push_back(tuple.items[0]);
      return;
    case Kind::kRebuildTensor:
      // (storage, offset, shape, strides, requires_grad, hooks[, metadata])
      value.kind = Kind::kTensor;
      value.integer = arguments;
      view(value);
      break;
    case Kind::kRebuildParameter:
      // (tensor, requires_grad, hooks)
      argument(tuple, 0, Kind::kTensor, "parameter");
      stack_.push_back(tuple.items[0]);
      return;
    default:
      file_.fail("a call of a known function", "another");
  }
  push(std::move(value));
}

// State dicts carry `_metadata` (module versions) as an attribute; nothing in it is needed.
void Unpickler::build() {
  const auto state = values_[pop()].kind;
  if (state != Kind::kDict || values_[top()].kind != Kind::kDict) {
    file_.fail("attributes of a dict only", "attributes of something else");
  }
}

std::vector<int64_t> Unpickler::integers(const Value& tuple, const char* what) const {
  if (tuple.items.size() > kMaxDimensions) {
    file_.fail(std::string(what) + " of at most " + std::to_string(kMaxDimensions) + " dimensions",
               std::to_string(tuple.items.size()));
  }
  std::vector<int64_t> values(tuple.items.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = argument(tuple, i, Kind::kInteger, what).integer;
  return values;
}

View Unpickler::view(const Value& tensor) const {
  constexpr auto kWhat = "tensor";
  const auto& tuple = values_[static_cast<Ref>(tensor.integer)];
  View view{static_cast<size_t>(argument(tuple, 0, Kind::kStorage, kWhat).integer),
            argument(tuple, 1, Kind::kInteger, kWhat).integer,
            integers(argument(tuple, 2, Kind::kTuple, kWhat), "a shape"),
            integers(argument(tuple, 3, Kind::kTuple, kWhat), "strides"), true};
  const auto& storage = storages_[view.storage];
  const auto count = static_cast<int64_t>(storage.count);
  const auto described = [&] {
    return "shape " + shape_text(view.shape) + ", strides " + shape_text(view.strides) + ", offset " +
           std::to_string(view.offset);
  };
  const auto in_storage = "a tensor to lie in the " + std::to_string(count) + " elements of storage " + show(storage.key);
  if (view.shape.size() != view.strides.size()) file_.fail("as many strides as sizes", described());
  if (view.offset < 0 || view.offset > count || !byte_count(view.shape, storage.dtype)) file_.fail(in_storage, described());

  int64_t elements = 1, last = view.offset;
  for (size_t i = view.shape.size(); i-- > 0;) {
    const auto size = view.shape[i];
    auto& stride = view.strides[i];
    int64_t step = 0;
    if (stride < 0 || (size > 1 && (__builtin_mul_overflow(size - 1, stride, &step) ||
                                    __builtin_add_overflow(last, step, &last)))) {
      file_.fail(in_storage, described());
    }
    if (size <= 1) stride = elements;  // never used, and not always sensible
    view.contiguous &= stride == elements;
    // The shape's bytes were counted above; a size of 0 makes everything after it 0.
    elements *= size;
  }
  if (elements == 0) {
    view.contiguous = true;
  } else if (last >= count) {
    file_.fail(in_storage, described());
  } else if (elements > count) {
    // An expanded tensor repeats elements; a few bytes could ask for any amount of memory.
    file_.fail("a tensor of at most the " + std::to_string(count) + " elements of its storage", described());
  }
  return view;
}

Ref Unpickler::next() {
  stack_.clear();
  marks_.clear();
  memo_.clear();
  floor_ = 0;
  const auto integer = [&](int64_t number) {
    Value value{Kind::kInteger};
    value.integer = number;
    push(std::move(value));
  };
  while (true) {
    if (++steps_ > kMaxSteps) file_.fail("a pickle of at most " + std::to_string(kMaxSteps) + " operations", "a longer one");
    const auto where = at_;
    const auto code = static_cast<unsigned char>(*take(1));
    switch (code) {
      case 0x80:  // PROTO
        if (const int version = *take(1); version != 2) {
          file_.fail("pickle protocol 2, as torch.save writes it", std::to_string(version));
        }
        break;
      case '.': {  // STOP
        const auto result = pop();
        if (!stack_.empty() || !marks_.empty()) file_.fail("one value in a pickle", "more");
        return result;
      }
      case '(':  // MARK
        marks_.push_back(floor_ = stack_.size());
        break;
      case 'N': push({Kind::kNone}); break;
      case 0x88: push({Kind::kBool, 1}); break;                                  // NEWTRUE
      case 0x89: push({Kind::kBool, 0}); break;                                  // NEWFALSE
      case 'J': integer(load<int32_t>(take(4))); break;                          // BININT
      case 'K': integer(load<uint8_t>(take(1))); break;                          // BININT1
      case 'M': integer(load<uint16_t>(take(2))); break;                         // BININT2
      case 0x8a: {                                                               // LONG1
        const uint64_t size = load<uint8_t>(take(1));
        const std::string_view bytes(take(size), size);
        if (size > 8) {
          Value value{Kind::kLongInteger};
          value.text = bytes;
          push(std::move(value));
          break;
        }
        int64_t number = size > 0 && (bytes.back() & 0x80) ? -1 : 0;  // two's complement
        std::memcpy(&number, bytes.data(), size);
        integer(number);
        break;
      }
      case 'G': {  // BINFLOAT, the only big-endian number
        Value value{Kind::kFloat};
        value.real = std::bit_cast<double>(__builtin_bswap64(load<uint64_t>(take(8))));
        push(std::move(value));
        break;
      }
      case 'X': {  // BINUNICODE
        const uint64_t size = load<uint32_t>(take(4));
        Value value{Kind::kString};
        value.text = {take(size), size};
        push(std::move(value));
        break;
      }
      case ')': push({Kind::kTuple}); break;  // EMPTY_TUPLE
      case ']': push({Kind::kList}); break;   // EMPTY_LIST
      case '}': push({Kind::kDict}); break;   // EMPTY_DICT
      case 0x85: tuple(1); break;
      case 0x86: tuple(2); break;
      case 0x87: tuple(3); break;
      case 't': {  // TUPLE
        Value value{Kind::kTuple};
        value.items = pop_to_mark();
        push(std::move(value));
        break;
      }
      case 'a': {  // APPEND
        const auto item = pop();
        extend(Kind::kList, {item});
        break;
      }
      case 'e': extend(Kind::kList, pop_to_mark()); break;  // APPENDS
      case 's': {                                           // SETITEM
        const auto value = pop(), key = pop();
        extend(Kind::kDict, {key, value});
        break;
      }
      case 'u': extend(Kind::kDict, pop_to_mark()); break;       // SETITEMS
      case 'q': remember(load<uint8_t>(take(1))); break;         // BINPUT
      case 'r': remember(load<uint32_t>(take(4))); break;        // LONG_BINPUT
      case 'h': recall(load<uint8_t>(take(1))); break;           // BINGET
      case 'j': recall(load<uint32_t>(take(4))); break;          // LONG_BINGET
      case 'c': global(); break;
      case 'Q': persistent(); break;  // BINPERSID
      case 'R': reduce(); break;
      case 'b': build(); break;
      default:
        file_.fail("an operation that state dicts need",
                   show(std::string_view(bytes_.get() + where, 1)) + " at byte " + std::to_string(begin_ + where));
    }
  }
}

// --- state dict -----------------------------------------------------------------------------------------------------

class StateDict {
 public:
  StateDict(const InputFile& file, Unpickler& pickle) : file_(file), pickle_(pickle) {}

  TensorFile read(Ref top) {
    if (pickle_[top].kind != Kind::kDict) file_.fail("a dict of tensors", "something else");
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
      const auto& items = pickle_[top].items;
      for (size_t i = 0; i < items.size(); i += 2) {
        const auto &key = pickle_[items[i]], &value = pickle_[items[i + 1]];
        if (key.kind != Kind::kString || key.text != wrapper || value.kind != Kind::kDict) continue;
        for (size_t j = 1; j < value.items.size(); j += 2) {
          if (pickle_[value.items[j]].kind == Kind::kTensor) return std::pair(std::string(wrapper), items[i + 1]);
        }
      }
    }
    return std::nullopt;
  }

  // The items of a dict, list or tuple with their dotted names. What is in the file can be many times itself: the same
  // list twice in a list, and so on; so visits are counted.
  template <typename Visit>
  void for_each(Ref container, const std::string& prefix, Visit visit) {
    const auto& value = pickle_[container];
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
      const auto& key = pickle_[value.items[i]];
      if (key.kind != Kind::kString && key.kind != Kind::kInteger) {
        file_.fail("keys of dicts to be strings or integers", "something else in " + show(prefix));
      }
      if (key.text.size() > kMaxName) file_.fail("names of at most " + std::to_string(kMaxName) + " bytes", show(key.text));
      visit(name_of(key.kind == Kind::kString ? std::string(key.text) : std::to_string(key.integer)), value.items[i + 1]);
    }
  }

  void collect(Ref ref, const std::string& name, int depth, bool with_tensors) {
    const auto& value = pickle_[ref];
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
      case Kind::kBool: add_metadata(name, value.integer ? "true" : "false"); break;
      case Kind::kInteger: add_metadata(name, std::to_string(value.integer)); break;
      case Kind::kFloat: {
        char text[32];
        const auto end = std::to_chars(text, text + sizeof text, value.real).ptr;  // the shortest that reads back
        add_metadata(name, {text, static_cast<size_t>(end - text)});
        break;
      }
      case Kind::kString: add_metadata(name, value.text); break;
      default: break;
    }
  }

  void add_metadata(const std::string& name, std::string_view value) {
    metadata_size_ += name.size() + value.size();
    if (metadata_size_ > kMaxMetadata) {
      file_.fail("at most " + std::to_string(kMaxMetadata) + " bytes of numbers and strings beside the tensors", "more");
    }
    result_.metadata.insert_or_assign(name, std::string(value));
  }

  // `module.` comes from DataParallel.
  void add_tensor(std::string name, const Value& value) {
    if (name.starts_with("module.")) name.erase(0, 7);
    if (!names_.insert(name).second) file_.fail("every name once", show(name) + " twice");
    result_.tensors.push_back({name, materialise(pickle_.view(value), name)});
  }

  at::Tensor materialise(const View& view, const std::string& name) {
    auto& storage = pickle_.storages()[view.storage];
    if (std::count(view.shape.begin(), view.shape.end(), 0) > 0) return at::empty(view.shape, at::TensorOptions(storage.dtype));
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
  Unpickler& pickle_;
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
  Unpickler pickle(file, data.begin, data.begin + data.size);
  const auto top = pickle.next();
  for (auto& storage : pickle.storages()) {
    const auto entry = entries.find(folder + "data/" + std::string(storage.key));
    if (entry == entries.end()) file.fail("a zip entry for storage " + show(storage.key), "none");
    if (entry->second.size != storage.bytes()) {
      file.fail("storage " + show(storage.key) + " to take " + std::to_string(storage.bytes()) + " bytes",
                std::to_string(entry->second.size));
    }
    storage.begin = entry->second.begin;
  }
  return StateDict(file, pickle).read(top);
}

// Five pickles: magic number, protocol version, system, object, storage keys; then for each key its element count as
// int64 and its elements.
TensorFile read_legacy_file(const InputFile& file) {
  Unpickler pickle(file, 0, file.size());
  constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
  if (const auto& magic = pickle[pickle.next()]; magic.kind != Kind::kLongInteger || magic.text != kMagic) {
    file.fail("a pickle that torch.save wrote", "another magic number");
  }
  if (const auto& version = pickle[pickle.next()]; version.kind != Kind::kInteger || version.integer != 1001) {
    file.fail("torch.save's protocol 1001", "another");
  }
  const auto& system = pickle[pickle.next()];
  for (size_t i = 0; system.kind == Kind::kDict && i < system.items.size(); i += 2) {
    const auto &key = pickle[system.items[i]], &value = pickle[system.items[i + 1]];
    if (key.text == "little_endian" && value.integer != 1) file.fail("little_endian to be true", "false");
  }
  const auto top = pickle.next();
  const auto& keys = pickle[pickle.next()];
  if (keys.kind != Kind::kList) file.fail("a list of storage keys", "something else");

  std::unordered_map<std::string_view, Storage*> by_key;
  for (auto& storage : pickle.storages()) by_key.emplace(storage.key, &storage);
  auto position = pickle.position();
  for (const auto ref : keys.items) {
    const auto entry = by_key.find(pickle[ref].text);
    if (entry == by_key.end()) file.fail("storage keys that tensors name", show(pickle[ref].text));
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
  for (const auto& storage : pickle.storages()) {
    if (storage.begin == 0) file.fail("storage " + show(storage.key) + " among the storage keys", "none");
  }
  if (position != file.size()) {
    file.fail("the file to end after its storages", std::to_string(file.size() - position) + " bytes more");
  }
  return StateDict(file, pickle).read(top);
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
