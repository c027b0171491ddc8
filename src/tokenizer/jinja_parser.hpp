#pragma once
// Parses a template into a Program, following jinja2/parser.py rule by rule. Tags that need files or another template
// (include, import, extends, block) are refused by name. Nesting is bounded. Pure.
#include <string_view>

#include "tokenizer/jinja_ast.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::tokenizer::jinja {

// Error bad_file: "line N: ...".
Result<std::shared_ptr<const Program>> parse(std::string_view source);

}  // namespace tokenworks::tokenizer::jinja
