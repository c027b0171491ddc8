// Expressions: what a node is worth. Operators follow Python, lookups follow Jinja's sandbox.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tokenizer/jinja_machine.hpp"

namespace tokenworks::tokenizer::jinja {

using Kind = Node::Kind;

Value Machine::evaluate(const Node& node) {
  const Nest nest(*this);
  line_ = node.line;
  if (!charge(1)) return {};
  switch (node.kind) {
    case Kind::constant: return node.value;
    case Kind::name: return look_up(node.text);
    case Kind::tuple:
    case Kind::list: {
      std::vector<Value> items;
      for (const Node* item : node.items) items.push_back(evaluate(*item));
      return list(std::move(items), node.kind == Kind::tuple ? Sequence::Kind::tuple : Sequence::Kind::list);
    }
    case Kind::dict: return make_dict(node);
    case Kind::attribute: {
      const Value object = evaluate(*node.x);
      line_ = node.line;
      return get_attribute(object, node.text);
    }
    case Kind::item: {
      const Value object = evaluate(*node.x), key = evaluate(*node.y);
      line_ = node.line;
      return get_item(object, key);
    }
    case Kind::slice: return slice(node);
    case Kind::call: return call_node(node);
    case Kind::filter: {
      const Value subject = node.x != nullptr ? evaluate(*node.x) : Value();
      Arguments args = arguments(node);
      line_ = node.line;
      return failed() ? Value() : filter(node.text, subject, args);
    }
    case Kind::test: {
      const Value subject = evaluate(*node.x);
      Arguments args = arguments(node);
      line_ = node.line;
      return failed() ? false : test(node.text, subject, args);
    }
    case Kind::not_: return !truth(evaluate(*node.x));
    case Kind::negative:
    case Kind::positive: {
      const Value v = evaluate(*node.x);
      if (v.is_undefined()) return failed() ? Value() : fail_undefined(v);
      const bool minus = node.kind == Kind::negative;
      if (v.is_float()) return minus ? -*v.number() : *v.number();
      const auto i = v.integer();
      if (!i) return fail(std::string("a sign in front of a ") + v.type_name());
      if (*i == std::numeric_limits<std::int64_t>::min() && minus) return fail("an integer does not fit 64 bits");
      return minus ? -*i : *i;
    }
    case Kind::binary: {
      const Value a = evaluate(*node.x), b = evaluate(*node.y);
      line_ = node.line;
      return failed() ? Value() : binary(node.text, a, b);
    }
    case Kind::concat: {
      Text out;
      for (const Node* item : node.items) {
        out.append(str(evaluate(*item)));
        if (out.size() > kTextBytesMax || failed()) break;
      }
      return text(std::move(out));
    }
    case Kind::compare: return compare(node);
    case Kind::and_: {
      const Value a = evaluate(*node.x);
      return truth(a) ? evaluate(*node.y) : a;
    }
    case Kind::or_: {
      const Value a = evaluate(*node.x);
      return truth(a) ? a : evaluate(*node.y);
    }
    case Kind::conditional:
      if (truth(evaluate(*node.x))) return evaluate(*node.y);
      if (node.z != nullptr) return evaluate(*node.z);
      return undefined("an inline if was false and has no else");
    default: return {};
  }
}

Value Machine::look_up(const std::string& name) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    charge(static_cast<std::int64_t>(scope->variables.size() / 8));
    if (Value* v = const_cast<Scope*>(scope)->find(name)) return *v;
  }
  return undefined("'" + name + "' is undefined");
}

Value Machine::make_dict(const Node& node) {
  auto out = std::make_shared<Dict>();
  for (std::size_t i = 0; i < node.items.size() && !failed(); ++i) {
    const Value key = evaluate(*node.items[i]);
    put(*out, key, evaluate(*node.others[i]));
  }
  return dict(std::move(out));
}

Value Machine::compare(const Node& node) {
  Value left = evaluate(*node.x);
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    Value right = evaluate(*node.items[i]);
    if (failed()) return {};
    line_ = node.line;
    const std::string& op = node.names[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = same(left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(right, left) == (op == "in");
    } else {
      const auto sign = order(left, right);
      if (!sign) return {};
      holds = op == "<" ? *sign < 0 : op == "<=" ? *sign <= 0 : op == ">" ? *sign > 0 : *sign >= 0;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

std::optional<int> Machine::order(const Value& a, const Value& b) {
  if (a.is_undefined() || b.is_undefined()) {
    fail_undefined(a.is_undefined() ? a : b);
    return std::nullopt;
  }
  charge(std::min(a.weight(), b.weight()));
  const auto sign = failed() ? std::nullopt : jinja::compare(a, b);
  if (!sign) fail(std::string("a ") + a.type_name() + " and a " + b.type_name() + " have no order");
  return sign;
}

bool Machine::same(const Value& a, const Value& b) { return charge(std::min(a.weight(), b.weight())) && equal(a, b); }

bool Machine::contains(const Value& container, const Value& v) {
  if (const Text* t = container.text()) {
    if (v.text() == nullptr) {
      fail(std::string("'in' a text needs a text, not a ") + v.type_name());
      return false;
    }
    charge(container.weight());
    return t->bytes().find(v.text()->bytes()) != std::string::npos;
  }
  if (const Dict* d = container.dict()) {
    if (!key_of(v)) fail(std::string("unhashable type '") + v.type_name() + "' looked up in a dict");
    return find(*d, v) != nullptr;
  }
  const auto items = iterate(container);
  return std::ranges::any_of(*items, [&](const Value& item) { return !failed() && same(item, v); });
}

// start:stop:step of Python's slice.indices, for a sequence of `length`.
Value Machine::slice(const Node& node) {
  const Value object = evaluate(*node.x);
  std::optional<std::int64_t> bounds[3];
  for (int i = 0; i < 3; ++i) {
    if (node.items[static_cast<std::size_t>(i)] == nullptr) continue;
    const Value v = evaluate(*node.items[static_cast<std::size_t>(i)]);
    if (v.is_none() || failed()) continue;
    bounds[i] = v.integer();
    if (!bounds[i]) {
      return v.is_undefined() ? fail_undefined(v) : fail("the bounds of a slice must be integers or none");
    }
  }
  line_ = node.line;
  if (failed()) return {};
  if (object.is_undefined()) return fail_undefined(object);
  const Text* t = object.text();
  const Sequence* s = object.sequence();
  if (t == nullptr && (s == nullptr || s->kind == Sequence::Kind::generator || s->kind == Sequence::Kind::view)) {
    return fail(std::string("a ") + object.type_name() + " cannot be sliced");
  }
  const std::int64_t step = bounds[2].value_or(1);
  if (step == 0) return fail("the step of a slice is zero");
  charge(object.weight());
  const auto starts = t != nullptr ? character_starts(t->bytes()) : std::vector<std::size_t>{};
  const std::int64_t length = static_cast<std::int64_t>(t != nullptr ? starts.size() - 1 : s->items.size());
  const std::int64_t least = step < 0 ? -1 : 0, most = step < 0 ? length - 1 : length;
  const auto clamped = [&](std::optional<std::int64_t> bound, std::int64_t otherwise) {
    if (!bound) return otherwise;
    return std::clamp(*bound < 0 ? std::max(*bound, -length - 1) + length : *bound, least, most);
  };
  const std::int64_t begin = clamped(bounds[0], step < 0 ? most : least),
                     end = clamped(bounds[1], step < 0 ? least : most);
  if (t != nullptr && step == 1) {
    return text(begin < end ? t->slice(starts[static_cast<std::size_t>(begin)], starts[static_cast<std::size_t>(end)])
                            : Text());
  }
  Text letters;
  std::vector<Value> items;
  for (std::int64_t i = begin; step < 0 ? i > end : i < end;) {
    const auto at = static_cast<std::size_t>(i);
    if (t != nullptr) {
      letters.append(t->slice(starts[at], starts[at + 1]));
    } else {
      items.push_back(s->items[at]);
    }
    if (step > 0 ? step > end - i : step < end - i) break;             // the next step leaves the range, or overflows
    i += step;
  }
  return t != nullptr ? text(std::move(letters))
                      : list(std::move(items), s->kind == Sequence::Kind::tuple ? s->kind : Sequence::Kind::list);
}

namespace {

std::optional<std::int64_t> integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t out = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) return std::nullopt;
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return std::nullopt;
  }
  return out;
}

double python_modulo(double a, double b) {
  const double r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

Value integer_operation(Machine& m, const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &out);
  } else if (op == "**") {
    if (b < 0)
      return a == 0 ? m.fail("zero to a negative power")
                    : Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    const auto power = integer_power(a, b);
    overflow = !power;
    out = power.value_or(0);
  } else {
    if (b == 0) return m.fail("division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    overflow = a == std::numeric_limits<std::int64_t>::min() && b == -1;
    if (!overflow) {
      const std::int64_t remainder = a % b;
      const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
      out = op == "//" ? a / b - (adjust ? 1 : 0) : remainder + (adjust ? b : 0);
    }
  }
  return overflow ? m.fail("an integer does not fit 64 bits") : Value(out);
}

Value float_operation(Machine& m, const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) return m.fail("division by zero");
  if (op == "/") return a / b;
  return op == "//" ? std::floor(a / b) : python_modulo(a, b);
}

Value repeat(Machine& m, const Value& sequence, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  if (const Text* t = sequence.text()) {
    if (!t->empty() && static_cast<std::uint64_t>(times) > Machine::kTextBytesMax / t->size()) {
      return m.fail("a repeated text is too long");
    }
    Text out;
    for (std::int64_t i = 0; i < times; ++i) out.append(*t);
    return m.text(std::move(out));
  }
  const Sequence& s = *sequence.sequence();
  const auto size = static_cast<std::int64_t>(s.items.size());
  if (size > 0 && times > Machine::kItemsMax * 10 / size) return m.fail("a repeated list is too long");
  std::vector<Value> items;
  for (std::int64_t i = 0; i < times; ++i) items.insert(items.end(), s.items.begin(), s.items.end());
  return m.list(std::move(items), s.kind);
}

bool is_plain_list(const Value& v) {
  const Sequence* s = v.sequence();
  return s != nullptr && (s->kind == Sequence::Kind::list || s->kind == Sequence::Kind::tuple);
}

}  // namespace

Value Machine::binary(const std::string& op, const Value& a, const Value& b) {
  if (a.is_undefined() || b.is_undefined()) {
    if (op == "%" && a.text() != nullptr) return format_percent(*this, *a.text(), b);
    return fail_undefined(a.is_undefined() ? a : b);
  }
  if (a.is_number() && b.is_number()) {
    const auto i = a.integer(), j = b.integer();
    return i && j ? integer_operation(*this, op, *i, *j) : float_operation(*this, op, *a.number(), *b.number());
  }
  if (op == "%" && a.text() != nullptr) return format_percent(*this, *a.text(), b);
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) {
    Text out = *a.text();
    out.append(*b.text());
    return text(std::move(out));
  }
  if (op == "+" && is_plain_list(a) && is_plain_list(b) && a.sequence()->kind == b.sequence()->kind) {
    std::vector<Value> items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    if (static_cast<std::int64_t>(items.size()) > kItemsMax * 10) return fail("a list is too long");
    return list(std::move(items), a.sequence()->kind);
  }
  const auto repeatable = [](const Value& v) { return v.text() != nullptr || is_plain_list(v); };
  if (op == "*" && repeatable(a) && b.integer()) return repeat(*this, a, *b.integer());
  if (op == "*" && repeatable(b) && a.integer()) return repeat(*this, b, *a.integer());
  return fail(std::string("'") + op + "' between a " + a.type_name() + " and a " + b.type_name());
}

Text Machine::str(const Value& v) {
  if (!charge(v.weight())) return {};
  Text out = to_text(v);
  if (out.size() > kTextBytesMax) fail("makes a text of more than " + std::to_string(kTextBytesMax) + " bytes");
  return out;
}

}  // namespace tokenworks::tokenizer::jinja
