#pragma once
// Calls of functions as a grammar: framed JSON objects, each by the schema of its own function, after free text or at
// once. The frames are data, so that this room knows no model family. The source is a JSON object:
//   free       true: text may come before the calls, or no call at all
//   marker     with free: what begins the calls; the text before does not contain it. "": there is none, and an answer
//              that begins with '{' is a call
//   instead    with free: a JSON Schema; the answer is a call or a value of it, not any text
//   begin, separator, end    around and between the calls; absent: nothing
//   controls   spellings that are control tokens where they stand in these texts
//   several    more than one call may be written
//   In a call  in_tags: its arguments are no object but <parameter=key>, a line with the value and </parameter>, in the order
//              of the root's properties; those in "texts" stand there as they are, the others as JSON. open: anything
//   calls      [{"begin", "parameters", "end", "param"}]: a JSON Schema between two texts; its root is an object. Without
//              "parameters" the object is empty. `param` leads the path of a mistake
#include "grammar/budget.hpp"
#include "grammar/rule_book.hpp"
#include "grammar/shape.hpp"
#include "tokenworks/grammar/grammar.hpp"

namespace tokenworks::grammar {

// The start rule. Mistakes go to the budget; those of a schema with the path of the keyword as their param.
RuleId parse_calls(const Json& source, const Limits& limits, RuleBook& book, Budget& budget);

}  // namespace tokenworks::grammar
