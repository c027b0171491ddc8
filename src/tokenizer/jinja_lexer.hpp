#pragma once
// Turns a template into tokens exactly as Jinja2 3.1 does with trim_blocks and lstrip_blocks on (jinja2/lexer.py): the
// white space that tags eat is decided here and nowhere else. Pure.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::tokenizer::jinja {

struct Token {
  enum class Kind {
    data,
    block_begin,
    block_end,
    variable_begin,
    variable_end,
    name,
    string,
    integer,
    number,
    op,
    end
  } kind = Kind::end;
  std::string text;                                  // data, name, string (unescaped), op
  std::int64_t integer = 0;
  double number = 0;
  int line = 1;
};

// Always ends with a token `end`. Error bad_file: "line N: ...".
Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace tokenworks::tokenizer::jinja
