#include "checkpoint/unpickler.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "checkpoint/dtype.h"

namespace trislot::pickle {
namespace {

constexpr uint64_t kMaxPickle = 64 << 20;  // bytes; a thousand tensors take 200 KB

}  // namespace

Unpickler::Unpickler(const InputFile& file, uint64_t begin, uint64_t end)
    : file_(file),
      begin_(begin),
      limit_(std::min(end - begin, kMaxPickle)),
      cut_(end - begin > kMaxPickle),
      bytes_(new char[limit_]) {}

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
  if (is_new) storages_.push_back({key, dtype, static_cast<uint64_t>(count), 0});
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
            integers(argument(tuple, 3, Kind::kTuple, kWhat), "strides"),
            true,
            0};
  const auto& storage = storages_[view.storage];
  const auto count = static_cast<int64_t>(storage.count);
  const auto described = [&] {
    return "shape " + shape_text(view.shape) + ", strides " + shape_text(view.strides) + ", offset " +
           std::to_string(view.offset);
  };
  const auto in_storage =
      "a tensor to lie in the " + std::to_string(count) + " elements of storage " + show(storage.key);
  if (view.shape.size() != view.strides.size()) file_.fail("as many strides as sizes", described());
  if (view.offset < 0 || view.offset > count || !byte_count(view.shape, storage.dtype))
    file_.fail(in_storage, described());

  int64_t elements = 1, last = view.offset;
  for (size_t i = view.shape.size(); i-- > 0;) {
    const auto size = view.shape[i];
    auto& stride = view.strides[i];
    int64_t step = 0;
    if (stride < 0 ||
        (size > 1 && (__builtin_mul_overflow(size - 1, stride, &step) || __builtin_add_overflow(last, step, &last)))) {
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
  if (elements > 0) view.span = static_cast<uint64_t>(last - view.offset + 1);
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
    if (++steps_ > kMaxSteps)
      file_.fail("a pickle of at most " + std::to_string(kMaxSteps) + " operations", "a longer one");
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
      case 'N':
        push({Kind::kNone});
        break;
      case 0x88:
        push({Kind::kBool, 1});
        break;  // NEWTRUE
      case 0x89:
        push({Kind::kBool, 0});
        break;  // NEWFALSE
      case 'J':
        integer(load<int32_t>(take(4)));
        break;  // BININT
      case 'K':
        integer(load<uint8_t>(take(1)));
        break;  // BININT1
      case 'M':
        integer(load<uint16_t>(take(2)));
        break;      // BININT2
      case 0x8a: {  // LONG1
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
      case ')':
        push({Kind::kTuple});
        break;  // EMPTY_TUPLE
      case ']':
        push({Kind::kList});
        break;  // EMPTY_LIST
      case '}':
        push({Kind::kDict});
        break;  // EMPTY_DICT
      case 0x85:
        tuple(1);
        break;
      case 0x86:
        tuple(2);
        break;
      case 0x87:
        tuple(3);
        break;
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
      case 'e':
        extend(Kind::kList, pop_to_mark());
        break;     // APPENDS
      case 's': {  // SETITEM
        const auto value = pop(), key = pop();
        extend(Kind::kDict, {key, value});
        break;
      }
      case 'u':
        extend(Kind::kDict, pop_to_mark());
        break;  // SETITEMS
      case 'q':
        remember(load<uint8_t>(take(1)));
        break;  // BINPUT
      case 'r':
        remember(load<uint32_t>(take(4)));
        break;  // LONG_BINPUT
      case 'h':
        recall(load<uint8_t>(take(1)));
        break;  // BINGET
      case 'j':
        recall(load<uint32_t>(take(4)));
        break;  // LONG_BINGET
      case 'c':
        global();
        break;
      case 'Q':
        persistent();
        break;  // BINPERSID
      case 'R':
        reduce();
        break;
      case 'b':
        build();
        break;
      default:
        file_.fail("an operation that state dicts need",
                   show(std::string_view(bytes_.get() + where, 1)) + " at byte " + std::to_string(begin_ + where));
    }
  }
}

}  // namespace trislot::pickle
