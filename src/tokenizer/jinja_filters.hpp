#pragma once
// The filters, in two source files by what they work on, as tables that jinja_filters.cpp joins. Private to
// jinja_*.cpp.
#include <span>

#include "tokenizer/jinja_machine.hpp"

namespace tokenworks::tokenizer::jinja {

struct NamedFilter {
  const char* name;
  Filter filter;
};
std::span<const NamedFilter> text_filters();
std::span<const NamedFilter> sequence_filters();

// str(v) as a value that shares the text when it is one already.
Text text_of(Machine& m, const Value& v);
// The lower-cased text, or the value itself: how sort, unique, min and the like compare without case.
Value without_case(Machine& m, const Value& v, bool case_sensitive);

}  // namespace tokenworks::tokenizer::jinja
