#pragma once
// Machine: runs a Program. There is nothing to escape to: it sees its variables and the functions named in this room,
// and no call does I/O. Steps, output, nesting and memory are bounded. After the first failure every operation yields
// undefined and every statement stops, so that errors need no exceptions; `failure` says what and on which line.
// One run per object; one thread.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/jinja_ast.hpp"
#include "tokenizer/jinja_value.hpp"
#include "tokenworks/base/error.hpp"

namespace tokenworks::tokenizer::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;
  Value* find(const std::string& name);
  void set(const std::string& name, Value value);
};

struct Arguments {
  std::vector<Value> items;
  std::vector<std::pair<std::string, Value>> named;
};

class Machine {
 public:
  static constexpr std::int64_t kStepsMax =
      10'000'000;  // one per node, value in a container, and 16 bytes of text made
  static constexpr std::size_t kTextBytesMax = 16 << 20;  // of the output, and of any one string
  static constexpr std::int64_t kItemsMax =
      100'000;                           // of range(), as Jinja's sandbox has it; of any list ten times that
  static constexpr int kDepthMax = 600;  // of evaluation: calls, loops and expressions inside each other

  Machine(const Program& program, std::int64_t unix_seconds);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void define(const std::string& name, Value value);
  // False when the template failed.
  bool run();
  const Text& output() const { return out_; }
  const Error& failure() const { return *failure_; }

  // For filters, tests and methods.
  bool failed() const { return failure_.has_value(); }
  Value fail(const std::string& what);               // undefined
  Value fail_undefined(const Value& v);              // an undefined value was used where that is an error
  bool charge(std::int64_t steps);                   // false: the steps are used up
  Value text(Text t);
  Value text(std::string bytes, bool trusted) { return text(Text(std::move(bytes), trusted)); }
  Value list(std::vector<Value> items, Sequence::Kind kind = Sequence::Kind::list, std::string label = {});
  Value dict(std::shared_ptr<Dict> d);
  bool put(Dict& d, const Value& key, Value value);  // with the failure of an unhashable key
  Value undefined(std::string why) { return Undefined{std::make_shared<const std::string>(std::move(why))}; }
  Text str(const Value& v);                          // str(v), charged
  bool same(const Value& a, const Value& b);         // a == b, charged
  // What `for` goes over: characters, keys, items. Never null.
  std::shared_ptr<const std::vector<Value>> iterate(const Value& v);
  std::optional<std::int64_t> length(const Value& v);   // len(); nullopt after failing
  bool contains(const Value& container, const Value& v);   // v in container
  std::optional<int> order(const Value& a, const Value& b);   // <=>, with the failure
  Value binary(const std::string& op, const Value& a, const Value& b);
  Value get_attribute(const Value& object, const std::string& name);
  Value get_item(const Value& object, const Value& key);
  // "a.b.0" as filters take it, or an int; undefined `path` gives the object itself.
  Value get_path(const Value& object, const Value& path);
  Value call(const Value& callee, Arguments& arguments);
  Value filter(const std::string& name, const Value& subject, Arguments& arguments);
  bool test(const std::string& name, const Value& subject, Arguments& arguments);
  std::int64_t unix_seconds() const { return unix_seconds_; }
  std::shared_ptr<Namespace> make_namespace();
  bool set_attribute(Namespace& n, const std::string& name, Value value);

 private:
  enum class Flow { next, break_, continue_ };
  class Nest {                                       // one level of evaluation inside another
   public:
    explicit Nest(Machine& machine) : machine_(machine) {
      if (++machine_.depth_ > kDepthMax) machine_.fail("calls and expressions are nested too deep");
    }
    ~Nest() { --machine_.depth_; }

   private:
    Machine& machine_;
  };

  Flow statements(const std::vector<const Node*>& body);
  Flow statement(const Node& node);
  Flow if_statement(const Node& node);
  Flow for_statement(const Node& node, const Value& iterable, int depth0);
  Flow scoped(const std::vector<const Node*>& body);
  void write(const Text& text);
  Text capture(const std::function<void()>& run);
  void assign(const Node& target, Value value);

  Value evaluate(const Node& node);
  Value compare(const Node& node);
  Value make_dict(const Node& node);
  Value slice(const Node& node);
  Value call_node(const Node& node);
  Arguments arguments(const Node& node);
  Value filter_chain(const Node& node, const Value& body);
  Value look_up(const std::string& name);
  Value call_macro(const Macro& macro, Arguments& arguments);
  Value call_function(const Function& function, Arguments& arguments);
  Value call_loop(Loop& loop, Arguments& arguments);
  Value loop_attribute(Loop& loop, const Value& self, const std::string& name);
  std::shared_ptr<Scope> enter(std::shared_ptr<Scope> parent);

  const Program& program_;
  const std::int64_t unix_seconds_;
  std::shared_ptr<Scope> scope_;
  Text out_;
  std::optional<Error> failure_;
  int line_ = 1, depth_ = 0;
  std::int64_t steps_ = 0;
  // What can point at itself (a macro at its scope, a namespace at itself) is emptied when the run ends.
  std::vector<std::shared_ptr<Scope>> macro_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// The tables behind Machine's calls. Null for an unknown name.
using Filter = Value (*)(Machine&, const Value& subject, Arguments&);
using Test = bool (*)(Machine&, const Value& subject, Arguments&);
Filter find_filter(const std::string& name);
Test find_test(const std::string& name);
// Methods of str, list, tuple and dict.
bool has_method(const Value& self, const std::string& name);
Value call_method(Machine& machine, const Value& self, const std::string& name, Arguments& arguments);
bool is_unsafe_method(const Value& self, const std::string& name);  // would change a list or dict: the sandbox hides it

// Arguments by position or name, as a Python signature. Fails the machine when they do not fit.
class Parameters {
 public:
  Parameters(Machine& machine, const std::string& function, Arguments& arguments,
             std::initializer_list<const char*> names, std::size_t required = 0);
  bool has(std::size_t i) const { return values_[i].has_value(); }
  Value value(std::size_t i) const { return values_[i].value_or(Value()); }
  Value value(std::size_t i, Value otherwise) const { return values_[i].value_or(std::move(otherwise)); }
  std::int64_t integer(std::size_t i, std::int64_t otherwise);       // fails on another type
  bool truth(std::size_t i, bool otherwise) const;
  const Text* text(std::size_t i);                   // null when absent or None; fails on another type

 private:
  Machine& machine_;
  std::string function_;
  std::vector<const char*> names_;
  std::vector<std::optional<Value>> values_;
};

// Python's int(text): digits with signs, spaces around and single underscores. nullopt when it is none or too large.
std::optional<std::int64_t> parse_integer(std::string_view text, int base = 10);
std::optional<double> parse_float(std::string_view text);
// `format % values` and format.format(...).
Value format_percent(Machine& machine, const Text& format, const Value& values);
Value format_braces(Machine& machine, const Text& format, Arguments& arguments);
// transformers' tojson: json.dumps with its spacing; `indent` null: one line.
struct JsonStyle {
  std::optional<Text> indent;
  std::string item_separator = ", ", key_separator = ": ";
  bool ascii = false, sort_keys = false;
};
Value to_json(Machine& machine, const Value& v, const JsonStyle& style);
// Text of JSON as untrusted values, key order kept. nullopt when it is none.
std::optional<Value> from_json(std::string_view text);

}  // namespace tokenworks::tokenizer::jinja
