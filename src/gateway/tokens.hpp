#pragma once
// Tokens of a text and text of tokens, for /v1/tokenize and /v1/detokenize. Pure; called on the IO thread for short texts and
// on a worker for long ones.
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/gateway/texts.hpp"

namespace tokenworks::gateway {

std::size_t text_bytes(const TokenizeRequest& request);
// A plain text is read as an answer's prompt would be: special spellings in it stay plain characters.
Result<Tokenized> tokens_of(const TokenizeRequest& request, const ServedModel& model, std::int64_t unix_seconds);
// invalid_request (param "tokens") for an id that is not in the vocabulary.
Result<Detokenized> text_of(const DetokenizeRequest& request, const ServedModel& model);

}  // namespace tokenworks::gateway
