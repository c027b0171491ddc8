// The global functions (range, dict, namespace, strftime_now, raise_exception), loop.cycle and loop.changed, and how
// all callables here read their arguments.
#include <algorithm>
#include <ctime>

#include "tokenizer/jinja_machine.hpp"

namespace tokenworks::tokenizer::jinja {

namespace {

Value make_range(Machine& m, Arguments& arguments) {
  std::int64_t bounds[3] = {0, 0, 1};
  if (arguments.items.empty() || arguments.items.size() > 3 || !arguments.named.empty()) {
    return m.fail("range takes one to three integers");
  }
  for (std::size_t i = 0; i < arguments.items.size(); ++i) {
    const Value& v = arguments.items[i];
    const auto n = v.integer();
    if (!n)
      return v.is_undefined() ? m.fail_undefined(v)
                              : m.fail(std::string("range takes integers, not a ") + v.type_name());
    bounds[arguments.items.size() == 1 ? 1 : i] = *n;
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return m.fail("the step of range is zero");
  std::vector<Value> items;
  for (std::int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<std::int64_t>(items.size()) >= Machine::kItemsMax) {
      return m.fail("range is longer than " + std::to_string(Machine::kItemsMax));
    }
    items.push_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  std::string label = "range(" + std::to_string(start) + ", " + std::to_string(stop) +
                      (step == 1 ? ")" : ", " + std::to_string(step) + ")");
  return m.list(std::move(items), Sequence::Kind::range, std::move(label));
}

// dict(...) and namespace(...): a mapping or pairs, then keywords.
std::shared_ptr<Dict> collect(Machine& m, const char* function, Arguments& arguments) {
  auto out = std::make_shared<Dict>();
  if (arguments.items.size() > 1) m.fail(std::string(function) + " takes at most one argument by position");
  if (!arguments.items.empty() && arguments.items.front().dict() != nullptr) {
    for (const auto& [key, value] : arguments.items.front().dict()->entries) m.put(*out, key, value);
  } else if (!arguments.items.empty()) {
    const auto pairs = m.iterate(arguments.items.front());
    for (const Value& pair : *pairs) {
      const auto parts = m.iterate(pair);
      if (parts->size() != 2) m.fail(std::string(function) + " takes pairs");
      if (m.failed()) break;
      m.put(*out, (*parts)[0], (*parts)[1]);
    }
  }
  for (auto& [name, value] : arguments.named) m.put(*out, m.text(name, true), std::move(value));
  return out;
}

Value now_text(Machine& m, Arguments& arguments) {
  Parameters p(m, "strftime_now", arguments, {"format"}, 1);
  const Text* format = p.text(0);
  if (format == nullptr) return m.failed() ? Value() : m.fail("strftime_now takes a format");
  if (format->size() > 1000) return m.fail("the format of strftime_now is too long");
  const std::time_t now = m.unix_seconds();
  std::tm broken{};
  gmtime_r(&now, &broken);
  std::string out(format->size() * 32 + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), format->bytes().c_str(), &broken));
  return m.text(std::move(out), format->all_trusted());
}

// The message of raise_exception without what a caller wrote into it.
std::string trusted_part(const Text& message) {
  std::string out;
  std::size_t begin = 0;
  for (const Text::Run& run : message.runs()) {
    out += run.trusted ? message.bytes().substr(begin, run.end - begin) : "...";
    begin = run.end;
  }
  return out.substr(0, 500);
}

}  // namespace

Value Machine::call_function(const Function& function, Arguments& arguments) {
  if (function.self != nullptr) {
    Loop* loop = function.self->loop();
    if (loop == nullptr) return call_method(*this, *function.self, function.name, arguments);
    if (function.name == "cycle") {
      if (arguments.items.empty()) return fail("loop.cycle needs something to cycle through");
      return arguments.items[loop->index0 % arguments.items.size()];
    }
    const auto alike = [&](const Value& a, const Value& b) { return same(a, b); };
    const bool unchanged = loop->changed && std::ranges::equal(*loop->changed, arguments.items, alike);
    loop->changed = arguments.items;
    return !unchanged;
  }
  if (function.name == "range") return make_range(*this, arguments);
  if (function.name == "dict") return dict(collect(*this, "dict", arguments));
  if (function.name == "strftime_now") return now_text(*this, arguments);
  if (function.name == "namespace") {
    const auto attributes = collect(*this, "namespace", arguments);
    const auto out = make_namespace();
    for (const auto& [key, value] : attributes->entries) {
      if (key.text() == nullptr) return fail("the attributes of a namespace are named by text");
      if (!set_attribute(*out, key.text()->bytes(), value)) return {};
    }
    return out;
  }
  Parameters p(*this, "raise_exception", arguments, {"message"}, 1);
  return failed() ? Value() : fail(trusted_part(str(p.value(0))));
}

Parameters::Parameters(Machine& machine, const std::string& function, Arguments& arguments,
                       std::initializer_list<const char*> names, std::size_t required)
    : machine_(machine), function_(function), names_(names), values_(names.size()) {
  if (arguments.items.size() > names_.size()) {
    machine_.fail(function_ + " takes at most " + std::to_string(names_.size()) + " arguments");
  }
  for (std::size_t i = 0; i < std::min(arguments.items.size(), names_.size()); ++i) values_[i] = arguments.items[i];
  for (auto& [name, value] : arguments.named) {
    const auto it = std::ranges::find_if(names_, [&](const char* n) { return name == n; });
    const auto at = static_cast<std::size_t>(it - names_.begin());
    if (it == names_.end() || values_[at]) {
      machine_.fail(function_ + " cannot take the argument '" + name.substr(0, 60) + "'");
    } else {
      values_[at] = value;
    }
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (!values_[i]) machine_.fail(function_ + " needs the argument '" + names_[i] + "'");
  }
}

std::int64_t Parameters::integer(std::size_t i, std::int64_t otherwise) {
  if (!values_[i]) return otherwise;
  if (const auto n = values_[i]->integer()) return *n;
  if (values_[i]->is_undefined()) {
    machine_.fail_undefined(*values_[i]);
  } else {
    machine_.fail(function_ + ": '" + names_[i] + "' must be an integer, not a " + values_[i]->type_name());
  }
  return otherwise;
}

bool Parameters::truth(std::size_t i, bool otherwise) const {
  return values_[i] ? jinja::truth(*values_[i]) : otherwise;
}

const Text* Parameters::text(std::size_t i) {
  if (!values_[i] || values_[i]->is_none()) return nullptr;
  if (const Text* t = values_[i]->text()) return t;
  if (values_[i]->is_undefined()) {
    machine_.fail_undefined(*values_[i]);
  } else {
    machine_.fail(function_ + ": '" + names_[i] + "' must be a text, not a " + values_[i]->type_name());
  }
  return nullptr;
}

}  // namespace tokenworks::tokenizer::jinja
