// As much JSON as the bench's protocol needs: one value read from a line. Answers are written with streams.
#pragma once

#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

struct Json {
  enum class Kind { Null, Bool, Number, Text, List, Object } kind = Kind::Null;
  bool flag = false;
  double number = 0;
  std::string text;
  std::vector<Json> list;
  std::map<std::string, Json> object;

  const Json& at(const std::string& key) const {
    const auto found = object.find(key);
    if (found == object.end()) throw std::runtime_error("expected the member " + key + ", got none");
    return found->second;
  }
  int64_t integer(const std::string& key) const { return static_cast<int64_t>(at(key).number); }
  bool is(const std::string& key) const { return object.count(key) > 0 && object.at(key).flag; }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : at_(text.c_str()) {}

  Json read() {
    skip_spaces();
    switch (*at_) {
      case '{':
        return read_object();
      case '[':
        return read_list();
      case '"': {
        Json value{Json::Kind::Text};
        value.text = read_text();
        return value;
      }
      case 't':
      case 'f': {
        Json value{Json::Kind::Bool};
        value.flag = *at_ == 't';
        return skip_word(), value;
      }
      case 'n':
        return skip_word(), Json{};
      default: {
        char* end = nullptr;
        Json value{Json::Kind::Number};
        value.number = std::strtod(at_, &end);
        if (end == at_) fail();
        at_ = end;
        return value;
      }
    }
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error(std::string("expected JSON, got ") + at_); }
  void skip_spaces() {
    while (std::isspace(static_cast<unsigned char>(*at_))) ++at_;
  }
  void skip_word() {
    while (std::isalpha(static_cast<unsigned char>(*at_))) ++at_;
  }
  bool takes(char wanted) {
    skip_spaces();
    if (*at_ != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!takes(wanted)) fail();
  }
  std::string read_text() {
    expect('"');
    std::string text;
    for (; *at_ != '"'; ++at_) {
      if (*at_ == '\0' || *at_ == '\\') fail();  // no message of the protocol has escapes
      text += *at_;
    }
    ++at_;
    return text;
  }
  Json read_list() {
    Json value{Json::Kind::List};
    expect('[');
    if (takes(']')) return value;
    do {
      value.list.push_back(read());
    } while (takes(','));
    expect(']');
    return value;
  }
  Json read_object() {
    Json value{Json::Kind::Object};
    expect('{');
    if (takes('}')) return value;
    do {
      skip_spaces();
      auto key = read_text();
      expect(':');
      value.object.emplace(std::move(key), read());
    } while (takes(','));
    expect('}');
    return value;
  }

  const char* at_;
};

}  // namespace bench
