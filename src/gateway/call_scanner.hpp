#pragma once
// CallScanner: one call as a model writes it, read byte by byte: {"name": "f", "arguments": {...}} ("parameters" for the
// Llama family), f[ARGS]{...}, or tags (call_tags.cpp). The arguments are passed on as they come, once the name is known. A pure automaton: what
// it gives does not depend on how the text is cut. Used by CallParser.
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tokenworks/gateway/tools.hpp"

namespace tokenworks::gateway {

// What a piece of an answer's text turned out to be.
struct AnswerPieces {
  std::string text;
  std::vector<CallDelta> calls;                      // ids are not filled in here

  void begin(std::uint32_t index, std::string name) { calls.push_back({index, {}, std::move(name), {}}); }
  void argument(std::uint32_t index, std::string_view text_of) {
    if (calls.empty() || calls.back().index != index) calls.push_back({index, {}, {}, {}});
    calls.back().arguments += text_of;
  }
};

// By tool: the parameters that a form with tags writes as text, not as JSON.
using TextParameters = std::map<std::string, std::set<std::string>>;

class CallScanner {
 public:
  enum class Way : std::uint8_t { object, bare, tags };
  // `known`: only calls of these names are calls; null: any name. `texts` outlives the scanner; only tags need it.
  CallScanner(std::uint32_t index, const std::vector<std::string>* known, Way way = Way::object, const TextParameters* texts = nullptr)
      : index_(index), known_(known), texts_(texts),
        place_(way == Way::bare ? Place::bare_name : way == Way::tags ? Place::tag_function : Place::before) {}

  enum class State : std::uint8_t { running, done, failed };
  // done: the byte closed the call. failed: the byte is none of a call; it is not consumed.
  State push(char c, AnswerPieces& out);
  bool begun() const { return begun_; }              // its name was passed on: it cannot be text any more

 private:
  enum class Place : std::uint8_t { before, before_key, key, after_key, before_value, name, arguments, quoted_arguments, skipped, after_value,
                                     bare_name, bare_before, bare_arguments,
                                     tag_function, tag_name, tag_between, tag_key, tag_value };
  State tag(char c, AnswerPieces& out);
  State tag_text(char c, AnswerPieces& out);
  void tag_begins(AnswerPieces& out);
  void tag_flush(std::size_t bytes, AnswerPieces& out);
  State bare_name(char c, AnswerPieces& out);
  State value_begins(char c, AnswerPieces& out);
  State name_ends();
  State close(AnswerPieces& out);
  void pass_on(std::string_view arguments, AnswerPieces& out);
  void begin(AnswerPieces& out);
  bool nested(char c);                               // follows strings and brackets; true when a bracket closes the outermost
  bool quoted(char c);                               // true when the string in word_ is whole

  std::uint32_t index_;
  const std::vector<std::string>* known_;
  const TextParameters* texts_;
  Place place_;
  std::string waiting_value_;                        // tags: a value that is not text, until it is whole
  std::string word_, key_, name_, waiting_;          // waiting_: arguments that came before the name
  bool as_text_ = false, fresh_ = false;             // tags: the value is text; nothing of it came yet
  bool named_ = false, begun_ = false, argued_ = false, escaped_ = false, string_ = false;
  std::size_t depth_ = 0;
};

}  // namespace tokenworks::gateway
