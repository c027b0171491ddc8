#pragma once
// CallParser: finds the calls of tools in an answer's text as it comes, in the way of the model's family, and gives the
// rest on as text. Text that could still become a marker is held back, white space before a marker is dropped. Pure: the
// same text gives the same text and calls however it is cut. One per choice, used by the request's coroutine alone.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "call_scanner.hpp"
#include "tokenworks/gateway/style.hpp"

namespace tokenworks::gateway {

class CallParser {
 public:
  // `inside`: the prompt ended with the marker. `names`: of the tools; where calls have no marker only these are calls.
  // `texts`: parameters that stand there as text, where the form has such.
  CallParser(CallForm form, std::string marker, bool inside, std::vector<std::string> names, TextParameters texts = {});

  void push(std::string_view text, AnswerPieces& out) {
    for (const char c : text) byte(c, out);
  }
  void finish(AnswerPieces& out);                    // what was held back
  bool called() const { return begun_ > 0; }         // at least one call has begun

 private:
  enum class Place : std::uint8_t { text, open, call, after };
  void byte(char c, AnswerPieces& out);
  void text_byte(char c, AnswerPieces& out);
  void open_byte(char c, AnswerPieces& out);
  void call_byte(char c, AnswerPieces& out);
  void after_byte(char c, AnswerPieces& out);
  void start_call(char c, AnswerPieces& out);
  void give_up(char c, AnswerPieces& out);           // it was no call: what was taken for one is text

  const CallForm form_;
  const std::string marker_;
  const std::vector<std::string> names_;
  const TextParameters texts_;
  Place place_ = Place::text;
  std::string held_;                                 // white space and the beginning of a marker; nothing else
  std::string taken_;                                // since the marker, while it could still be text
  std::optional<CallScanner> scanner_;
  std::uint32_t begun_ = 0;
  bool blank_ = true;                                // no text but white space so far
};

}  // namespace tokenworks::gateway
