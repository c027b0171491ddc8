// Lookups, iteration and calls: attributes, items, macros, loops, filters and tests.
#include <algorithm>

#include "tokenizer/jinja_machine.hpp"

namespace tokenworks::tokenizer::jinja {

namespace {

// A name for a message: what the template wrote, never what a caller did.
std::string trusted_name(const Value& v) {
  if (const Text* t = v.text()) return t->all_trusted() && t->size() <= 60 ? " '" + t->bytes() + "'" : "";
  const auto i = v.integer();
  return i ? " " + std::to_string(*i) : "";
}

Value missing(Machine& m, const Value& object, const std::string& what) {
  return m.undefined(std::string("a ") + object.type_name() + " has no element" + what);
}

std::shared_ptr<const Function> method(const Value& self, const std::string& name) {
  return std::make_shared<const Function>(Function{name, std::make_shared<const Value>(self)});
}

}  // namespace

Value Machine::get_attribute(const Value& object, const std::string& name) {
  if (failed()) return {};
  if (object.is_undefined()) return fail_undefined(object);
  if (Loop* loop = object.loop()) return loop_attribute(*loop, object, name);
  if (is_unsafe_method(object, name)) {
    return undefined("'" + name + "' of a " + object.type_name() + " is not allowed in a template");
  }
  if (has_method(object, name)) return method(object, name);
  if (const Dict* d = object.dict()) {
    if (const Value* v = find(*d, name)) return *v;
  }
  if (Namespace* n = object.name_space()) {
    if (const Value* v = n->find(name)) return *v;
  }
  if (const Sequence* s = object.sequence(); s != nullptr && s->label == "group") {
    if (name == "grouper") return s->items[0];
    if (name == "list") return s->items[1];
  }
  if (const Macro* macro = object.macro(); macro != nullptr && name == "name") return text(macro->name, true);
  return missing(*this, object, " '" + name + "'");
}

Value Machine::get_item(const Value& object, const Value& key) {
  if (failed()) return {};
  if (object.is_undefined()) return fail_undefined(object);
  charge(key.weight());
  if (const Dict* d = object.dict()) {
    if (const Value* v = find(*d, key)) return *v;
  } else if (const auto index = key.integer()) {
    const Text* t = object.text();
    const Sequence* s = object.sequence();
    const bool indexable =
        t != nullptr || (s != nullptr && s->kind != Sequence::Kind::generator && s->kind != Sequence::Kind::view);
    if (indexable) {
      if (t != nullptr) charge(object.weight());
      const auto size = static_cast<std::int64_t>(t != nullptr ? count_characters(t->bytes()) : s->items.size());
      const std::int64_t at = *index < 0 ? *index + size : *index;
      if (at < 0 || at >= size) return missing(*this, object, trusted_name(key));
      if (t == nullptr) return s->items[static_cast<std::size_t>(at)];
      const std::size_t begin = character_offset(t->bytes(), static_cast<std::size_t>(at));
      return text(t->slice(begin, begin + character_offset(std::string_view(t->bytes()).substr(begin), 1)));
    }
  }
  const Text* name = key.text();
  if (name == nullptr || object.dict() != nullptr) {
    if (name != nullptr && is_unsafe_method(object, name->bytes())) {
      return undefined("changing a dict is not allowed in a template");
    }
    if (name != nullptr && has_method(object, name->bytes())) return method(object, name->bytes());
    return missing(*this, object, trusted_name(key));
  }
  if (!name->all_trusted()) return missing(*this, object, "");
  return get_attribute(object, name->bytes());       // what is no element may be an attribute
}

Value Machine::get_path(const Value& object, const Value& path) {
  if (path.is_undefined() || path.is_none()) return object;
  const Text* name = path.text();
  if (name == nullptr) return get_item(object, path);
  Value at = object;
  const std::string dot = ".";
  for (const Text& part : split(*name, &dot, -1, false)) {
    const bool digits = all_characters(part.bytes(), [](char32_t c) { return c >= '0' && c <= '9'; });
    const auto index = digits ? parse_integer(part.bytes()) : std::nullopt;
    at = get_item(at, index ? Value(*index) : text(part));
  }
  return at;
}

std::shared_ptr<const std::vector<Value>> Machine::iterate(const Value& v) {
  static const auto kNothing = std::make_shared<const std::vector<Value>>();
  if (failed() || v.is_undefined()) return kNothing;
  if (const auto* s = std::get_if<std::shared_ptr<const Sequence>>(&v.storage())) {
    charge(static_cast<std::int64_t>((*s)->items.size()));
    if ((*s)->kind == Sequence::Kind::generator && std::exchange((*s)->consumed, true)) return kNothing;
    return {*s, &(*s)->items};
  }
  auto out = std::make_shared<std::vector<Value>>();
  if (const Dict* d = v.dict()) {
    charge(static_cast<std::int64_t>(d->entries.size()));
    for (const auto& entry : d->entries) out->push_back(entry.first);
  } else if (const Text* t = v.text()) {
    const auto starts = character_starts(t->bytes());
    for (std::size_t i = 0; i + 1 < starts.size() && !failed(); ++i) {
      out->push_back(text(t->slice(starts[i], starts[i + 1])));
    }
  } else {
    fail(std::string("a ") + v.type_name() + " cannot be iterated over");
  }
  return out;
}

std::optional<std::int64_t> Machine::length(const Value& v) {
  if (v.is_undefined()) return 0;
  if (const Text* t = v.text()) {
    charge(v.weight());
    return static_cast<std::int64_t>(count_characters(t->bytes()));
  }
  if (const Sequence* s = v.sequence(); s != nullptr && s->kind != Sequence::Kind::generator) {
    return static_cast<std::int64_t>(s->items.size());
  }
  if (const Dict* d = v.dict()) return static_cast<std::int64_t>(d->entries.size());
  if (const Loop* l = v.loop()) return static_cast<std::int64_t>(l->items->size());
  fail(std::string("a ") + v.type_name() + " has no length");
  return std::nullopt;
}

Value Machine::loop_attribute(Loop& loop, const Value& self, const std::string& name) {
  const auto count = static_cast<std::int64_t>(loop.items->size()), at = static_cast<std::int64_t>(loop.index0);
  if (name == "index") return at + 1;
  if (name == "index0") return at;
  if (name == "revindex") return count - at;
  if (name == "revindex0") return count - at - 1;
  if (name == "first") return at == 0;
  if (name == "last") return at + 1 == count;
  if (name == "length") return count;
  if (name == "depth") return std::int64_t{loop.depth0} + 1;
  if (name == "depth0") return std::int64_t{loop.depth0};
  if (name == "previtem") return at == 0 ? undefined("there is no previous item") : (*loop.items)[loop.index0 - 1];
  if (name == "nextitem") return at + 1 == count ? undefined("there is no next item") : (*loop.items)[loop.index0 + 1];
  if (name == "cycle" || name == "changed") return method(self, name);
  return missing(*this, self, " '" + name + "'");
}

Arguments Machine::arguments(const Node& node) {
  Arguments out;
  for (const Node* item : node.items) out.items.push_back(evaluate(*item));
  for (std::size_t i = 0; i < node.names.size(); ++i) out.named.emplace_back(node.names[i], evaluate(*node.others[i]));
  if (node.star != nullptr) {
    const auto more = iterate(evaluate(*node.star));
    out.items.insert(out.items.end(), more->begin(), more->end());
  }
  if (node.star_star != nullptr) {
    const Value more = evaluate(*node.star_star);
    const Dict* d = more.dict();
    if (d == nullptr && !failed()) fail("what stands behind ** is no dict");
    if (d != nullptr) {
      for (const auto& [key, value] : d->entries) {
        if (key.text() == nullptr) fail("a keyword behind ** is no text");
        if (key.text() != nullptr) out.named.emplace_back(key.text()->bytes(), value);
      }
    }
  }
  return out;
}

Value Machine::call_node(const Node& node) {
  const Value callee = evaluate(*node.x);
  Arguments args = arguments(node);
  line_ = node.line;
  return failed() ? Value() : call(callee, args);
}

Value Machine::call(const Value& callee, Arguments& arguments) {
  const Nest nest(*this);
  if (!charge(1)) return {};
  if (callee.is_undefined()) return fail_undefined(callee);
  if (const Function* function = callee.function()) return call_function(*function, arguments);
  if (const Macro* macro = callee.macro()) {
    const Macro copy = *macro;                       // keeps its scope while it runs
    return call_macro(copy, arguments);
  }
  if (Loop* loop = callee.loop()) return call_loop(*loop, arguments);
  return fail(std::string("a ") + callee.type_name() + " cannot be called");
}

Value Machine::call_macro(const Macro& macro, Arguments& arguments) {
  const Node& node = *macro.node;
  const auto named = [&](const std::string& name) {
    return std::ranges::find(arguments.named, name, [](const auto& entry) { return entry.first; });
  };
  const auto outer = scope_;
  const auto inner = enter(macro.scope);
  scope_ = inner;
  const std::size_t count = node.names.size();
  for (std::size_t i = 0; i < count && !failed(); ++i) {
    Value value;
    if (i < arguments.items.size()) {
      value = arguments.items[i];
    } else if (const auto it = named(node.names[i]); it != arguments.named.end()) {
      value = it->second;
      arguments.named.erase(it);
    } else if (const std::size_t required = count - node.items.size(); i >= required) {
      value = evaluate(*node.items[i - required]);
    } else {
      value = undefined("parameter '" + node.names[i] + "' was not provided");
    }
    inner->set(node.names[i], std::move(value));
  }
  const bool explicit_caller = std::ranges::find(node.names, "caller") != node.names.end();
  if (node.wants_caller && !explicit_caller) {
    Value caller = undefined("the macro was not called by a call block");
    if (const auto it = named("caller"); it != arguments.named.end()) {
      caller = it->second;
      arguments.named.erase(it);
    }
    inner->set("caller", std::move(caller));
  }
  if (node.wants_kwargs) {
    auto rest = std::make_shared<Dict>();
    for (auto& [name, value] : arguments.named) put(*rest, text(name, true), std::move(value));
    inner->set("kwargs", dict(std::move(rest)));
  } else if (!arguments.named.empty()) {
    fail("the macro '" + macro.name + "' takes no argument '" + arguments.named.front().first.substr(0, 60) + "'");
  }
  const std::size_t taken = std::min(count, arguments.items.size());
  if (node.wants_varargs) {
    inner->set("varargs", list({arguments.items.begin() + static_cast<std::ptrdiff_t>(taken), arguments.items.end()},
                               Sequence::Kind::tuple));
  } else if (arguments.items.size() > count) {
    fail("the macro '" + macro.name + "' takes not more than " + std::to_string(count) + " arguments");
  }
  Text out = capture([&] { statements(node.body); });
  scope_ = outer;
  return text(std::move(out));
}

Value Machine::call_loop(Loop& loop, Arguments& arguments) {
  if (loop.node == nullptr) return fail("the loop must be 'recursive' to be called");
  if (arguments.items.size() != 1 || !arguments.named.empty()) {
    return fail("a recursive loop is called with one iterable");
  }
  const auto outer = scope_;
  scope_ = loop.scope;
  const Node& node = *loop.node;
  const int depth0 = loop.depth0 + 1;
  Text out = capture([&] { for_statement(node, arguments.items.front(), depth0); });
  scope_ = outer;
  return text(std::move(out));
}

Value Machine::filter_chain(const Node& node, const Value& body) {
  const Value subject = node.x != nullptr ? filter_chain(*node.x, body) : body;
  Arguments args = arguments(node);
  line_ = node.line;
  return failed() ? Value() : filter(node.text, subject, args);
}

Value Machine::filter(const std::string& name, const Value& subject, Arguments& arguments) {
  const Filter f = find_filter(name);
  if (f == nullptr) return fail("there is no filter '" + name.substr(0, 60) + "'");
  return charge(1) ? f(*this, subject, arguments) : Value();
}

bool Machine::test(const std::string& name, const Value& subject, Arguments& arguments) {
  const Test t = find_test(name);
  if (t == nullptr) {
    fail("there is no test '" + name.substr(0, 60) + "'");
    return false;
  }
  return charge(1) && t(*this, subject, arguments);
}

}  // namespace tokenworks::tokenizer::jinja
