// Checkpoint files: what is written is read back, and whatever is not exactly right is refused by its own
// message.
//
//   checkpoint_test                     all of that, in a temporary folder
//   checkpoint_test formula FILE...     .pt files against the golden weights, which a formula gives
//   checkpoint_test convert FROM TO     any file to safetensors, to compare with other implementations
//   checkpoint_test fuzz COUNT FILE...  COUNT damaged copies of each file; only FileError may come out
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <sstream>

#include "checkpoint/crc32.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/state.h"
#include "checkpoint/torch_file.h"

namespace {

using namespace trislot;
namespace fs = std::filesystem;

int failures = 0;

void check(bool passed, const std::string& fact) {
  if (!passed) std::cout << "FAILED: " << fact << "\n", ++failures;
}

std::string message_of(const std::function<void()>& run) {
  try {
    run();
    return "(nothing thrown)";
  } catch (const FileError& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("(not a FileError) ") + e.what();
  }
}

fs::path folder;

std::string in_folder(const std::string& name) { return (folder / name).string(); }

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

TensorFile read_any(const std::string& path) {
  return path.ends_with(".safetensors") ? read_safetensors(path) : read_torch_file(path);
}

// The message, without the call and the path, of reading these bytes.
std::string refusal(const std::string& bytes, const std::string& name) {
  const auto path = in_folder(name);
  write_bytes(path, bytes);
  const auto message = message_of([&] { read_any(path); });
  const std::string call =
      (name.ends_with(".pt") ? "readTorchFile(\"" : "readSafetensors(\"") + path + "\"): expected ";
  if (!message.starts_with(call)) return message;
  return message.substr(call.size());
}

void check_refusal(const std::string& bytes, const std::string& name, const std::string& expected) {
  const auto got = refusal(bytes, name);
  check(got == expected, "\n  expected: " + expected + "\n  got:      " + got);
}

// --- safetensors ---

std::string safetensors(const std::string& header, size_t data) {
  return raw<uint64_t>(header.size()) + header + std::string(data, '\1');
}

void refused(const std::string& header, size_t data, const std::string& expected) {
  check_refusal(safetensors(header, data), "hostile.safetensors", expected);
}

std::vector<NamedTensor> all_dtypes() {
  const auto values = at::arange(24, at::kDouble).sub(11.5).div(3);
  std::vector<NamedTensor> tensors;
  for (const auto dtype :
       {at::kBool, at::kDouble, at::kHalf, at::kByte, at::kFloat, at::kLong, at::kBFloat16, at::kInt}) {
    const auto named = std::string(c10::toString(dtype));
    const auto source = dtype == at::kByte ? values.add(12) : values;
    tensors.push_back({named, source.to(dtype).view({2, 3, 4})});
    tensors.push_back({named + ".scalar", source[17].to(dtype)});
    tensors.push_back({named + ".empty", at::empty({0, 3}, dtype)});
  }
  tensors.push_back({"transposed \"ж\n\\", at::arange(6, at::kFloat).view({2, 3}).t()});
  return tensors;
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.is_contiguous() && at::equal(a, b);
}

void test_round_trip() {
  const auto path = in_folder("all.safetensors");
  const auto tensors = all_dtypes();
  const std::map<std::string, std::string> metadata = {{"format", "trislot"}, {"odd \"\\\x01", "день \n\t\x1f"}};
  write_safetensors(path, tensors, metadata);
  const auto bytes = read_bytes(path);
  const auto file = read_safetensors(path);
  check(file.metadata == metadata, "metadata comes back");
  check(file.tensors.size() == tensors.size(), "as many tensors come back");
  for (size_t i = 0; i < file.tensors.size(); ++i) {
    check(file.tensors[i].name == tensors[i].name, "names keep their order");
    check(same(file.tensors[i].tensor, tensors[i].tensor.contiguous()), tensors[i].name + " comes back");
  }
  const auto header = inspect_safetensors(path);
  check(header.data_begin % 8 == 0, "data is aligned");
  check(header.tensors[3].dtype == at::kDouble && header.tensors[3].shape == std::vector<int64_t>{2, 3, 4} &&
            header.tensors.size() == tensors.size() && header.metadata == metadata,
        "the header can be read alone");
  write_safetensors(path, tensors, metadata);
  check(read_bytes(path) == bytes, "the same tensors give the same bytes");
  write_safetensors(path, {}, {});
  check(read_bytes(path) == raw<uint64_t>(8) + "{}      ", "no tensors are a file too");
  check(read_safetensors(path).tensors.empty(), "which reads as none");
}

void test_escapes() {
  const auto path = in_folder("escapes.safetensors");
  write_bytes(path, safetensors(R"( {"__metadata__" : {"\u0436\ud83d\ude00\/\b" :"\u00e9"} } )", 0)
                        .replace(8, 1, "{")
                        .replace(9, 1, " "));
  check(read_safetensors(path).metadata == std::map<std::string, std::string>{{"ж😀/\b", "é"}}, "escapes are read");
}

void test_failed_writes() {
  const auto path = in_folder("kept.safetensors");
  write_safetensors(path, {{"old", at::ones({2})}}, {});
  const auto old = read_bytes(path);
  const auto message = [&](const std::string& where, const std::vector<NamedTensor>& tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
    auto text = message_of([&] { write_safetensors(where, tensors, metadata); });
    const auto partial = text.find(".partial");  // its number changes
    return partial == std::string::npos ? text : text.substr(0, text.rfind('.', partial - 1)) + text.substr(partial);
  };
  const auto call = "writeSafetensors(\"" + path + "\"): expected ";
  check(message(path, {{"a", at::ones(1)}, {"a", at::ones(1)}}) == call + "every name once, got \"a\"",
        "names are unique");
  check(message(path, {{"__metadata__", at::ones(1)}}) ==
            call + "a name that the format leaves free, got \"__metadata__\"",
        "__metadata__ is reserved");
  check(message(path, {{"a\xff", at::ones(1)}}) == call + "names to be UTF-8, got \"a\\xff\"", "names are UTF-8");
  check(message(path, {{"a", at::Tensor()}}) == call + "\"a\" to be a tensor, got an undefined one",
        "tensors are defined");
  check(message(path, {{"a", at::ones(1, at::kShort)}}) ==
            call + "\"a\" to be float64, float32, float16, bfloat16, int64, int32, uint8 or bool, got Short",
        "other types are refused");
  check(message(in_folder("none/x.safetensors"), {}) ==
            "writeSafetensors(\"" + in_folder("none/x.safetensors") + "\"): expected to create \"" +
                in_folder("none/x.safetensors") + ".partial\", got No such file or directory",
        "a missing folder is named: " + message(in_folder("none/x.safetensors"), {}));
  fs::create_directory(folder / "directory.safetensors");
  check(message(in_folder("directory.safetensors"), {}).ends_with(".partial\", got Is a directory"),
        "a folder is kept");

  // A full disk, near enough: no file may grow beyond 4096 bytes.
  rlimit limit{}, old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  limit = {4096, old_limit.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  const auto full = message(path, {{"big", at::ones(4096)}});
  setrlimit(RLIMIT_FSIZE, &old_limit);
  check(full.starts_with(call + "to write ") && full.ends_with(" bytes more, got File too large"),
        "a failed write tells: " + full);
  check(read_bytes(path) == old, "a failed write keeps the old file");
  for (const auto& entry : fs::directory_iterator(folder)) {
    check(entry.path().extension() != ".partial", "a failed write leaves nothing: " + entry.path().string());
  }
}

void test_hostile_safetensors() {
  const std::string name = "hostile.safetensors";
  check_refusal("", name, "a file of at least 8 bytes, got 0");
  check_refusal("1234567", name, "a file of at least 8 bytes, got 7");
  check_refusal(raw<uint64_t>(3) + "{}", name, "the header to end in the file, got 3 bytes of header in a file of 10");
  check_refusal(raw<uint64_t>(~0ull) + "{}", name,
                "a header of at most 100000000 bytes (is this a safetensors file?), got 18446744073709551615");
  refused("", 0, "the header to start with '{', got an empty header");
  refused("[]", 0, "the header to start with '{', got \"[\"");
  refused(" {}", 0, "the header to start with '{', got \" \"");
  refused("{", 0, "'\"' in the header, got the end of the header");
  refused("{]", 0, "'\"' in the header, got \"]\" at byte 9");
  refused("{\"a", 0, "'\"' at the end of a string, got the end of the header");
  refused("{\"a\" 1", 0, "':' in the header, got \"1\" at byte 13");
  refused("{\"a\":" + std::string(100000, '['), 0, "'{' in the header, got \"[\" at byte 13");
  refused("{\"a\":{\"shape\":[[[[", 0, "shape of \"a\" to hold whole numbers from 0, got \"[\" at byte 23");
  refused("{\"a\\x\":1}", 0, "an escape that JSON has, got \"x\" at byte 12");
  refused("{\"\\ud800\":1}", 0, "surrogates to be escaped in pairs, got half of one");
  refused("{\"\\ud800\\u0041\":1}", 0, "surrogates to be escaped in pairs, got half of one");
  refused("{\"\\u00g0\":1}", 0, "four hexadecimal digits after \\u, got \"g\" at byte 14");
  refused("{\"\n\":1}", 0, "no control character in a string, got \"\\x0a\" at byte 10");
  for (const std::string bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    const auto got = refusal(safetensors("{\"" + bad + "\":1}", 0), name);
    check(got.starts_with("the header to be UTF-8, got \"\\x") && got.ends_with("\" at byte 10"),
          "UTF-8 is checked: " + got);
  }
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  refused("{" + a + "," + a + "}", 8, "every name once, got \"a\" twice");
  refused("{" + a + "}x", 8, "the header to end after its object, got \"x\" at byte 62");
  refused("{" + a + ",}", 8, "'\"' in the header, got \"}\" at byte 62");
  refused(R"({"__metadata__":{"k":1}})", 0, "metadata \"k\" to be a string, got \"1\" at byte 29");
  refused(R"({"__metadata__":{"k":"1","k":"1"}})", 0, "every metadata key once, got \"k\" twice");
  refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "every name once, got \"__metadata__\" twice");
  const auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  refused(entry("Q4", "[2]", "[0,8]"), 8, "dtype of \"a\" to be F64, F32, F16, BF16, I64, I32, U8 or BOOL, got \"Q4\"");
  refused(entry("F32", "[-2]", "[0,8]"), 8, "shape of \"a\" to hold whole numbers from 0, got \"-\" at byte 37");
  refused(entry("F32", "[02]", "[0,8]"), 8, "shape of \"a\" to hold whole numbers from 0, got \"0\" at byte 37");
  refused(entry("F32", "[2.0]", "[0,8]"), 8, "']' in the header, got \".\" at byte 38");
  refused(entry("F32", "[9223372036854775808]", "[0,8]"), 8,
          "shape of \"a\" to hold numbers below 2^63, got \"9223372036854775808],\\\"da\"");
  refused(entry("F32", "[4294967296,4294967296]", "[0,8]"), 8,
          "the shape of \"a\" to be possible, got [4294967296, 4294967296]");
  refused(entry("F32", "[0,4611686018427387904,4]", "[0,0]"), 0,
          "the shape of \"a\" to be possible, got [0, 4611686018427387904, 4]");
  refused(entry("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4,
          "shape of \"a\" to have at most 16 items, got more");
  refused(entry("F32", "[2]", "[0]"), 8, "data_offsets of \"a\" to be [begin, end], got [0]");
  refused(entry("F32", "[2]", "[8,0]"), 8, "data_offsets of \"a\" to be in order, got [8, 0]");
  refused(entry("F32", "[2]", "[0,12]"), 8, "data_offsets of \"a\" to lie in the 8 bytes of data, got [0, 12]");
  refused(entry("F32", "[3]", "[0,8]"), 8, "\"a\" to take 12 bytes (F32 [3]), got 8");
  refused(entry("F32", "[2]", "[0,8]"), 11, "the file to end after the 8 bytes of its tensors, got 3 bytes more");
  refused(entry("F32", "[1]", "[4,8]"), 8, "\"a\" to begin at byte 0 of the data, got 4, a hole");
  refused(entry("BOOL", "[2]", "[0,2]").append("  "), 2, "(nothing thrown)");
  check_refusal(safetensors(entry("BOOL", "[2]", "[0,2]"), 0) + "\x01\x07", name,
                "booleans of \"a\" to be 0 or 1, got 7");
  refused("{" + a + R"(,"b":{"dtype":"U8","shape":[5],"data_offsets":[4,9]}})", 9,
          "\"b\" to begin at byte 8 of the data, got 4, an overlap");
  refused(R"({"a":{"dtype":"F32","dtype":"F32"}})", 0, "every key of \"a\" once, got \"dtype\" twice");
  refused(R"({"a":{"dtype":"F32","extra":1}})", 0, "keys of \"a\" to be dtype, shape and data_offsets, got \"extra\"");
  refused(R"({"a":{"dtype":"F32","shape":[1]}})", 4,
          "\"a\" to have dtype, shape and data_offsets, got no data_offsets");

  const auto message = [](const std::string& path) { return message_of([&] { read_safetensors(path); }); };
  check(message(in_folder("none")) ==
            "readSafetensors(\"" + in_folder("none") + "\"): expected a readable file, got No such file or directory",
        "a missing file is named");
  check(message(folder.string()).ends_with("expected a readable file, got a directory"), "a folder is no file");
  mkfifo(in_folder("pipe").c_str(), 0600);
  check(message(in_folder("pipe")).ends_with("expected a readable file, got a device or pipe"),
        "a pipe does not block");
}

// --- torch ---

std::string text(const std::string& value) { return "X" + raw<uint32_t>(value.size()) + value; }
std::string number(int32_t value) { return "J" + raw(value); }
std::string tuple(const std::vector<int32_t>& values) {
  std::string items;
  for (const auto value : values) items += number(value);
  return "(" + items + "t";
}

struct ViewSpec {
  std::string key = "0", type = "FloatStorage";
  int32_t count = 6, offset = 0;
  std::vector<int32_t> shape = {2, 3}, strides = {3, 1};
};

std::string storage(const ViewSpec& view) {
  return "(" + text("storage") + "ctorch\n" + view.type + "\n" + text(view.key) + text("cpu") + number(view.count) +
         "tQ";
}

std::string tensor(const ViewSpec& view) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage(view) + number(view.offset) + tuple(view.shape) +
         tuple(view.strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

std::string parameter(const ViewSpec& view) {
  return "ctorch._utils\n_rebuild_parameter\n(" + tensor(view) + "\x88" + "ccollections\nOrderedDict\n)RtR";
}

std::string pickle(const std::string& value) { return "\x80\x02" + value + "."; }

// OrderedDict([(name, tensor), …]) with `_metadata`, as state_dict() gives it
std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string body;
  for (const auto& [name, value] : items) body += text(name) + value;
  return "ccollections\nOrderedDict\n)R(" + body + "u}" + text("_metadata") + "}sb";
}

struct Entry {
  std::string name, data;
  uint16_t method = 0, flags = 0;
  int32_t packed_off = 0, size_off = 0, position_off = 0;
};

std::string zip(const std::vector<Entry>& entries, bool zip64 = true) {
  std::string bytes, directory;
  for (const auto& e : entries) {
    const auto position = static_cast<uint32_t>(bytes.size()), size = static_cast<uint32_t>(e.data.size());
    bytes += raw(0x04034b50u) + std::string(22, '\0') + raw<uint16_t>(e.name.size()) + raw<uint16_t>(5) + e.name +
             std::string("FB\1\0Z", 5) + e.data;
    const std::string sizes = raw<uint64_t>(size + e.size_off) + raw<uint64_t>(size + e.packed_off);
    const std::string extra = zip64 ? raw<uint16_t>(1) + raw<uint16_t>(16) + sizes : "";
    directory += raw(0x02014b50u) + raw(0u) + raw(e.flags) + raw(e.method) + raw(0u) + raw(0u) +
                 (zip64 ? raw(~0u) + raw(~0u) : raw(size + e.packed_off) + raw(size + e.size_off)) +
                 raw<uint16_t>(e.name.size()) + raw<uint16_t>(extra.size()) + std::string(10, '\0') +
                 raw(position + e.position_off) + e.name + extra;
  }
  const uint64_t begin = bytes.size(), count = entries.size();
  bytes += directory;
  if (zip64) {
    const uint64_t end = bytes.size();
    bytes += raw(0x06064b50u) + raw<uint64_t>(44) + std::string(12, '\0') + raw(count) + raw(count) +
             raw<uint64_t>(directory.size()) + raw(begin) + raw(0x07064b50u) + raw(0u) + raw(end) + raw(1u);
  }
  return bytes + raw(0x06054b50u) + raw(0u) + raw<uint16_t>(count) + raw<uint16_t>(count) +
         raw<uint32_t>(directory.size()) + raw<uint32_t>(begin) + raw<uint16_t>(0);
}

const std::string kSix = raw(0.f) + raw(1.f) + raw(2.f) + raw(3.f) + raw(4.f) + raw(5.f);

std::string archive(const std::string& value, const std::vector<Entry>& more = {{"top/data/0", kSix}}) {
  std::vector<Entry> entries = {{"top/data.pkl", pickle(value)}, {"top/byteorder", "little"}};
  entries.insert(entries.end(), more.begin(), more.end());
  return zip(entries);
}

std::string legacy(const std::string& value, const std::string& keys, const std::string& data) {
  return pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") + pickle("M\xe9\x03") +
         pickle("}" + text("little_endian") + "\x88s") + pickle(value) + pickle("](" + keys + "e") + data;
}

TensorFile read_bytes_as_torch(const std::string& bytes) {
  write_bytes(in_folder("good.pt"), bytes);
  return read_torch_file(in_folder("good.pt"));
}

void test_torch_files() {
  const auto six = at::arange(6, at::kFloat);
  auto file = read_bytes_as_torch(archive(dict({{"a", parameter({})}})));
  check(file.tensors.size() == 1 && file.tensors[0].name == "a" && same(file.tensors[0].tensor, six.view({2, 3})),
        "a parameter is read");
  check(file.metadata.empty(), "_metadata is not metadata");
  file = read_bytes_as_torch(zip({{"top/data.pkl", pickle(dict({{"a", tensor({})}}))}, {"top/data/0", kSix}}, false));
  check(same(file.tensors[0].tensor, six.view({2, 3})), "an archive without zip64 is read");
  file = read_bytes_as_torch(legacy(dict({{"a", tensor({})}}), text("0"), raw<int64_t>(6) + kSix));
  check(same(file.tensors[0].tensor, six.view({2, 3})), "the older form is read");

  ViewSpec tail, transposed, empty, scalar;
  tail.offset = 2, tail.shape = {4}, tail.strides = {1};
  transposed.shape = {3, 2}, transposed.strides = {1, 3};
  empty.shape = {0, 3};
  scalar.offset = 5, scalar.shape = {}, scalar.strides = {};
  file = read_bytes_as_torch(archive(dict({{"module.tail", tensor(tail)},
                                           {"transposed", tensor(transposed)},
                                           {"empty", tensor(empty)},
                                           {"scalar", tensor(scalar)}})));
  check(file.tensors[0].name == "tail", "module. is dropped");
  check(same(file.tensors[0].tensor, six.slice(0, 2)), "an offset is honoured");
  check(same(file.tensors[1].tensor, six.view({2, 3}).t().contiguous()), "strides are honoured");
  check(same(file.tensors[2].tensor, at::empty({0, 3})), "no elements are a tensor too");
  check(same(file.tensors[3].tensor, six[5]), "a scalar is read");

  ViewSpec half{"0", "HalfStorage"}, brain{"1", "BFloat16Storage"};
  const auto halves = at::arange(6, at::kHalf), brains = at::arange(6, at::kBFloat16);
  const auto bytes_of = [](const at::Tensor& t) {
    return std::string(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
  };
  file = read_bytes_as_torch(archive(dict({{"h", tensor(half)}, {"b", tensor(brain)}}),
                                     {{"top/data/0", bytes_of(halves)}, {"top/data/1", bytes_of(brains)}}));
  check(same(file.tensors[0].tensor, halves.view({2, 3})), "half stays half");
  check(same(file.tensors[1].tensor, brains.view({2, 3})), "bfloat16 stays bfloat16");

  const auto nested = "}(" + text("step") + number(-7) + text("lr") + "G" +
                      std::string("\x3f\xb9\x99\x99\x99\x99\x99\x9a") + text("name") + text("tiny") + text("ema") +
                      dict({{"a", tensor({})}}) + text("model") + dict({{"b", tensor({})}, {"count", number(3)}}) +
                      text("on") + "\x88" + text("no") + "Nu";
  file = read_bytes_as_torch(archive(nested));
  check(file.tensors.size() == 1 && file.tensors[0].name == "a", "of several dicts the average is read");
  check(file.metadata.at("root") == "ema" && file.metadata.at("unread") == "model", "which is told");
  file = read_torch_file(in_folder("good.pt"), "model");
  check(file.tensors.size() == 1 && file.tensors[0].name == "b", "another dict can be named");
  check(file.metadata == std::map<std::string, std::string>{{"step", "-7"},
                                                            {"lr", "0.1"},
                                                            {"name", "tiny"},
                                                            {"on", "true"},
                                                            {"count", "3"},
                                                            {"root", "model"},
                                                            {"unread", "ema"}},
        "what lies beside the tensors is metadata");
  file = read_bytes_as_torch(archive("}" + text("state") + "}K\x01}" + text("exp_avg") + tensor({}) + "sss" +
                                     text("groups") + "](}" + text("lr") + "K\x02ses"));
  check(file.tensors[0].name == "state.1.exp_avg" && file.metadata.at("groups.0.lr") == "2",
        "other nesting becomes dotted names");
  file = read_bytes_as_torch(archive("}" + text("state_dict") + "}(" + text("model") + "}" + text("module.a") +
                                     tensor({}) + "s" + text("opt.1") + "}" + text("b") + tensor({}) + "sus"));
  check(file.tensors[0].name == "a" && file.metadata.at("root") == "state_dict.model" &&
            file.metadata.at("unread") == "state_dict.opt.1",
        "wrappers inside of one another are taken off");
  check(read_torch_file(in_folder("good.pt"), "state_dict.opt.1").tensors[0].name == "b", "keys may hold dots");
  check(message_of([] { read_torch_file(in_folder("good.pt"), "opt"); }) ==
            "readTorchFile(\"" + in_folder("good.pt") +
                "\"): expected part to name a dict of the file (state_dict), got \"opt\"",
        "a part that is not there is refused");
}

void test_written_torch_files() {
  const auto path = in_folder("written.pt");
  const auto tensors = all_dtypes();
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  const auto source = [&](size_t i) { return tensors[i].tensor; };
  write_torch_file(path, entries, source);
  const auto bytes = read_bytes(path);
  const auto file = read_torch_file(path);
  check(file.tensors.size() == tensors.size() && file.metadata.empty(), "as many tensors come back");
  for (size_t i = 0; i < file.tensors.size(); ++i) {
    check(file.tensors[i].name == tensors[i].name, "names keep their order");
    check(same(file.tensors[i].tensor, tensors[i].tensor.contiguous()), tensors[i].name + " comes back");
  }
  write_torch_file(path, entries, source);
  check(read_bytes(path) == bytes, "the same tensors give the same bytes");
  check(message_of([&] {
          write_torch_file(path, {entries[0], entries[0]}, source);
        }) == "writeTorchFile(\"" + path + "\"): expected every name once, got \"Bool\"",
        "names are unique");
  check(read_bytes(path) == bytes, "a failed write keeps the old file");

  convert_file(path, in_folder("converted.safetensors"), "");
  convert_file(in_folder("converted.safetensors"), in_folder("again.pt"), "");
  check(read_bytes(in_folder("again.pt")) == bytes, "a file converted there and back is the same");
}

// Checksums: of the first 1 MiB and of what follows, which is read in parts.
void test_checksums() {
  check(crc32(0, "123456789", 9) == 0xcbf43926, "the check value of the polynomial");
  check(crc32(crc32(0, "1234", 4), "56789", 5) == 0xcbf43926, "parts follow one another");
  const auto path = in_folder("sums.pt");
  write_torch_file(path, {{"a", at::kByte, {3 << 20}}}, [](size_t) { return at::zeros({3 << 20}, at::kByte); });
  const auto bytes = read_bytes(path);
  auto damaged = bytes;
  damaged[5 << 19] ^= 4;
  const auto expected = "zip entry \"archive/data/0\" to have its checksum, got damaged data";
  check_refusal(damaged, "hostile.pt", expected);
  check(open_torch_file(in_folder("hostile.pt"))->tensors.size() == 1, "what is in a file is told without its data");
  damaged = bytes;
  damaged[damaged.find("_rebuild")] = 'x';
  check_refusal(damaged, "hostile.pt", "zip entry \"archive/data.pkl\" to have its checksum, got damaged data");

  const auto weight = at::full({3 << 20}, 7, at::kByte);
  check(message_of([&] {
          load_weights({{"a", weight}}, in_folder("hostile.pt"), {});
        }).ends_with("damaged data") &&
            at::equal(weight, at::full({3 << 20}, 7, at::kByte)),
        "nothing is copied from a damaged file");
}

void test_partial_loads() {
  const auto path = in_folder("partial.safetensors");
  write_safetensors(path, {{"a", at::ones({2})}, {"out", at::arange(6, at::kFloat).view({3, 2})}, {"x", at::ones(1)}},
                    {});
  const auto a = at::zeros({3}), b = at::zeros({1}), out = at::full({4, 2}, -1.f);
  const std::vector<NamedTensor> model = {{"a", a}, {"b", b}, {"out", out}};
  const auto [report, metadata] = load_weights(model, path, {"", true, {{"out", {2, -1, 0, 0}}}});
  check(report.loaded == std::vector<std::string>{"out"} && report.missing == std::vector<std::string>{"b"} &&
            report.unexpected == std::vector<std::string>{"x"} &&
            report.misshapen == std::vector<std::string>{"a: file [2], model [3]"},
        "what was loaded, what stays and what is not used is told");
  check(at::equal(out, at::tensor({4.f, 5.f, -1.f, -1.f, 0.f, 1.f, 0.f, 1.f}).view({4, 2})), "rows find their place");
  check(message_of([&] {
          load_weights({{"a", a}}, path, {"", true, {}});
        }) == "loadWeights(\"" + path +
                  "\"): expected the names and shapes of the model, got 2 unexpected (out, x), "
                  "1 misshapen (a: file [2], model [3])",
        "a file of which nothing fits is refused");
  for (const std::vector<int64_t>& rows : {std::vector<int64_t>{0, 1, 2, 3}, {0, 1, 2}, {0, 1, 2, -2}}) {
    const auto message = message_of([&] { load_weights({{"out", out}}, path, {"", true, {{"out", rows}}}); });
    check(message.ends_with("1 misshapen (out: file [3, 2], model [4, 2])"), "rows are checked: " + message);
  }
}

void test_hostile_torch() {
  const auto refused_value = [](const std::string& value, const std::string& expected) {
    check_refusal(archive(value), "hostile.pt", expected);
  };
  const auto refused_view = [&](const std::function<void(ViewSpec&)>& change, const std::string& expected) {
    ViewSpec view;
    change(view);
    refused_value(dict({{"a", tensor(view)}}), expected);
  };
  const auto good = dict({{"a", tensor({})}});

  refused_value("}" + text("a") + "cposix\nsystem\n(" + text("true") + "tRs",
                "only tensors and plain values (a file can name code to run; none was run), got the global "
                "\"posix.system\"");
  refused_value("ctorch\nCharStorage\n",
                "only tensors and plain values (a file can name code to run; none was run), got the global "
                "\"torch.CharStorage\"");
  refused_value("c" + std::string(300, 'x') + "\nf\n", "names of globals to be short, got one of more than 256 bytes");
  refused_value("i", "an operation that state dicts need, got \"i\" at byte 49");
  refused_value("}\x93", "an operation that state dicts need, got \"\\x93\" at byte 50");
  refused_value("\x80\x04}", "pickle protocol 2, as torch.save writes it, got 4");
  refused_value("s", "a valid pickle, got an operation without its operand");
  refused_value("}(a", "a valid pickle, got an operation without its operand");
  refused_value("u", "a valid pickle, got an operation without its mark");
  refused_value("h\x05", "a valid pickle, got memo 5 before it is set");
  refused_value("}(K\x01u", "a valid pickle, got items for something that is not a list or dict");
  refused_value(
      "}K\x01"
      "a",
      "a valid pickle, got items for something that is not a list or dict");
  refused_value("}}", "one value in a pickle, got more");
  refused_value("]", "a dict of tensors, got something else");
  refused_value("}", "a dict of tensors, got one without any");
  refused_value("})R", "a call of a known function, got another");
  refused_value("ccollections\nOrderedDict\n}R", "a valid pickle, got a call without arguments");
  refused_value("ccollections\nOrderedDict\n(K\x01tR", "an OrderedDict to be made empty, got one made of arguments");
  refused_value("]}b", "attributes of a dict only, got attributes of something else");
  refused_value("ctorch._utils\n_rebuild_tensor_v2\n)R", "a valid tensor, got other arguments");
  refused_value("(" + text("other") + "tQ", "a storage, got another persistent id");
  refused_value("(" + text("storage") + "tQ", "a valid storage, got other arguments");
  refused_value("}" + text("a") + "}" + tensor({}) + "K\x01ss",
                "keys of dicts to be strings or integers, got something else in \"a\"");
  refused_value("}(" + text("a") + tensor({}) + text("a") + tensor({}) + "u", "every name once, got \"a\" twice");
  refused_value("}(" + text("a") + tensor({}) + text("module.a") + tensor({}) + "u",
                "every name once, got \"a\" twice");
  refused_value("}" + text(std::string(2000, 'n')) + tensor({}) + "s",
                "names of at most 1024 bytes, got \"" + std::string(80, 'n') + "…\"");

  // Lists that hold the list before twenty times: 20^7 values in 400 bytes.
  std::string lists("]q\0", 3);
  for (char i = 0; i < 7; ++i) {
    lists += "](";
    for (int k = 0; k < 20; ++k) lists += std::string("h") + i;
    lists += std::string("eq") + static_cast<char>(i + 1);
  }
  refused_value("}" + text("x") + "(" + lists + "ts", "at most 1000000 values, got more");
  refused_value(std::string("}q\0", 3) + text("a") + std::string("h\0s", 3),
                "at most 8 dicts in one another, got more");
  refused_value(std::string(1'000'000, '('), "a pickle of at most 1000000 operations, got a longer one");
  refused_value("}(" + text("a") + std::string(400'000, '\x85').insert(0, "K\x01") + "u",
                "at most 8 dicts in one another, got more");
  std::string strings = "}(" + text("0") + text(std::string(100'000, 's')) + "q" + std::string(1, '\0');
  for (int i = 1; i < 100; ++i) strings += text(std::to_string(i)) + "h" + std::string(1, '\0');
  refused_value(strings + "u", "at most 4194304 bytes of numbers and strings beside the tensors, got more");

  // Sizes, offsets and strides that lie.
  const std::string in_six = "a tensor to lie in the 6 elements of storage \"0\", got ";
  refused_view([](auto& v) { v.shape = {2, 4}; }, in_six + "shape [2, 4], strides [3, 1], offset 0");
  refused_view([](auto& v) { v.offset = 1; }, in_six + "shape [2, 3], strides [3, 1], offset 1");
  refused_view([](auto& v) { v.offset = -1; }, in_six + "shape [2, 3], strides [3, 1], offset -1");
  refused_view([](auto& v) { v.strides = {-3, 1}; }, in_six + "shape [2, 3], strides [-3, 1], offset 0");
  refused_view([](auto& v) { v.shape = {-2, 3}; }, in_six + "shape [-2, 3], strides [3, 1], offset 0");
  refused_view(
      [](auto& v) {
        v.shape = {2147483647, 2147483647, 2147483647}, v.strides = {0, 0, 0};
      },
      in_six + "shape [2147483647, 2147483647, 2147483647], strides [0, 0, 0], offset 0");
  refused_view(
      [](auto& v) {
        v.shape = {1000, 1000}, v.strides = {0, 0};
      },
      "a tensor of at most the 6 elements of its storage, got shape [1000, 1000], strides [0, 0], offset 0");
  refused_view([](auto& v) { v.strides = {1}; }, "as many strides as sizes, got shape [2, 3], strides [1], offset 0");
  refused_view([](auto& v) { v.shape.assign(17, 1); }, "a shape of at most 16 dimensions, got 17");
  refused_view([](auto& v) { v.count = 2147483647; },
               "storage \"0\" to lie in the file of 704 bytes, got 2147483647 elements of 4 bytes");
  refused_view([](auto& v) { v.count = -1; },
               "storage \"0\" to lie in the file of 704 bytes, got -1 elements of 4 bytes");
  refused_view([](auto& v) { v.count = 7; }, "storage \"0\" to take 28 bytes, got 24");
  refused_view([](auto& v) { v.key = "9"; }, "a zip entry for storage \"9\", got none");
  ViewSpec half{"0", "HalfStorage"};
  refused_value(dict({{"a", tensor({})}, {"b", tensor(half)}}), "storage \"0\" to have one type and size, got two");
  ViewSpec turned;
  turned.shape = {3, 2}, turned.strides = {1, 3};
  std::string copies = tensor(turned) + std::string("q\0", 2);
  for (int i = 0; i < 2000; ++i) copies += std::string("h\0", 2);
  refused_value("}" + text("m") + "(" + copies + "ts", "tensors to take at most 4 times the file, got more");

  // Zip.
  const auto refused_zip = [&](const Entry& entry, const std::string& expected) {
    check_refusal(archive(good, {entry}), "hostile.pt", expected);
  };
  refused_zip({"top/data/0", kSix, 8},
              "zip entry \"top/data/0\" to be stored, as torch.save writes it, got a compressed one (method 8)");
  refused_zip({"top/data/0", kSix, 0, 1}, "zip entry \"top/data/0\" to be readable, got an encrypted one");
  refused_zip({"top/data/0", kSix, 0, 0, 4}, "stored zip entry \"top/data/0\" to have one size, got 28 and 24");
  refused_zip({"top/data/0", kSix, 0, 0, 1000, 1000},
              "zip entry \"top/data/0\" to lie before the directory, got 1024 bytes at byte 349");
  refused_zip({"top/data/0", kSix, 0, 0, -4, -4}, "storage \"0\" to take 24 bytes, got 20");
  refused_zip({"top/data/0", kSix, 0, 0, 0, 0, 9},
              "a local header of zip entry \"top/data/0\" at byte 313, got other bytes");
  refused_zip({"top/data/0", kSix, 0, 0, 0, 0, 9999},
              "zip entry \"top/data/0\" to lie before the directory, got byte 10303");
  check_refusal(archive(good, {{"top/data/0", kSix}, {"top/data/0", kSix}}), "hostile.pt",
                "every zip entry once, got \"top/data/0\" twice");
  check_refusal(archive(good, {{"top/data/0", kSix}, {"two/data.pkl", ""}}), "hostile.pt", "one data.pkl, got several");
  check_refusal(zip({{"top/other", ""}}), "hostile.pt",
                "a zip archive that torch.save wrote, got one without <name>/data.pkl");
  check_refusal(zip({{"top/data.pkl", ""}, {"top/byteorder", "big"}}), "hostile.pt",
                "byteorder to be little, got \"big\"");
  for (const std::string name : {"../data.pkl", "/top/data.pkl", "top/../data.pkl", "top\\data.pkl", "c:/data.pkl"}) {
    const auto got = refusal(zip({{name, pickle(good)}}), "hostile.pt");
    check(got.starts_with("names of zip entries to stay inside of the archive, got \""), "paths are refused: " + got);
  }
  check_refusal(zip({{"top/data.pkl", "\x80\x02}"}}), "hostile.pt", "a whole pickle, got its end at byte 50");
  const auto whole = archive(good);
  check_refusal(whole.substr(0, whole.size() - 1), "hostile.pt",
                "a whole zip archive, got one without an end record; the file may have been cut short");
  // An entry whose data holds the local header of the next.
  const auto local = raw(0x04034b50u) + std::string(22, '\0') + raw<uint16_t>(5) + raw<uint16_t>(0) + "top/x";
  auto inside = zip({{"top/data.pkl", pickle(good)}, {"top/data/0", kSix + local}, {"top/x", ""}}, false);
  const auto within = inside.find("PK\3\4", inside.find("top/data/0"));
  inside.replace(inside.rfind("top/x") - 4, 4, raw(static_cast<uint32_t>(within)));
  check_refusal(inside, "hostile.pt", "zip entries that do not overlap, got two at byte " + std::to_string(within));

  // The older form.
  const auto refused_legacy = [](const std::string& bytes, const std::string& expected) {
    check_refusal(bytes, "hostile.pt", expected);
  };
  const auto data = raw<int64_t>(6) + kSix;
  refused_legacy("", "a zip archive or pickle that torch.save wrote, got an empty file");
  refused_legacy("GIF89a", "a zip archive or pickle that torch.save wrote, got \"GIF8\"");
  refused_legacy("\x80\x02", "a whole pickle, got its end at byte 2");
  refused_legacy(pickle("K\x01"), "a pickle that torch.save wrote, got another magic number");
  refused_legacy(legacy(good, text("0"), ""), "8 bytes at byte 260, got a file of 260 bytes");
  refused_legacy(legacy(good, text("0"), raw<int64_t>(5) + kSix), "storage \"0\" to have 6 elements, got 5");
  refused_legacy(legacy(good, text("0"), data.substr(0, 20)),
                 "storage \"0\" to take 24 bytes, got the end of the file after 12");
  refused_legacy(legacy(good, text("0"), data + "x"), "the file to end after its storages, got 1 bytes more");
  refused_legacy(legacy(good, text("1"), data), "storage keys that tensors name, got \"1\"");
  refused_legacy(legacy(good, text("0") + text("0"), data + data), "every storage once, got \"0\" twice");
  refused_legacy(legacy(good, "", ""), "storage \"0\" among the storage keys, got none");
}

// --- state ---

void test_state() {
  const auto weight = at::zeros({2, 3}).requires_grad_(), bias = at::zeros({3}, at::kDouble);
  const std::vector<NamedTensor> model = {{"weight", weight}, {"bias", bias}};
  load_into(model, {{{"bias", at::full({3}, 0.5, at::kHalf)}, {"weight", at::ones({2, 3}, at::kBFloat16)}}, {}},
            "load(\"x\")");
  check(at::equal(weight, at::ones({2, 3})) && weight.is_leaf() && !weight.grad_fn(),
        "weights are copied outside autograd");
  check(at::equal(bias, at::full({3}, 0.5, at::kDouble)), "half becomes double");

  const TensorFile other = {{{"weight", at::ones({3, 2})}, {"bias", at::ones({3}, at::kLong)}, {"extra", at::ones(1)}},
                            {}};
  check(message_of([&] { load_into(model, other, "load(\"x\")"); }) ==
            "load(\"x\"): expected the names and shapes of the model, got 1 unexpected (extra), "
            "2 misshapen (weight: file [3, 2], model [2, 3], bias: file int64 [3], model float64 [3])",
        "all differences are told at once");
  std::vector<NamedTensor> many;
  for (int i = 0; i < 20; ++i) many.push_back({std::to_string(i), at::ones(1)});
  try {
    load_into(many, {{{"weight", at::ones(1)}, {"7", at::zeros(1)}}, {}}, "load(\"x\")");
    check(false, "a StateError is thrown");
  } catch (const StateError& e) {
    check(e.what() == std::string("load(\"x\"): expected the names and shapes of the model, got 19 missing "
                                  "(0, 1, 2, 3, 4, 5, 6, 8, … 19 in all), 1 unexpected (weight)"),
          std::string("long lists are cut: ") + e.what());
    check(e.report.missing.size() == 19 && e.report.unexpected == std::vector<std::string>{"weight"},
          "the report is whole");
  }
  check(at::equal(many[7].tensor, at::ones(1)), "nothing is copied when something does not fit");
}

// --- by hand ---

double formula(uint64_t n) {
  uint32_t h = static_cast<uint32_t>(n * 2654435761u);
  h ^= h >> 16;
  h *= 0x45d9f3b;
  h ^= h >> 16;
  return h / 2147483648.0 - 1;
}

void test_formula(const std::string& path) {
  const auto file = read_torch_file(path);
  uint64_t n = 0;
  for (const auto& [name, tensor] : file.tensors) {
    auto expected = at::empty(tensor.sizes());
    const double bound =
        tensor.dim() > 1 ? std::sqrt(3.0 / (static_cast<double>(tensor.numel()) / tensor.size(0))) : 0.1;
    const double base = tensor.dim() == 1 && name.ends_with("weight") ? 1 : 0;
    for (int64_t i = 0; i < tensor.numel(); ++i)
      expected.data_ptr<float>()[i] = static_cast<float>(base + bound * formula(n++));
    check(at::equal(tensor, expected.to(tensor.scalar_type())), path + ": " + name + " is the formula's");
  }
  std::cout << path << ": " << file.tensors.size() << " tensors, " << n << " elements\n";
}

void fuzz(const std::string& path, int count) {
  const auto bytes = read_bytes(path);
  const bool safe = path.ends_with(".safetensors");
  const auto damaged = in_folder(safe ? "fuzz.safetensors" : "fuzz.pt");
  std::mt19937_64 random(bytes.size());
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    auto copy = bytes;
    const auto at = [&] {
      // What says how to read the rest stands at both ends.
      const auto reach = std::min<size_t>(copy.size(), random() % 3 == 0 ? copy.size() : safe ? 4096 : 8192);
      return random() % 3 == 0 ? copy.size() - 1 - random() % reach : random() % reach;
    };
    for (auto flips = 1 + random() % 4; flips-- > 0 && !copy.empty();) {
      constexpr int kOdd[] = {0, 1, 0x7f, 0x80, 0xff};
      switch (random() % 6) {
        case 0:
          copy[at()] ^= static_cast<char>(1 << random() % 8);
          break;
        case 1:
          copy[at()] = static_cast<char>(kOdd[random() % 5]);
          break;
        case 2:
          copy[at()] = static_cast<char>(random());
          break;
        case 3:
          copy.erase(at(), 1 + random() % 9);
          break;
        case 4:
          copy.insert(at(), copy.substr(at(), 1 + random() % 40));
          break;
        default:
          if (random() % 4 == 0) copy.resize(random() % copy.size());
      }
    }
    write_bytes(damaged, copy);
    try {
      for (const auto& [name, tensor] : read_any(damaged).tensors) check(tensor.is_contiguous(), "contiguous");
    } catch (const FileError&) {
      ++refused;
    } catch (const std::exception& e) {
      fs::copy_file(damaged, in_folder("bad") + std::to_string(i), fs::copy_options::overwrite_existing);
      check(false, std::string("only FileError comes out: ") + e.what());
    }
  }
  std::cout << path << ": " << refused << " of " << count << " refused\n";
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  auto name = (fs::temp_directory_path() / "checkpoint_test.XXXXXX").string();
  folder = mkdtemp(name.data());
  try {
    if (arguments.empty()) {
      test_round_trip();
      test_escapes();
      test_failed_writes();
      test_hostile_safetensors();
      test_torch_files();
      test_written_torch_files();
      test_checksums();
      test_partial_loads();
      test_hostile_torch();
      test_state();
    } else if (arguments[0] == "formula") {
      for (size_t i = 1; i < arguments.size(); ++i) test_formula(arguments[i]);
    } else if (arguments[0] == "convert") {
      const auto file = read_any(arguments.at(1));
      write_safetensors(arguments.at(2), file.tensors, file.metadata);
    } else if (arguments[0] == "fuzz") {
      for (size_t i = 2; i < arguments.size(); ++i) fuzz(arguments[i], std::stoi(arguments[1]));
    }
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  if (!failures) fs::remove_all(folder);
  std::cout << (failures ? std::to_string(failures) + " failed\n" : "passed\n");
  return failures != 0;
}
