// The part of Python's pickle machine that state dicts need. It makes values and never calls anything.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/input_file.h"

namespace trislot::pickle {

constexpr int64_t kMaxSteps = 1'000'000;  // of one file's pickles; a tensor takes about 40

// Values live in one arena and name each other by index: cycles leak nothing and depth costs no stack.
using Ref = uint32_t;

enum class Kind : uint8_t {
  kNone,
  kBool,
  kInteger,
  kLongInteger,
  kFloat,
  kString,
  kTuple,
  kList,
  kDict,
  kStorage,
  kTensor,
  // globals
  kOrderedDict,
  kSize,
  kRebuildTensor,
  kRebuildParameter,
  kStorageType,
};

struct Value {
  Kind kind = Kind::kNone;
  int64_t integer = 0;       // kBool, kInteger; index of the storage type or storage; of kTensor its arguments
  double real = 0;           // kFloat
  std::string_view text{};   // kString, kLongInteger: a part of the pickle
  std::vector<Ref> items{};  // kTuple, kList; kDict: key, value, key, value, …
};

struct Storage {
  std::string_view key;
  at::ScalarType dtype;
  uint64_t count;      // elements
  uint64_t begin = 0;  // byte of the file; 0 is not known yet

  uint64_t bytes() const { return count * c10::elementSize(dtype); }
};

// A tensor as the pickle describes it: a part of a storage.
struct View {
  size_t storage;
  int64_t offset;
  std::vector<int64_t> shape, strides;
  bool contiguous;
  uint64_t span = 0;  // elements from its first to its last in the storage
};

// Knows the operations of protocol 2 that torch.save uses and the globals OrderedDict, torch.Size, storage
// and element types, and the two functions that rebuild tensors and parameters. Refuses every other with a
// FileError, as it does pickles of more than 64 MiB or kMaxSteps operations.
class Unpickler {
 public:
  // Pickles lie one after another from `begin`; none reaches beyond `end`.
  Unpickler(const InputFile& file, uint64_t begin, uint64_t end);

  // Reads one pickle and gives its value.
  Ref next();

  uint64_t position() const { return begin_ + at_; }
  const Value& operator[](Ref ref) const { return values_[ref]; }
  std::vector<Storage>& storages() { return storages_; }
  const std::vector<Storage>& storages() const { return storages_; }

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

}  // namespace trislot::pickle
