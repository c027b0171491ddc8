#pragma once
// Normalizer: what happens to text before it is cut into pieces, as a list of steps (`tokenizers`: normalizers).
// Immutable; any thread.
#include <string>
#include <variant>
#include <vector>

#include "tokenizer/bert_text.hpp"
#include "tokenizer/marked_text.hpp"
#include "tokenizer/regex.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {

struct UnicodeForm {
  NormalForm form;
};
struct Lowercase {};
struct StripSpace {
  bool left, right;
};
struct Prepend {
  std::string text;  // put before text that is not empty
};
struct Replace {
  Regex pattern;
  std::string with;
};
using NormalizerStep = std::variant<UnicodeForm, Lowercase, StripSpace, Prepend, Replace, BertText>;

class Normalizer {
 public:
  void add(NormalizerStep step);
  bool empty() const { return steps_.empty(); }
  MarkedText apply(MarkedText text) const;
  // Writes what the digest covers.
  std::string describe() const;

 private:
  std::vector<NormalizerStep> steps_;
};

// Appends `text` with every match of `pattern` replaced.
void replace_all(std::string_view text, const Regex& pattern, std::string_view with, std::string& to);

}  // namespace tokenworks::tokenizer
