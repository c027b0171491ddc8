#pragma once
// ChatTemplate: the model's own Jinja template, interpreted by our own sandbox: no I/O, bounded steps and output, no way to
// reach anything but its inputs. The subset is what real templates use (Jinja2 as Hugging Face configures it: trim_blocks,
// lstrip_blocks, loop controls, tojson, raise_exception, strftime_now). Immutable; any thread.
//
// Every character of the output remembers whether the template or the caller wrote it, so a message that contains
// "<|im_start|>" never becomes a control token.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/base/json_text.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::tokenizer {

struct ChatInput {
  JsonText messages;                                 // an array of message objects, as the API received them
  JsonText tools;                                    // an array, or empty: the template sees none
  JsonText extra;                                    // an object of further variables (chat_template_kwargs), or empty
  bool add_generation_prompt = true;
  std::map<std::string, std::string> special;        // bos_token, eos_token, ...: trusted text
  std::int64_t unix_seconds = 0;                     // for strftime_now
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // bad_file with line and column when the template does not parse.
  static Result<std::shared_ptr<const ChatTemplate>> parse(const std::string& source);
  // invalid_request: the template raised an exception or met a value it cannot use; message says what and the line.
  virtual Result<std::vector<Tokenizer::Part>> render(const ChatInput& input) const = 0;
};

// ChatML, for a model that brings no template.
const std::string& default_chat_template();

}  // namespace tokenworks::tokenizer
