#pragma once
// PreTokenizer: cuts normalized text into the pieces that are encoded one by one, as a list of steps (`tokenizers`:
// pre_tokenizers). Immutable; any thread.
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/regex.hpp"

namespace tokenworks::tokenizer {

enum class Behavior : std::uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct Split {
  Regex pattern;
  Behavior behavior = Behavior::isolated;
  bool invert = false;  // what does not match is the delimiter
};
struct AddPrefixSpace {};  // byte-level: a space before a piece that has none
struct Metaspace {
  enum class Prepend : std::uint8_t { never, first, always } prepend = Prepend::always;
  std::string mark;  // what replaces a space, one character
  bool split = true;
  Regex marks;  // matches `mark`
};
struct BertWords {};  // white space goes, punctuation stands alone
using PreTokenizerStep = std::variant<Split, AddPrefixSpace, Metaspace, BertWords>;

class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view piece)>;

  void add(PreTokenizerStep step);
  bool empty() const { return steps_.empty(); }
  // Calls `sink` for every piece in order; a piece is valid during the call. `at_start`: the text begins the whole
  // input.
  void run(std::string_view text, bool at_start, const Sink& sink) const;
  std::string describe() const;  // what the digest covers

 private:
  void step(std::size_t index, std::string_view text, bool at_start, const Sink& sink) const;
  void words(std::size_t index, std::string_view text, bool at_start, const Sink& sink) const;
  void split(const Split& how, std::size_t index, std::string_view text, bool at_start, const Sink& sink) const;
  std::vector<PreTokenizerStep> steps_;
};

// Patterns of the families, as their tokenizer.json files write them.
extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;
extern const char* const kQwen2Pattern;
// Digits one by one, then GPT-2's: StarCoder, SmolLM. One pattern that cuts as the two steps do.
std::string digits_and_gpt2_pattern();

}  // namespace tokenworks::tokenizer
