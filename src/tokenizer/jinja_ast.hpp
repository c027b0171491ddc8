#pragma once
// The syntax tree of a template. One node type with general fields keeps parser and interpreter short; which fields a
// kind uses stands beside it. A Program owns all nodes; they point at each other raw. Immutable after parsing.
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/jinja_value.hpp"

namespace tokenworks::tokenizer::jinja {

struct Node {
  enum class Kind {
    // Expressions.
    constant,  // value
    name,      // text
    tuple,
    list,       // items
    dict,       // items (keys), others (values)
    attribute,  // x . text
    item,       // x [ y ]
    slice,      // x [ items[0] : items[1] : items[2] ], null where left out
    call,       // x ( arguments )
    filter,
    test,  // x | text ( arguments ); a filter block's first filter has no x
    negative,
    positive,
    not_,     // x
    binary,   // x text y; text: + - * / // % **
    concat,   // items
    compare,  // x, then names[i] items[i]
    and_,
    or_,               // x, y
    conditional,       // y if x else z (null: undefined)
    namespace_target,  // text . names[0], only on the left of set
    // Statements.
    output,        // items: constants and expressions
    if_,           // x, body, others (else, or one nested if_)
    for_,          // x (target), y (iterable), z (filter or null), body, others, flag: recursive
    set,           // x (target), y
    set_block,     // x (target), y (filter chain or null), body
    macro,         // text, names, items (defaults, at the right), body, flags below
    call_block,    // x (the call), macro-like names, items, body
    filter_block,  // x (filter chain), body
    with,          // items (targets), others (values), body
    generation,    // body
    break_,
    continue_
  } kind;
  int line = 1;
  std::string text;
  Value value;
  const Node *x = nullptr, *y = nullptr, *z = nullptr;
  std::vector<const Node*> items, others, body;
  std::vector<std::string> names;
  bool flag = false;
  bool wants_varargs = false, wants_kwargs = false, wants_caller = false;   // macro: names its body mentions

  // Arguments of call, filter and test: items by position, others by names[i], then * and **.
  const Node *star = nullptr, *star_star = nullptr;
};

struct Program {
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<const Node*> body;
};

}  // namespace tokenworks::tokenizer::jinja
