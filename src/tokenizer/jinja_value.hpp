#pragma once
// Value: what a template computes with: Python's None, bool, int (64 bits), float, str, list, tuple, dict and the few
// objects Jinja adds. Containers are immutable once made, so values share them freely; only a Namespace changes.
// Every container knows its depth and weight, which Machine bounds and charges for: no recursion below can run out of
// stack, and no small template can make a walk over it long (a list of twice the same list, forty times). One thread.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/jinja_text.hpp"

namespace tokenworks::tokenizer::jinja {

struct Node;
struct Scope;
class Value;

struct Undefined {
  std::shared_ptr<const std::string> why;            // the message of using it; null: just "undefined"
};
struct None {};

struct Sequence {
  enum class Kind { list, tuple, generator, view, range } kind = Kind::list;
  std::vector<Value> items;
  std::string label;                                 // "range(0, 3)", "dict_items", "group" (a tuple with names)
  mutable bool consumed = false;                     // a generator gives its items once
  int depth = 1;
  std::int64_t weight = 1;
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;      // in insertion order
  std::unordered_map<std::string, std::size_t> index;   // by key_of
  int depth = 1;
  std::int64_t weight = 1;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(const std::string& name);
};

struct Macro {
  const Node* node = nullptr;
  std::shared_ptr<Scope> scope;                      // where it was defined
  std::string name;
};

struct Loop {
  std::shared_ptr<const std::vector<Value>> items;
  std::size_t index0 = 0;
  int depth0 = 0;
  const Node* node = nullptr;                        // of a recursive loop
  std::shared_ptr<Scope> scope;                      // around it
  std::optional<std::vector<Value>> changed;   // what loop.changed saw last
};

// A global function, or a method bound to `self`.
struct Function {
  std::string name;
  std::shared_ptr<const Value> self;                 // null for a global
};

class Value {
 public:
  using Storage = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const Text>,
                               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                               std::shared_ptr<const Macro>, std::shared_ptr<Loop>, std::shared_ptr<const Function>>;
  Value() = default;                                 // undefined
  template <class T>
    requires std::constructible_from<Storage, T>
  Value(T value) : storage_(std::move(value)) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(storage_); }
  bool is_none() const { return std::holds_alternative<None>(storage_); }
  bool is_bool() const { return std::holds_alternative<bool>(storage_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(storage_); }
  bool is_float() const { return std::holds_alternative<double>(storage_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  const Text* text() const { return pointer<std::shared_ptr<const Text>>(); }
  const Sequence* sequence() const { return pointer<std::shared_ptr<const Sequence>>(); }
  const Dict* dict() const { return pointer<std::shared_ptr<const Dict>>(); }
  Namespace* name_space() const { return pointer<std::shared_ptr<Namespace>>(); }
  const Macro* macro() const { return pointer<std::shared_ptr<const Macro>>(); }
  Loop* loop() const { return pointer<std::shared_ptr<Loop>>(); }
  const Function* function() const { return pointer<std::shared_ptr<const Function>>(); }
  bool boolean() const { return std::get<bool>(storage_); }
  // bool counts as 0 or 1 wherever Python lets it.
  std::optional<std::int64_t> integer() const;
  std::optional<double> number() const;
  const Storage& storage() const { return storage_; }

  int depth() const;
  std::int64_t weight() const;  // what a walk over it costs: values inside, and 16 bytes of text as one
  const char* type_name() const;                     // "str", "list", "Undefined", ...

 private:
  template <class P>
  auto pointer() const -> typename P::element_type* {
    const P* p = std::get_if<P>(&storage_);
    return p == nullptr ? nullptr : p->get();
  }
  Storage storage_;
};

inline constexpr int kDepthMax = 100;                // of containers inside containers
inline constexpr std::int64_t kWeightMax = std::int64_t{1} << 40;   // where weights stop growing
std::shared_ptr<Sequence> make_sequence(Sequence::Kind kind, std::vector<Value> items, std::string label = {});

bool truth(const Value& v);
bool equal(const Value& a, const Value& b);          // ==
bool identical(const Value& a, const Value& b);      // is
// -1, 0, 1; nullopt when Python would refuse to order them.
std::optional<int> compare(const Value& a, const Value& b);
// A text two values share exactly when they are the same dict key; nullopt for what cannot be one.
std::optional<std::string> key_of(const Value& v);
const Value* find(const Dict& dict, const Value& key);
const Value* find(const Dict& dict, const std::string& key);
// Sets a key, keeping its place when it was there. False when the key cannot be one.
bool put(Dict& dict, const Value& key, Value value);

// str() and repr(); with trusted marks where the characters come from.
Text to_text(const Value& v);
void append_repr(const Value& v, Text& out);

}  // namespace tokenworks::tokenizer::jinja
