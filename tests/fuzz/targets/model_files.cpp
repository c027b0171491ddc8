// Files of models: a GGUF file whole, down to its tokenizer; the header of a safetensors file; a tokenizer.json.
#include <span>
#include <string>

#include "formats/model_data.hpp"
#include "formats/safetensors.hpp"
#include "fuzz/targets.hpp"
#include "tokenworks/formats/inspect.hpp"
#include "tokenworks/tokenizer/chat_template.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::fuzz {
namespace {

// A copy of exactly these bytes, so that a sanitizer sees a read behind them.
std::string exact(std::string_view input) {
  std::string bytes(input);
  bytes.shrink_to_fit();
  return bytes;
}

void inside(const formats::TensorView& tensor, const char* begin, std::size_t size) {
  const char* at = reinterpret_cast<const char*>(tensor.bytes.data());
  must(tensor.bytes.empty() || (at >= begin && at + tensor.bytes.size() <= begin + size), "a tensor outside its file");
}

void use(const formats::TokenizerData& data) {
  const auto made = tokenizer::Tokenizer::make(data);
  if (!made) return;
  const tokenizer::Tokenizer& tokenizer = **made;
  for (const char* text : {"", "a ab abc", "Hello, w\xC3\xB6rld! <|im_end|> 12 345\n\n\t x", "\xF0\x9F\x98\x80\xFF\xC3"}) {
    for (const bool trusted : {false, true}) {
      const auto ids = trusted ? tokenizer.encode_trusted(text) : tokenizer.encode(text);
      for (const TokenId id : ids) must(id >= 0 && id < tokenizer.vocab_size(), "an id outside the vocabulary");
      tokenizer.decode(ids, trusted);
    }
  }
  for (TokenId id = 0; id < tokenizer.vocab_size() && id < 300; ++id) tokenizer.token_bytes(id);
}

}  // namespace

void gguf(std::string_view input) {
  const auto source = memory_source("fuzz.gguf", exact(input));
  auto read = formats::read_gguf(source);
  if (!read) {
    must(!read.error().message.empty(), "a refusal that says nothing");
    return;
  }
  const char* begin = reinterpret_cast<const char*>(source->data());
  if (begin != nullptr) {
    for (const auto& [name, tensor] : read->tensors) inside(tensor, begin, input.size());
  }
  use(read->tokenizer);
  if (!read->tokenizer.chat_template.empty()) (void)tokenizer::ChatTemplate::parse(read->tokenizer.chat_template);
  const auto file = formats::make_model_file(std::move(*read));
  formats::inspect_text(*file, nullptr, true);
  formats::inspect_json(*file, nullptr, true);
}

void safetensors(std::string_view input) {
  const std::string bytes = exact(input);
  const auto read = formats::read_safetensors("fuzz.safetensors", std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (!read) {
    must(!read.error().message.empty(), "a refusal that says nothing");
    return;
  }
  for (const auto& [name, tensor] : *read) inside(tensor, bytes.data(), bytes.size());
}

void tokenizer_json(std::string_view input) {
  formats::TokenizerData data;
  data.kind = formats::TokenizerData::Kind::tokenizer_json;
  data.json = std::string(input);
  use(data);
}

}  // namespace tokenworks::fuzz
