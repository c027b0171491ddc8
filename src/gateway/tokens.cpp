#include "tokens.hpp"

#include "prompt.hpp"
#include "tool_prompt.hpp"

namespace tokenworks::gateway {
namespace {

// What an answer's prompt would be.
Result<std::vector<TokenId>> chat_tokens(const TokenizeRequest& request, const ServedModel& model, std::int64_t unix_seconds) {
  GenerateRequest whole;
  whole.model = request.model;
  whole.prompts.emplace_back(std::get<GenerateRequest::Chat>(request.prompt));
  AnswerBegin begin;
  auto prompts = encode_prompts(whole, model, unix_seconds, begin);
  if (!prompts) return prompts.error();
  return std::move(prompts->front());
}

}  // namespace

std::size_t text_bytes(const TokenizeRequest& request) {
  if (const auto* text = std::get_if<std::string>(&request.prompt)) return text->size();
  const auto& chat = std::get<GenerateRequest::Chat>(request.prompt);
  return chat.messages.text.size() + chat.tools.text.size();
}

Result<Tokenized> tokens_of(const TokenizeRequest& request, const ServedModel& model, std::int64_t unix_seconds) {
  Tokenized out;
  out.model = model.card.id;
  out.context_tokens = model.engine->info().context_tokens;
  const tokenizer::Tokenizer& tokenizer = *model.tokenizer;
  if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    out.tokens = tokenizer.encode(*text);
    if (const auto first = tokenizer.bos(); first && request.add_special_tokens) out.tokens.insert(out.tokens.begin(), *first);
    if (const auto last = tokenizer.end_of_text(); last && request.add_special_tokens) out.tokens.push_back(*last);
  } else {
    if (!model.engine->info().generates) {
      return error(Errc::invalid_request, "The model '" + model.card.id + "' makes embeddings only and has no chat template; send 'prompt'", "messages");
    }
    auto tokens = chat_tokens(request, model, unix_seconds);
    if (!tokens) return tokens.error();
    out.tokens = std::move(*tokens);
  }
  if (request.token_strings) {
    out.token_strings.reserve(out.tokens.size());
    for (const TokenId id : out.tokens) {
      out.token_strings.push_back(tokenizer.is_control(id) ? tokenizer.decode({id}, true) : tokenizer.token_bytes(id));
    }
  }
  return out;
}

Result<Detokenized> text_of(const DetokenizeRequest& request, const ServedModel& model) {
  const std::int32_t vocab = model.tokenizer->vocab_size();
  for (const TokenId id : request.tokens) {
    if (id < 0 || id >= vocab) {
      return error(Errc::invalid_request, "token id " + std::to_string(id) + " is not in this model's vocabulary of " +
                                              std::to_string(vocab) + " tokens", "tokens");
    }
  }
  Detokenized out;
  out.model = model.card.id;
  out.text = model.tokenizer->decode(request.tokens, true);
  return out;
}

}  // namespace tokenworks::gateway
