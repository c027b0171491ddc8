#include "prompt.hpp"

#include <algorithm>

#include "constraint.hpp"

namespace tokenworks::gateway {
namespace {

Error too_long(std::int64_t tokens, const ServedModel& model, const char* param) {
  const std::int64_t context = model.engine->info().context_tokens;
  return error(Errc::context_length_exceeded,
               "This model's maximum context length is " + std::to_string(context) + " tokens, but the prompt has " +
                   (tokens > 0 ? std::to_string(tokens) : "far more than that") + " and at least one token must be left for the answer. "
                   "Shorten the prompt.",
               param);
}

// The prompt as the model's template writes it. One that knows no tools gets messages that do without; where it refuses a
// system message for them, they are stated to the user's first message.
Result<std::vector<tokenizer::Tokenizer::Part>> render(const GenerateRequest& request, const GenerateRequest::Chat& chat,
                                                       const ServedModel& model, std::int64_t unix_seconds) {
  tokenizer::ChatInput input;
  input.extra = template_variables(chat.template_kwargs, chat.no_reasoning || request.tools.forced());
  input.special = model.special;
  input.unix_seconds = unix_seconds;
  input.add_generation_prompt = chat.opens_answer;
  if (model.style.calls != CallForm::generic) {
    input.messages = chat.messages;
    input.tools = chat.tools;
    return model.chat_template->render(input);
  }
  input.messages = generic_messages(chat.messages, chat.tools, request.tools, false);
  auto parts = model.chat_template->render(input);
  if (parts || chat.tools.empty()) return parts;
  input.messages = generic_messages(chat.messages, chat.tools, request.tools, true);
  auto again = model.chat_template->render(input);
  return again ? std::move(again) : std::move(parts);
}

Result<std::vector<TokenId>> encode_chat(const GenerateRequest& request, const GenerateRequest::Chat& chat,
                                         const ServedModel& model, std::int64_t unix_seconds, AnswerBegin& begin) {
  const std::size_t most = static_cast<std::size_t>(model.engine->info().context_tokens) * model.longest_token_bytes;
  if (chat.messages.text.size() + chat.tools.text.size() > 8 * most + (1 << 16)) return too_long(0, model, "messages");
  auto parts = render(request, chat, model, unix_seconds);
  if (!parts) {
    Error e = parts.error();
    if (e.param.empty()) e.param = "messages";
    return e;
  }
  if (!chat.continues) {
    begin = end_prompt(*parts, model.style, request, chat.no_reasoning, constrained(request));
  } else if (cut_behind(*parts, *chat.continues)) {
    const std::string& said = *chat.continues;
    const std::size_t open = model.style.think_open.empty() ? std::string::npos : said.rfind(model.style.think_open);
    begin.thinking = open != std::string::npos && said.find(model.style.think_close, open) == std::string::npos;
  } else {
    return error(Errc::invalid_request, "the last message cannot be continued: this model's template does not write it as it is at the end of the prompt",
                 "continue_final_message");
  }
  std::size_t bytes = 0;
  for (const auto& part : *parts) bytes += part.text.size();
  if (bytes > most) return too_long(0, model, "messages");
  return model.tokenizer->encode_parts(*parts);
}

// Fill in the middle: the text before and behind, marked with the model's own tokens for it.
Result<std::vector<TokenId>> encode_middle(const std::string& text, const std::string& suffix, const ServedModel& model) {
  if (!model.style.middle) {
    return error(Errc::unsupported_parameter, "'suffix' is not supported by this model: it has no tokens to fill in the middle with", "suffix");
  }
  const AnswerStyle::Middle& middle = *model.style.middle;
  std::vector<TokenId> ids;
  if (const auto bos = model.tokenizer->bos()) ids.push_back(*bos);
  const auto add = [&](TokenId marker, const std::string& piece) {
    ids.push_back(marker);
    const auto encoded = model.tokenizer->encode(piece);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  };
  if (middle.suffix_first) add(middle.before_suffix, suffix);
  add(middle.before_prefix, text);
  if (!middle.suffix_first) add(middle.before_suffix, suffix);
  if (middle.after) ids.push_back(*middle.after);
  return ids;
}

}  // namespace

std::size_t prompt_bytes(const GenerateRequest& request) {
  std::size_t bytes = 0;
  for (const auto& prompt : request.prompts) {
    if (const auto* chat = std::get_if<GenerateRequest::Chat>(&prompt)) bytes += chat->messages.text.size() + chat->tools.text.size();
    if (const auto* text = std::get_if<std::string>(&prompt)) bytes += text->size() + (request.suffix ? request.suffix->size() : 0);
  }
  return bytes;
}

Result<std::vector<std::vector<TokenId>>> encode_prompts(const GenerateRequest& request, const ServedModel& model,
                                                         std::int64_t unix_seconds, AnswerBegin& begin) {
  const model::RunnerInfo& info = model.engine->info();
  std::vector<std::vector<TokenId>> all;
  for (const auto& prompt : request.prompts) {
    std::vector<TokenId> ids;
    const char* param = "prompt";
    if (const auto* chat = std::get_if<GenerateRequest::Chat>(&prompt)) {
      param = "messages";
      auto encoded = encode_chat(request, *chat, model, unix_seconds, begin);
      if (!encoded) return encoded.error();
      ids = std::move(*encoded);
    } else if (const auto* text = std::get_if<std::string>(&prompt)) {
      const std::size_t behind = request.suffix ? request.suffix->size() : 0;
      if (text->size() + behind > static_cast<std::size_t>(info.context_tokens) * model.longest_token_bytes) {
        return too_long(0, model, param);
      }
      if (request.suffix) {
        auto encoded = encode_middle(*text, *request.suffix, model);
        if (!encoded) return encoded.error();
        ids = std::move(*encoded);
      } else {
        ids = model.tokenizer->encode(*text);
        if (const auto bos = model.tokenizer->bos()) ids.insert(ids.begin(), *bos);
      }
    } else {
      if (request.suffix) return error(Errc::invalid_request, "'suffix' needs a prompt of text, not of token ids", "suffix");
      ids = std::get<std::vector<TokenId>>(prompt);
      const auto foreign = std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return id < 0 || id >= info.vocab; });
      if (foreign != ids.end()) {
        return error(Errc::invalid_request, "token id " + std::to_string(*foreign) + " is not in this model's vocabulary of " +
                                                std::to_string(info.vocab) + " tokens; ids of another tokenizer cannot be used", param);
      }
    }
    if (ids.empty()) return error(Errc::invalid_request, "the prompt is empty", param);
    if (static_cast<std::int64_t>(ids.size()) >= info.context_tokens) {
      return too_long(static_cast<std::int64_t>(ids.size()), model, param);
    }
    all.push_back(std::move(ids));
  }
  if (all.empty()) return error(Errc::invalid_request, "the request has no prompt", "prompt");
  return all;
}

}  // namespace tokenworks::gateway
