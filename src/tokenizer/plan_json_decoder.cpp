// The part "decoder" of tokenizer.json (huggingface/tokenizers: decoders). Steps that look at one token at a time are
// worked into the text of every token here; what needs the neighbours is left to Decoder.
#include "tokenizer/json_reader.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

struct DecoderReader {
  DecoderSpec& to;
  bool fused = false;  // from here on there is one text, not tokens
  bool fallback = false;

  Result<> strip(const Json& part, const std::string& where) {
    auto content = text_at(part, "content", where);
    if (!content) return content.error();
    auto start = number_at(part, "start", where);
    if (!start) return start.error();
    auto stop = number_at(part, "stop", where);
    if (!stop) return stop.error();
    if (content->empty() || content->size() != utf8_length((*content)[0]))
      return bad_part(where + ".content", "must be one character");
    if (*start < 0 || *start > 1000 || *stop != 0 || !fused || to.strip_count != 0) {
      return bad_part(where, "is only supported once, after Fuse, with stop 0");
    }
    to.strip = *content;
    to.strip_count = static_cast<std::int32_t>(*start);
    return {};
  }

  Result<> metaspace(const Json& part, const std::string& where) {
    std::string mark(kSpaceMark);
    if (member(part, "replacement") != nullptr) {
      auto given = text_at(part, "replacement", where);
      if (!given) return given.error();
      mark = *given;
    }
    bool prefix = true;
    if (member(part, "prepend_scheme") != nullptr) {
      auto scheme = text_at(part, "prepend_scheme", where);
      if (!scheme) return scheme.error();
      prefix = *scheme != "never";
    } else {
      auto flag = flag_at(part, "add_prefix_space", true, where);
      if (!flag) return flag.error();
      prefix = *flag;
    }
    auto pattern = Regex::compile(Regex::quote(mark));
    if (!pattern) return pattern.error();
    if (prefix) {  // the first token loses all its marks
      const std::vector<std::string> marked = to.text;
      replace(*pattern, "");
      to.first_text = to.text;
      to.text = marked;
    }
    replace(*pattern, " ");
    return {};
  }

  // A piece inside a word joins it, every other one but the first gets a space before it; `cleanup` takes spaces away again
  // where English has none (decoders::wordpiece::cleanup).
  Result<> word_piece(const Json& part, const std::string& where) {
    std::string prefix = "##";
    if (member(part, "prefix") != nullptr) {
      auto given = text_at(part, "prefix", where);
      if (!given) return given.error();
      prefix = *given;
    }
    auto clean = flag_at(part, "cleanup", true, where);
    if (!clean) return clean.error();
    static constexpr std::pair<std::string_view, std::string_view> kContractions[] = {
        {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
        {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    const auto cleaned = [&](std::string text) {
      for (const auto& [from, into] : kContractions) {
        for (std::size_t at = 0; *clean && (at = text.find(from, at)) != std::string::npos; at += into.size()) text.replace(at, from.size(), into);
      }
      return text;
    };
    to.first_text.clear();
    for (std::string& text : to.text) {
      to.first_text.push_back(cleaned(text));
      const bool inside = !prefix.empty() && text.starts_with(prefix);
      text = cleaned(inside ? text.substr(prefix.size()) : " " + text);
    }
    fused = true;
    return {};
  }

  void replace(const Regex& pattern, const std::string& with) {
    for (std::string& text : to.text) {
      std::string replaced;
      replace_all(text, pattern, with, replaced);
      text = std::move(replaced);
    }
  }

  void byte_fallback() {
    fallback = true;
    to.joining = DecoderSpec::Joining::runs;
    for (std::size_t i = 0; i < to.text.size(); ++i) {
      const int byte = byte_of_spelling(to.text[i]);
      if (byte < 0) continue;
      to.is_byte[i] = true;
      to.text[i] = std::string(1, static_cast<char>(byte));
    }
  }

  void byte_level() {
    std::string bytes;
    for (std::string& text : to.text) {
      if (alphabet_to_bytes(text, bytes)) text = bytes;
    }
    fused = true;
  }

  Result<> add(const Json& part, const std::string& where, int depth) {
    if (!part.is_object()) return bad_part(where, "must be an object");
    if (depth > 16) return bad_part(where, "nests too deeply");
    auto type = text_at(part, "type", where);
    if (!type) return type.error();
    if (*type == "Sequence") {
      const Json* list = member(part, "decoders");
      if (list == nullptr || !list->is_array()) return bad_part(where + ".decoders", "must be a list");
      for (std::size_t i = 0; i < list->size(); ++i) {
        auto added = add((*list)[i], where + ".decoders[" + std::to_string(i) + "]", depth + 1);
        if (!added) return added.error();
      }
      return {};
    }
    if (*type == "Fuse") {
      fused = true;
      return {};
    }
    if (*type == "Strip") return strip(part, where);
    if (fused || fallback)
      return bad_part(where, "(" + *type + ") comes after a step that joins tokens, which is not supported");
    if (!to.first_text.empty()) return bad_part(where, "(" + *type + ") comes after Metaspace, which is not supported");
    if (*type == "Metaspace") return metaspace(part, where);
    if (*type == "WordPiece") return word_piece(part, where);
    if (*type == "Replace") {
      auto pattern = pattern_at(part, "pattern", where);
      if (!pattern) return pattern.error();
      auto with = text_at(part, "content", where);
      if (!with) return with.error();
      replace(*pattern, *with);
    } else if (*type == "ByteFallback") {
      byte_fallback();
    } else if (*type == "ByteLevel") {
      byte_level();
    } else {
      return bad_part(where, "is a '" + *type +
                                 "', which is not supported (ByteLevel, ByteFallback, Replace, Metaspace, WordPiece, "
                                 "Fuse, Strip and Sequence are)");
    }
    return {};
  }
};

}  // namespace

Result<> read_decoder(const Json* part, const std::vector<std::string>& spellings, DecoderSpec& to) {
  to.text = spellings;
  to.is_byte.assign(spellings.size(), false);
  if (part == nullptr) {
    to.between = " ";  // tokens are words then
    return {};
  }
  return DecoderReader{to}.add(*part, "decoder", 0);
}

}  // namespace tokenworks::tokenizer
