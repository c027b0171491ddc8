// JSON in and out: the caller's data as untrusted values, and transformers' tojson.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tokenizer/jinja_machine.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

using Json = nlohmann::json;

// Builds values as the parser goes; a repeated key keeps its last value, as in Python.
class Builder : public nlohmann::json_sax<Json> {
 public:
  std::optional<Value> root;

  bool null() override { return put(None{}); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(std::int64_t{v}); }
  bool number_unsigned(number_unsigned_t v) override {
    if (v <= static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      return put(static_cast<std::int64_t>(v));
    }
    return put(static_cast<double>(v));
  }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::make_shared<const Text>(std::move(v), false)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override {
    auto d = std::make_shared<Dict>();
    for (auto& [key, value] : stack_.back().entries) jinja::put(*d, key, std::move(value));
    stack_.pop_back();
    return put(std::shared_ptr<const Dict>(std::move(d)));
  }
  bool end_array() override {
    std::vector<Value> items;
    for (auto& entry : stack_.back().entries) items.push_back(std::move(entry.second));
    stack_.pop_back();
    return put(std::shared_ptr<const Sequence>(make_sequence(Sequence::Kind::list, std::move(items))));
  }
  bool key(string_t& name) override {
    stack_.back().key = std::make_shared<const Text>(std::move(name), false);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  struct Open {
    bool object;
    Value key;
    std::vector<std::pair<Value, Value>> entries;
  };
  bool open(bool object) {
    if (stack_.size() >= static_cast<std::size_t>(kDepthMax) - 1) return false;
    stack_.push_back({object, {}, {}});
    return true;
  }
  bool put(Value v) {
    if (stack_.empty()) {
      root = std::move(v);
    } else {
      stack_.back().entries.emplace_back(stack_.back().key, std::move(v));
    }
    return true;
  }
  std::vector<Open> stack_;
};

class Writer {
 public:
  Writer(Machine& machine, const JsonStyle& style) : m_(machine), style_(style) {}

  std::string out;
  bool trusted = true;

  void value(const Value& v, int level) {
    if (m_.failed()) return;
    if (out.size() > Machine::kTextBytesMax) {
      m_.fail("tojson makes too long a text");
    } else if (v.is_none()) {
      out += "null";
    } else if (v.is_bool()) {
      out += v.boolean() ? "true" : "false";
    } else if (const auto i = v.integer()) {
      out += std::to_string(*i);
    } else if (const auto d = v.number()) {
      out += number(*d);
    } else if (const Text* t = v.text()) {
      text(*t);
    } else if (const Dict* dict = v.dict()) {
      object(*dict, level);
    } else if (const Sequence* s = v.sequence();
               s != nullptr && (s->kind == Sequence::Kind::list || s->kind == Sequence::Kind::tuple)) {
      array(*s, level);
    } else if (v.is_undefined()) {
      m_.fail_undefined(v);
    } else {
      m_.fail(std::string("a ") + v.type_name() + " cannot be written as JSON");
    }
  }

 private:
  static std::string number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return python_float(d);
  }

  void text(const Text& t) {
    static constexpr char kHex[] = "0123456789abcdef";
    const auto unit = [&](std::uint32_t u) {
      out += "\\u";
      for (int shift = 12; shift >= 0; shift -= 4) out += kHex[u >> shift & 15];
    };
    trusted = trusted && t.all_trusted();
    out += '"';
    const std::string& bytes = t.bytes();
    for (std::size_t at = 0; at < bytes.size(); at += utf8_length(bytes[at])) {
      const char32_t c = utf8_decode(bytes, at);
      static constexpr std::string_view kShort = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
      const std::size_t known = c < 128 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
      if (known != std::string_view::npos) {
        out += {'\\', kLetters[known]};
      } else if (c < 32 || (style_.ascii && c > 126 && c < 0x10000)) {
        unit(c);
      } else if (style_.ascii && c >= 0x10000) {
        unit(0xD800 + (c - 0x10000) / 0x400);
        unit(0xDC00 + (c - 0x10000) % 0x400);
      } else {
        out.append(bytes, at, utf8_length(bytes[at]));
      }
    }
    out += '"';
  }

  void line(int level) {
    if (!style_.indent) return;
    out += '\n';
    for (int i = 0; i < level && out.size() <= Machine::kTextBytesMax; ++i) out += style_.indent->bytes();
    trusted = trusted && style_.indent->all_trusted();
  }

  void array(const Sequence& s, int level) {
    out += '[';
    for (std::size_t i = 0; i < s.items.size() && !m_.failed(); ++i) {
      if (i > 0) out += style_.item_separator;
      line(level + 1);
      value(s.items[i], level + 1);
    }
    if (!s.items.empty()) line(level);
    out += ']';
  }

  void key(const Value& k) {
    if (const Text* t = k.text()) return text(*t);
    std::string name;
    if (k.is_none()) name = "null";
    if (k.is_bool()) name = k.boolean() ? "true" : "false";
    if (k.is_int()) name = std::to_string(*k.integer());
    if (k.is_float()) name = number(*k.number());
    if (name.empty()) m_.fail(std::string("a ") + k.type_name() + " cannot be a key in JSON");
    out += '"' + name + '"';
  }

  void object(const Dict& d, int level) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : d.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (std::size_t i = 1; i < entries.size(); ++i) m_.order(entries[i - 1]->first, entries[i]->first);
      if (m_.failed()) return;
      std::ranges::stable_sort(
          entries, [](const auto* a, const auto* b) { return jinja::compare(a->first, b->first).value_or(0) < 0; });
    }
    out += '{';
    for (std::size_t i = 0; i < entries.size() && !m_.failed(); ++i) {
      if (i > 0) out += style_.item_separator;
      line(level + 1);
      key(entries[i]->first);
      out += style_.key_separator;
      value(entries[i]->second, level + 1);
    }
    if (!entries.empty()) line(level);
    out += '}';
  }

  Machine& m_;
  const JsonStyle& style_;
};

}  // namespace

Value to_json(Machine& machine, const Value& v, const JsonStyle& style) {
  if (!machine.charge(v.weight())) return {};
  Writer writer(machine, style);
  writer.value(v, 0);
  if (machine.failed()) return {};
  return machine.text(std::move(writer.out), writer.trusted);
}

std::optional<Value> from_json(std::string_view text) {
  Builder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::nullopt;
  return std::move(builder.root);
}

}  // namespace tokenworks::tokenizer::jinja
