#include "prompt.hpp"

#include <algorithm>

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

Result<std::vector<TokenId>> encode_chat(const GenerateRequest::Chat& chat, const ServedModel& model, std::int64_t unix_seconds) {
  const std::size_t most = static_cast<std::size_t>(model.engine->info().context_tokens) * model.longest_token_bytes;
  if (chat.messages.text.size() + chat.tools.text.size() > 8 * most + (1 << 16)) return too_long(0, model, "messages");
  tokenizer::ChatInput input;
  input.messages = chat.messages;
  input.tools = chat.tools;
  input.extra = chat.template_kwargs;
  input.special = model.special;
  input.unix_seconds = unix_seconds;
  auto parts = model.chat_template->render(input);
  if (!parts) {
    Error e = parts.error();
    if (e.param.empty()) e.param = "messages";
    return e;
  }
  std::size_t bytes = 0;
  for (const auto& part : *parts) bytes += part.text.size();
  if (bytes > most) return too_long(0, model, "messages");
  return model.tokenizer->encode_parts(*parts);
}

}  // namespace

std::size_t prompt_bytes(const GenerateRequest& request) {
  std::size_t bytes = 0;
  for (const auto& prompt : request.prompts) {
    if (const auto* chat = std::get_if<GenerateRequest::Chat>(&prompt)) bytes += chat->messages.text.size() + chat->tools.text.size();
    if (const auto* text = std::get_if<std::string>(&prompt)) bytes += text->size();
  }
  return bytes;
}

Result<std::vector<std::vector<TokenId>>> encode_prompts(const GenerateRequest& request, const ServedModel& model,
                                                         std::int64_t unix_seconds) {
  const model::RunnerInfo& info = model.engine->info();
  std::vector<std::vector<TokenId>> all;
  for (const auto& prompt : request.prompts) {
    std::vector<TokenId> ids;
    const char* param = "prompt";
    if (const auto* chat = std::get_if<GenerateRequest::Chat>(&prompt)) {
      param = "messages";
      auto encoded = encode_chat(*chat, model, unix_seconds);
      if (!encoded) return encoded.error();
      ids = std::move(*encoded);
    } else if (const auto* text = std::get_if<std::string>(&prompt)) {
      if (text->size() > static_cast<std::size_t>(info.context_tokens) * model.longest_token_bytes) return too_long(0, model, param);
      ids = model.tokenizer->encode(*text);
      if (const auto bos = model.tokenizer->bos()) ids.insert(ids.begin(), *bos);
    } else {
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
