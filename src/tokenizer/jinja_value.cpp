#include "tokenizer/jinja_value.hpp"

#include <algorithm>
#include <cmath>
#include <compare>

namespace tokenworks::tokenizer::jinja {

Value* Namespace::find(const std::string& name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::optional<std::int64_t> Value::integer() const {
  if (const auto* i = std::get_if<std::int64_t>(&storage_)) return *i;
  if (const auto* b = std::get_if<bool>(&storage_)) return *b ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const auto* d = std::get_if<double>(&storage_)) return *d;
  const auto i = integer();
  return i ? std::optional(static_cast<double>(*i)) : std::nullopt;
}

int Value::depth() const {
  if (const Sequence* s = sequence()) return s->depth;
  if (const Dict* d = dict()) return d->depth;
  return 0;
}

std::int64_t Value::weight() const {
  if (const Sequence* s = sequence()) return s->weight;
  if (const Dict* d = dict()) return d->weight;
  if (const Text* t = text()) return 1 + static_cast<std::int64_t>(t->size() / 16);
  return 1;
}

std::shared_ptr<Sequence> make_sequence(Sequence::Kind kind, std::vector<Value> items, std::string label) {
  auto out = std::make_shared<Sequence>();
  out->kind = kind;
  out->label = std::move(label);
  for (const Value& item : items) {
    out->depth = std::max(out->depth, item.depth() + 1);
    out->weight = std::min(kWeightMax, out->weight + item.weight());
  }
  out->items = std::move(items);
  return out;
}

const char* Value::type_name() const {
  static constexpr const char* kNames[] = {"Undefined", "NoneType", "bool", "int", "float", "str", "list",
                                           "dict",      "Namespace", "Macro", "loop", "function"};
  if (const Sequence* s = sequence()) {
    static constexpr const char* kKinds[] = {"list", "tuple", "generator", "view", "range"};
    return kKinds[static_cast<int>(s->kind)];
  }
  return kNames[storage_.index()];
}

bool truth(const Value& v) {
  if (v.is_undefined() || v.is_none()) return false;
  if (const auto n = v.number()) return *n != 0;
  if (const Text* t = v.text()) return !t->empty();
  if (const Sequence* s = v.sequence()) return s->kind == Sequence::Kind::generator || !s->items.empty();
  if (const Dict* d = v.dict()) return !d->entries.empty();
  return true;
}

namespace {

bool equal_numbers(const Value& a, const Value& b) {
  const auto i = a.integer(), j = b.integer();
  return i && j ? *i == *j : *a.number() == *b.number();
}

bool equal_sequences(const Sequence& a, const Sequence& b) {
  return a.kind == b.kind && a.kind != Sequence::Kind::generator &&
         std::ranges::equal(a.items, b.items, [](const Value& x, const Value& y) { return equal(x, y); });
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.entries.size() == b.entries.size() && std::ranges::all_of(a.entries, [&](const auto& entry) {
           const Value* other = find(b, entry.first);
           return other != nullptr && equal(entry.second, *other);
         });
}

template <class T>
int sign(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.storage().index() != b.storage().index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.text() != nullptr) return a.text()->bytes() == b.text()->bytes();
  if (identical(a, b)) return true;
  if (a.sequence() != nullptr) return equal_sequences(*a.sequence(), *b.sequence());
  if (a.dict() != nullptr) return equal_dicts(*a.dict(), *b.dict());
  return false;
}

bool identical(const Value& a, const Value& b) {
  if (a.storage().index() != b.storage().index()) return false;
  if (a.is_number()) return equal_numbers(a, b);
  if (a.text() != nullptr) return a.text()->bytes() == b.text()->bytes();
  return a.is_none() || (a.sequence() != nullptr && a.sequence() == b.sequence()) ||
         (a.dict() != nullptr && a.dict() == b.dict()) ||
         (a.name_space() != nullptr && a.name_space() == b.name_space()) ||
         (a.macro() != nullptr && a.macro() == b.macro());
}

std::optional<int> compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const auto i = a.integer(), j = b.integer();
    return i && j ? sign(*i, *j) : sign(*a.number(), *b.number());
  }
  if (a.text() != nullptr && b.text() != nullptr)
    return sign(a.text()->bytes(), b.text()->bytes());  // UTF-8 sorts as code points
  const Sequence *s = a.sequence(), *t = b.sequence();
  if (s == nullptr || t == nullptr || s->kind != t->kind ||
      (s->kind != Sequence::Kind::list && s->kind != Sequence::Kind::tuple)) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < std::min(s->items.size(), t->items.size()); ++i) {
    if (!equal(s->items[i], t->items[i])) return compare(s->items[i], t->items[i]);
  }
  return sign(s->items.size(), t->items.size());
}

std::optional<std::string> key_of(const Value& v) {
  if (const Text* t = v.text()) return "s" + t->bytes();
  if (const auto i = v.integer()) return "n" + std::to_string(*i);
  if (const auto d = v.number()) {
    const bool whole = std::floor(*d) == *d && std::abs(*d) < 9e15;      // 1.0 is the key 1
    return "n" + (whole ? std::to_string(static_cast<std::int64_t>(*d)) : python_float(*d));
  }
  if (v.is_none()) return "0";
  if (v.is_undefined()) return "u";
  const Sequence* s = v.sequence();
  if (s == nullptr || s->kind != Sequence::Kind::tuple) return std::nullopt;
  std::string out = "t";
  for (const Value& item : s->items) {
    const auto key = key_of(item);
    if (!key) return std::nullopt;
    out += std::to_string(key->size()) + ":" + *key;
  }
  return out;
}

const Value* find(const Dict& dict, const Value& key) {
  const auto k = key_of(key);
  if (!k) return nullptr;
  const auto it = dict.index.find(*k);
  return it == dict.index.end() ? nullptr : &dict.entries[it->second].second;
}

const Value* find(const Dict& dict, const std::string& key) {
  const auto it = dict.index.find("s" + key);
  return it == dict.index.end() ? nullptr : &dict.entries[it->second].second;
}

bool put(Dict& dict, const Value& key, Value value) {
  auto k = key_of(key);
  if (!k) return false;
  dict.depth = std::max({dict.depth, key.depth() + 1, value.depth() + 1});
  dict.weight = std::min(kWeightMax, dict.weight + key.weight() + value.weight());
  const auto [it, fresh] = dict.index.emplace(std::move(*k), dict.entries.size());
  if (fresh) {
    dict.entries.emplace_back(key, std::move(value));
  } else {
    dict.entries[it->second].second = std::move(value);
  }
  return true;
}

namespace {

void append_items(const std::vector<Value>& items, const char* open, const char* close, Text& out) {
  out.append(open, true);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(", ", true);
    append_repr(items[i], out);
  }
  out.append(close, true);
}

void append_sequence(const Sequence& s, Text& out) {
  switch (s.kind) {
    case Sequence::Kind::list: return append_items(s.items, "[", "]", out);
    case Sequence::Kind::tuple: return append_items(s.items, "(", s.items.size() == 1 ? ",)" : ")", out);
    case Sequence::Kind::range: return out.append(s.label, true);
    case Sequence::Kind::generator: return out.append("<generator object>", true);
    case Sequence::Kind::view:
      out.append(s.label, true);
      return append_items(s.items, "([", "])", out);
  }
}

}  // namespace

void append_repr(const Value& v, Text& out) {
  if (const Text* t = v.text()) return out.append(python_repr(t->bytes()), t->all_trusted());
  if (v.is_undefined()) return out.append("Undefined", true);
  const Dict* d = v.dict();
  if (d == nullptr) return out.append(to_text(v));
  out.append("{", true);
  for (std::size_t i = 0; i < d->entries.size(); ++i) {
    if (i > 0) out.append(", ", true);
    append_repr(d->entries[i].first, out);
    out.append(": ", true);
    append_repr(d->entries[i].second, out);
  }
  out.append("}", true);
}

Text to_text(const Value& v) {
  if (const Text* t = v.text()) return *t;
  Text out;
  if (v.is_undefined()) return out;
  if (v.is_none()) return Text("None", true);
  if (v.is_bool()) return Text(v.boolean() ? "True" : "False", true);
  if (const auto i = v.integer()) return Text(std::to_string(*i), true);
  if (const auto d = v.number()) return Text(python_float(*d), true);
  if (const Sequence* s = v.sequence()) {
    append_sequence(*s, out);
  } else if (v.dict() != nullptr) {
    append_repr(v, out);
  } else {
    out.append(std::string("<") + v.type_name() + ">", true);
  }
  return out;
}

}  // namespace tokenworks::tokenizer::jinja
