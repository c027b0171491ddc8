// Statements and limits; expressions are in jinja_evaluate.cpp, calls in jinja_call.cpp.
#include "tokenizer/jinja_machine.hpp"

#include <algorithm>

namespace tokenworks::tokenizer::jinja {

using Kind = Node::Kind;

Value* Scope::find(const std::string& name) {
  for (auto& [key, value] : variables) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  if (Value* there = find(name)) {
    *there = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Machine::Machine(const Program& program, std::int64_t unix_seconds)
    : program_(program), unix_seconds_(unix_seconds), scope_(std::make_shared<Scope>()) {
  for (const char* name : {"range", "dict", "namespace", "raise_exception", "strftime_now"}) {
    define(name, std::make_shared<const Function>(Function{name, nullptr}));
  }
}

Machine::~Machine() {
  for (const auto& scope : macro_scopes_) scope->variables.clear();
  for (const auto& n : namespaces_) n->attributes.clear();
}

void Machine::define(const std::string& name, Value value) { scope_->set(name, std::move(value)); }

bool Machine::run() {
  scope_ = enter(scope_);
  statements(program_.body);
  return !failed();
}

Value Machine::fail(const std::string& what) {
  if (!failure_) {
    failure_ = error(Errc::invalid_request, "chat template, line " + std::to_string(line_) + ": " + what, "messages");
  }
  return {};
}

Value Machine::fail_undefined(const Value& v) {
  const auto* u = std::get_if<Undefined>(&v.storage());
  return fail(u != nullptr && u->why != nullptr ? *u->why : "an undefined value is used");
}

bool Machine::charge(std::int64_t steps) {
  steps_ += steps;
  if (steps_ > kStepsMax) fail("takes more than " + std::to_string(kStepsMax) + " steps");
  return !failed();
}

Value Machine::text(Text t) {
  charge(1 + static_cast<std::int64_t>(t.size() / 16));
  if (t.size() > kTextBytesMax) return fail("makes a text of more than " + std::to_string(kTextBytesMax) + " bytes");
  return std::make_shared<const Text>(std::move(t));
}

Value Machine::list(std::vector<Value> items, Sequence::Kind kind, std::string label) {
  charge(1 + static_cast<std::int64_t>(items.size()));
  auto out = make_sequence(kind, std::move(items), std::move(label));
  if (out->depth > jinja::kDepthMax) {
    return fail("makes lists inside lists deeper than " + std::to_string(jinja::kDepthMax));
  }
  return std::shared_ptr<const Sequence>(std::move(out));
}

Value Machine::dict(std::shared_ptr<Dict> d) {
  charge(1 + static_cast<std::int64_t>(d->entries.size()));
  if (d->depth > jinja::kDepthMax) {
    return fail("makes dicts inside dicts deeper than " + std::to_string(jinja::kDepthMax));
  }
  return std::shared_ptr<const Dict>(std::move(d));
}

bool Machine::put(Dict& d, const Value& key, Value value) {
  charge(key.weight());
  if (jinja::put(d, key, std::move(value))) return true;
  fail(std::string("unhashable type '") + key.type_name() + "' as the key of a dict");
  return false;
}

std::shared_ptr<Namespace> Machine::make_namespace() {
  charge(1);
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

bool Machine::set_attribute(Namespace& n, const std::string& name, Value value) {
  if (name.starts_with('_')) {
    fail("names that begin with an underscore cannot be set on a namespace");
    return false;
  }
  if (Value* there = n.find(name)) {
    *there = std::move(value);
  } else {
    charge(static_cast<std::int64_t>(n.attributes.size() / 8));
    n.attributes.emplace_back(name, std::move(value));
  }
  return true;
}

std::shared_ptr<Scope> Machine::enter(std::shared_ptr<Scope> parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = std::move(parent);
  return scope;
}

void Machine::write(const Text& text) {
  if (failed()) return;
  if (text.size() > kTextBytesMax - std::min(out_.size(), kTextBytesMax)) {
    fail("writes more than " + std::to_string(kTextBytesMax) + " bytes");
    return;
  }
  charge(static_cast<std::int64_t>(text.size() / 16));
  out_.append(text);
}

Text Machine::capture(const std::function<void()>& run) {
  Text outer = std::exchange(out_, Text());
  run();
  return std::exchange(out_, std::move(outer));
}

Machine::Flow Machine::statements(const std::vector<const Node*>& body) {
  for (const Node* node : body) {
    if (failed()) break;
    const Flow flow = statement(*node);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

// A body with its own variables.
Machine::Flow Machine::scoped(const std::vector<const Node*>& body) {
  const auto outer = scope_;
  scope_ = enter(outer);
  const Flow flow = statements(body);
  scope_ = outer;
  return flow;
}

Machine::Flow Machine::statement(const Node& node) {
  const Nest nest(*this);
  line_ = node.line;
  if (!charge(1)) return Flow::next;
  Flow flow = Flow::next;
  switch (node.kind) {
    case Kind::output:
      for (const Node* item : node.items) {
        const Value v = evaluate(*item);
        if (failed()) break;
        if (v.text() != nullptr) {
          write(*v.text());
        } else {
          write(str(v));
        }
      }
      break;
    case Kind::if_: return if_statement(node);
    case Kind::for_:
      return for_statement(node, evaluate(*node.y), 0);
    case Kind::set: assign(*node.x, evaluate(*node.y)); break;
    case Kind::set_block: {
      Value v = text(capture([&] { flow = scoped(node.body); }));
      if (node.y != nullptr) v = filter_chain(*node.y, v);
      assign(*node.x, std::move(v));
      break;
    }
    case Kind::macro:
      macro_scopes_.push_back(scope_);
      scope_->set(node.text, std::make_shared<const Macro>(Macro{&node, scope_, node.text}));
      break;
    case Kind::call_block: {
      const Value callee = evaluate(*node.x->x);
      Arguments args = arguments(*node.x);
      args.named.emplace_back("caller", std::make_shared<const Macro>(Macro{&node, scope_, "caller"}));
      line_ = node.line;
      const Value v = call(callee, args);
      write(str(v));
      break;
    }
    case Kind::filter_block: {
      const Value v = text(capture([&] { flow = scoped(node.body); }));
      write(str(filter_chain(*node.x, v)));
      break;
    }
    case Kind::with: {
      std::vector<Value> values;
      for (const Node* value : node.others) values.push_back(evaluate(*value));
      const auto outer = scope_;
      scope_ = enter(outer);
      for (std::size_t i = 0; i < values.size(); ++i) assign(*node.items[i], std::move(values[i]));
      flow = statements(node.body);
      scope_ = outer;
      break;
    }
    case Kind::generation: scoped(node.body); break;
    case Kind::break_: return Flow::break_;
    case Kind::continue_: return Flow::continue_;
    default: break;
  }
  return flow;
}

Machine::Flow Machine::if_statement(const Node& first) {
  for (const Node* node = &first; !failed();) {
    line_ = node->line;
    charge(1);
    if (truth(evaluate(*node->x))) return failed() ? Flow::next : statements(node->body);
    const bool chained = node->others.size() == 1 && node->others.front()->kind == Kind::if_;
    if (!chained) return statements(node->others);
    node = node->others.front();                     // elif, or an if alone in else: the same thing
  }
  return Flow::next;
}

Machine::Flow Machine::for_statement(const Node& node, const Value& iterable, int depth0) {
  const Nest nest(*this);
  const auto outer = scope_;
  auto items = iterate(iterable);
  if (node.z != nullptr) {
    auto kept = std::make_shared<std::vector<Value>>();
    for (const Value& item : *items) {
      scope_ = enter(outer);
      assign(*node.x, item);
      if (truth(evaluate(*node.z))) kept->push_back(item);
      if (failed()) break;
    }
    items = std::move(kept);
  }
  const auto loop = std::make_shared<Loop>();
  loop->items = items;
  loop->depth0 = depth0;
  loop->node = node.flag ? &node : nullptr;
  loop->scope = outer;
  bool finished = false;                             // Jinja runs else also when every turn broke off or went on early
  for (std::size_t i = 0; i < items->size() && !failed(); ++i) {
    line_ = node.line;
    if (!charge(1)) break;
    loop->index0 = i;
    scope_ = enter(outer);
    scope_->set("loop", loop);
    assign(*node.x, (*items)[i]);
    const Flow flow = statements(node.body);
    if (flow == Flow::break_) break;
    finished |= flow == Flow::next;
  }
  scope_ = outer;
  return finished || failed() ? Flow::next : scoped(node.others);
}

void Machine::assign(const Node& target, Value value) {
  if (failed()) return;
  if (target.kind == Kind::name) {
    scope_->set(target.text, std::move(value));
  } else if (target.kind == Kind::namespace_target) {
    const Value object = look_up(target.text);
    if (object.is_undefined()) {
      fail_undefined(object);
    } else if (object.name_space() == nullptr) {
      fail("cannot assign an attribute of '" + target.text + "': it is no namespace");
    } else {
      set_attribute(*object.name_space(), target.names.front(), std::move(value));
    }
  } else {
    const auto items = iterate(value);
    if (!failed() && items->size() != target.items.size()) {
      fail(std::to_string(items->size()) + " values for " + std::to_string(target.items.size()) + " names");
    }
    for (std::size_t i = 0; i < target.items.size() && !failed(); ++i) assign(*target.items[i], (*items)[i]);
  }
}

}  // namespace tokenworks::tokenizer::jinja
