#include "tokenworks/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <variant>

#include "tokenizer/plan.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

// What the digest covers, in a fixed order, every field with its length before it.
class Hasher {
 public:
  void text(std::string_view s) {
    number(static_cast<std::int64_t>(s.size()));
    sha_.update(s);
  }
  void number(std::int64_t n) {
    std::array<std::byte, 8> bytes;
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(static_cast<std::uint64_t>(n) >> (8 * i));
    sha_.update(bytes);
  }
  Digest finish() { return sha_.finish(); }

 private:
  Sha256 sha_;
};

Digest digest_of(const Plan& plan, const std::vector<TokenId>& stop) {
  Hasher h;
  h.text("tokenworks tokenizer 1");
  h.text(plan.normalizer.describe());
  h.text(plan.pre_tokenizer.describe());
  const BpeSpec& bpe = plan.bpe;
  for (const std::int64_t n :
       {static_cast<std::int64_t>(bpe.rule), static_cast<std::int64_t>(bpe.byte_level),
        static_cast<std::int64_t>(bpe.byte_fallback), static_cast<std::int64_t>(bpe.ignore_merges),
        static_cast<std::int64_t>(bpe.fuse_unknown), static_cast<std::int64_t>(bpe.unknown),
        static_cast<std::int64_t>(plan.bos.value_or(-1))}) {
    h.number(n);
  }
  h.number(static_cast<std::int64_t>(bpe.spellings.size()));
  for (std::size_t i = 0; i < bpe.spellings.size(); ++i) {
    h.text(bpe.spellings[i]);
    h.number(bpe.in_model[i]);
  }
  h.number(static_cast<std::int64_t>(bpe.merges.size()));
  for (const auto& [left, right] : bpe.merges) h.number(left), h.number(right);
  h.number(static_cast<std::int64_t>(bpe.scores.size()));
  for (const float score : bpe.scores) h.number(std::bit_cast<std::int32_t>(score));
  h.number(static_cast<std::int64_t>(plan.added.size()));
  for (const AddedToken& t : plan.added) {
    h.number(t.id);
    h.text(t.content);
    h.text(t.spelling);
    h.number(t.special | t.lstrip << 1 | t.rstrip << 2 | t.single_word << 3 | t.normalized << 4);
  }
  for (const TokenId id : stop) h.number(id);
  if (plan.word_piece) {
    h.text("word piece " + plan.word_piece->prefix);
    h.number(plan.word_piece->characters_max);
    h.number(plan.end.value_or(-1));
  }
  return h.finish();
}

using Model = std::variant<BpeModel, WordPieceModel>;

class PieceTokenizer final : public Tokenizer {
 public:
  PieceTokenizer(Plan plan, Model model, std::vector<TokenId> stop)
      : digest_(digest_of(plan, stop)),
        normalizer_(std::move(plan.normalizer)),
        pre_tokenizer_(std::move(plan.pre_tokenizer)),
        model_(std::move(model)),
        decoder_(std::move(plan.decoder)),
        bos_(plan.bos),
        end_(plan.end),
        stop_(std::move(stop)) {
    for (const AddedToken& token : plan.added) {
      std::string spelling = token.content;
      if (token.normalized) {
        spelling = token.spelling.empty() ? normalizer_.apply(MarkedText(token.content, true)).text() : token.spelling;
      }
      (token.normalized ? normalized_ : raw_).add(token, spelling);
      if (token.special) controls_[token.content] = token.id;
    }
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    return encode_marked(MarkedText(replace_invalid(text), false));
  }
  std::vector<TokenId> encode_trusted(std::string_view text) const override {
    return encode_marked(MarkedText(replace_invalid(text), true));
  }
  std::vector<TokenId> encode_parts(const std::vector<Part>& parts) const override {
    MarkedText text;
    for (const Part& part : parts) text.append(replace_invalid(part.text), part.trusted);
    return encode_marked(text);
  }

  std::optional<TokenId> bos() const override { return bos_; }
  std::optional<TokenId> end_of_text() const override { return end_; }
  const std::vector<TokenId>& stop_tokens() const override { return stop_; }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(decoder_.spec().text.size()); }

  const std::string& token_bytes(TokenId id) const override {
    static const std::string kNothing;
    return id < 0 || id >= vocab_size() || is_control(id) ? kNothing
                                                          : decoder_.spec().text[static_cast<std::size_t>(id)];
  }
  bool is_control(TokenId id) const override {
    return id >= 0 && id < vocab_size() && decoder_.spec().control[static_cast<std::size_t>(id)];
  }
  std::optional<TokenId> find_control(std::string_view spelling) const override {
    const auto found = controls_.find(std::string(spelling));
    return found == controls_.end() ? std::nullopt : std::optional(found->second);
  }

  std::string decode(const std::vector<TokenId>& ids, bool with_control) const override {
    DecodeState state;
    std::string text;
    for (const TokenId id : ids) text += decoder_.next(state, id, with_control);
    return text + decoder_.end(state);
  }
  std::string decode_next(DecodeState& state, TokenId id, bool with_control) const override {
    return decoder_.next(state, id, with_control);
  }
  std::string decode_end(DecodeState& state) const override { return decoder_.end(state); }
  const Digest& digest() const override { return digest_; }

 private:
  // `tokenizers`' order: added tokens in the text as it is, then normalization, then added tokens that are matched in
  // normalized text, then pieces.
  std::vector<TokenId> encode_marked(const MarkedText& text) const {
    std::vector<TokenId> ids;
    ids.reserve(text.text().size() / 3 + 8);
    const PreTokenizer::Sink sink = [&](std::string_view piece) {
      if (const auto* bpe = std::get_if<BpeModel>(&model_)) {
        bpe->encode(piece, ids);
      } else {
        std::get<WordPieceModel>(model_).encode(piece, ids);
      }
    };
    const auto encode_normalized = [&](const MarkedText& part, bool at_start) {
      for (const AddedTokens::Stretch& s : normalized_.find(part)) {
        if (s.token >= 0) {
          ids.push_back(s.token);
        } else {
          pre_tokenizer_.run(std::string_view(part.text()).substr(s.begin, s.end - s.begin), at_start && s.begin == 0,
                             sink);
        }
      }
    };
    for (const AddedTokens::Stretch& s : raw_.find(text)) {
      if (s.token >= 0) {
        ids.push_back(s.token);
      } else if (s.begin == 0 && s.end == text.text().size() && normalizer_.empty()) {
        encode_normalized(text, true);
      } else {
        encode_normalized(normalizer_.apply(text.slice(s.begin, s.end)), s.begin == 0);
      }
    }
    return ids;
  }

  Digest digest_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Model model_;
  Decoder decoder_;
  AddedTokens raw_, normalized_;  // matched before and after normalization
  std::unordered_map<std::string, TokenId> controls_;
  std::optional<TokenId> bos_, end_;
  std::vector<TokenId> stop_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::make(const formats::TokenizerData& data) {
  auto plan = data.kind == formats::TokenizerData::Kind::tokenizer_json ? plan_from_json(data) : plan_from_gguf(data);
  if (!plan) return plan.error();
  const auto size = static_cast<TokenId>(plan->bpe.spellings.size());
  std::vector<TokenId> stop = data.stop;
  if (data.eos && std::find(stop.begin(), stop.end(), *data.eos) == stop.end()) stop.push_back(*data.eos);
  const auto check = [&](const char* what, TokenId id) -> Result<> {
    if (id >= 0 && id < size) return {};
    return error(Errc::bad_file, std::string("the tokenizer's ") + what + " token is " + std::to_string(id) +
                                     ", but its vocabulary has " + std::to_string(size) + " tokens");
  };
  for (const TokenId id : stop) {
    if (auto ok = check("stop", id); !ok) return ok.error();
  }
  if (plan->bos) {
    if (auto ok = check("bos", *plan->bos); !ok) return ok.error();
  }
  if (plan->bpe.unknown >= 0) {
    if (auto ok = check("unknown", plan->bpe.unknown); !ok) return ok.error();
  }
  if (plan->end) {
    if (auto ok = check("last", *plan->end); !ok) return ok.error();
  }
  if (plan->word_piece) {
    Model model = WordPieceModel(*plan->word_piece, plan->bpe.spellings, plan->bpe.in_model);
    return std::shared_ptr<const Tokenizer>(std::make_shared<PieceTokenizer>(std::move(*plan), std::move(model), std::move(stop)));
  }
  auto model = BpeModel::build(plan->bpe);
  if (!model) return model.error();
  return std::shared_ptr<const Tokenizer>(
      std::make_shared<PieceTokenizer>(std::move(*plan), Model(std::move(*model)), std::move(stop)));
}

std::string Tokenizer::decode_next(DecodeState& state, TokenId id, bool with_control) const {
  if (is_control(id) && !with_control) return {};
  state.held += token_bytes(id);
  return take_characters(state.held);
}

std::string Tokenizer::decode_end(DecodeState& state) const {
  const bool incomplete = !state.held.empty();
  state.held.clear();
  return incomplete ? std::string(kReplacement) : std::string();
}

}  // namespace tokenworks::tokenizer
