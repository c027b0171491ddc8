#pragma once
// Requests about texts rather than answers: embeddings, and counting and translating tokens. Plain types, as codecs make
// them and Service takes them.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tokenworks/gateway/types.hpp"

namespace tokenworks::gateway {

struct EmbedRequest {
  std::string model;                                 // id or alias
  using Input = std::variant<std::string, std::vector<TokenId>>;
  std::vector<Input> inputs;                         // at least one, none empty
  std::optional<std::int64_t> dimensions;            // the first so many, normalized again; absent: all
  std::optional<Tier> tier;
  std::string data_class;
  std::map<std::string, std::string> tags;
  std::int64_t timeout_ns = 0;                       // x-request-timeout; 0: none
  std::int32_t retry_count = 0;
};
struct Embedded {
  Receipt receipt;
  RateState rates;
  std::vector<std::vector<float>> vectors;           // one per input, of length 1
};

struct TokenizeRequest {
  std::string model;
  std::variant<std::string, GenerateRequest::Chat> prompt;
  bool add_special_tokens = true;                    // of a plain prompt; a chat template writes its own
  bool token_strings = false;
};
struct Tokenized {
  std::string model;                                 // the id
  std::vector<TokenId> tokens;
  std::vector<std::string> token_strings;            // parallel to tokens, or empty
  std::int64_t context_tokens = 0;
  RateState rates;
};
struct DetokenizeRequest {
  std::string model;
  std::vector<TokenId> tokens;
};
struct Detokenized {
  std::string model, text;
  RateState rates;
};

}  // namespace tokenworks::gateway
