#pragma once
// Codecs of requests about texts: OpenAI's /v1/embeddings, and /v1/tokenize and /v1/detokenize in the shapes vLLM gave them.
// Pure functions, any thread.
#include <string>
#include <string_view>

#include "openai_request.hpp"
#include "tokenworks/gateway/texts.hpp"

namespace tokenworks::http {

struct ParsedEmbedding {
  gateway::EmbedRequest request;
  bool base64 = false;                               // encoding_format
};
Result<ParsedEmbedding> parse_embedding(std::string_view body, const config::Plant::Limits& limits);
std::string embedding_json(const gateway::Embedded& embedded, bool base64);
// Little-endian fp32, as numpy reads it.
std::string base64_of(const std::vector<float>& vector);

Result<gateway::TokenizeRequest> parse_tokenize(std::string_view body, const config::Plant::Limits& limits);
std::string tokenize_json(const gateway::Tokenized& tokens);
Result<gateway::DetokenizeRequest> parse_detokenize(std::string_view body);

}  // namespace tokenworks::http
