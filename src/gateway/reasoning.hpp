#pragma once
// ReasoningParser: parts what a model thinks (<think>...</think>) from what it answers, as the text comes. Thinking stands
// at the beginning of an answer or nowhere; the white space around the tags belongs to neither. Pure: the same text gives
// the same two parts however it is cut.
#include <string>
#include <string_view>

namespace tokenworks::gateway {

class ReasoningParser {
 public:
  // `inside`: the prompt ended with the opening tag.
  ReasoningParser(std::string open, std::string close, bool inside);

  void push(std::string_view text, std::string& reasoning, std::string& answer);
  void finish(std::string& reasoning, std::string& answer);   // what was held back
  bool thinking() const { return place_ == Place::inside; }

 private:
  enum class Place : std::uint8_t { start, inside, between, answer };
  void byte(char c, std::string& reasoning, std::string& answer);

  const std::string open_, close_;
  Place place_;
  std::string held_;                                 // white space and the beginning of a tag
  bool blank_ = true;                                // nothing was thought yet
};

}  // namespace tokenworks::gateway
