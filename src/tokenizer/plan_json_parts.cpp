// The parts "normalizer" and "pre_tokenizer" of tokenizer.json (huggingface/tokenizers: normalizers, pre_tokenizers).
#include <map>

#include "tokenizer/json_reader.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

constexpr int kDepthMax = 16;  // of sequences in sequences

Result<Behavior> behavior_at(const Json& part, const char* key, const std::string& where) {
  static const std::map<std::string, Behavior> kNames = {{"Removed", Behavior::removed},
                                                         {"Isolated", Behavior::isolated},
                                                         {"MergedWithPrevious", Behavior::merged_with_previous},
                                                         {"MergedWithNext", Behavior::merged_with_next},
                                                         {"Contiguous", Behavior::contiguous}};
  auto text = text_at(part, key, where);
  if (!text) return text.error();
  const auto found = kNames.find(*text);
  if (found == kNames.end()) return bad_part(where + "." + key, "is '" + *text + "', which is not a known behavior");
  return found->second;
}

Split must_split(const std::string& pattern, Behavior behavior, bool invert = false) {
  return Split{Regex::compile(pattern).value(), behavior, invert};
}

Result<const Json*> sequence_at(const Json& part, const char* key, const std::string& where) {
  const Json* list = member(part, key);
  if (list == nullptr || !list->is_array()) return bad_part(where + "." + key, "must be a list");
  return list;
}

Result<> add_normalizer(const Json& part, const std::string& where, int depth, Normalizer& to) {
  if (!part.is_object()) return bad_part(where, "must be an object");
  if (depth > kDepthMax) return bad_part(where, "nests too deeply");
  auto type = text_at(part, "type", where);
  if (!type) return type.error();
  static const std::map<std::string, NormalForm> kForms = {
      {"NFC", NormalForm::nfc}, {"NFD", NormalForm::nfd}, {"NFKC", NormalForm::nfkc}, {"NFKD", NormalForm::nfkd}};
  if (const auto form = kForms.find(*type); form != kForms.end()) {
    to.add(UnicodeForm{form->second});
  } else if (*type == "Lowercase") {
    to.add(Lowercase{});
  } else if (*type == "Strip") {
    auto left = flag_at(part, "strip_left", true, where);
    if (!left) return left.error();
    auto right = flag_at(part, "strip_right", true, where);
    if (!right) return right.error();
    to.add(StripSpace{*left, *right});
  } else if (*type == "Prepend") {
    auto text = text_at(part, "prepend", where);
    if (!text) return text.error();
    to.add(Prepend{*text});
  } else if (*type == "Replace") {
    auto pattern = pattern_at(part, "pattern", where);
    if (!pattern) return pattern.error();
    auto with = text_at(part, "content", where);
    if (!with) return with.error();
    to.add(Replace{*pattern, *with});
  } else if (*type == "BertNormalizer") {
    BertText bert;
    const std::pair<const char*, bool*> flags[] = {
        {"clean_text", &bert.clean}, {"handle_chinese_chars", &bert.chinese}, {"lowercase", &bert.lowercase}};
    for (const auto& [key, flag] : flags) {
      auto value = flag_at(part, key, true, where);
      if (!value) return value.error();
      *flag = *value;
    }
    auto strip = flag_at(part, "strip_accents", bert.lowercase, where);  // null: as lowercase
    if (!strip) return strip.error();
    bert.strip_accents = *strip;
    to.add(bert);
  } else if (*type == "Sequence") {
    auto list = sequence_at(part, "normalizers", where);
    if (!list) return list.error();
    for (std::size_t i = 0; i < (*list)->size(); ++i) {
      auto added = add_normalizer((**list)[i], where + ".normalizers[" + std::to_string(i) + "]", depth + 1, to);
      if (!added) return added.error();
    }
  } else {
    return bad_part(where, "is a '" + *type +
                               "', which is not supported (NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, "
                               "Replace, BertNormalizer and Sequence are)");
  }
  return {};
}

// One step and what is needed to see that "Digits, then ByteLevel" can be done in one pass.
struct PreTokenizerReader {
  PreTokenizer& to;
  bool byte_level = false;
  bool digits_pending = false;

  void settle_digits() {
    if (digits_pending) to.add(must_split("[" + numeric_class() + "]", Behavior::isolated));
    digits_pending = false;
  }

  Result<> byte_level_step(const Json& part, const std::string& where) {
    auto prefix = flag_at(part, "add_prefix_space", true, where);
    if (!prefix) return prefix.error();
    auto regex = flag_at(part, "use_regex", true, where);
    if (!regex) return regex.error();
    byte_level = true;
    if (digits_pending && *regex && !*prefix) {
      digits_pending = false;
      to.add(must_split(digits_and_gpt2_pattern(), Behavior::isolated));
      return {};
    }
    settle_digits();
    if (*prefix) to.add(AddPrefixSpace{});
    if (*regex) to.add(must_split(kGpt2Pattern, Behavior::isolated));
    return {};
  }

  Result<> metaspace_step(const Json& part, const std::string& where) {
    Metaspace meta{Metaspace::Prepend::always, std::string(kSpaceMark), true,
                   Regex::compile(std::string(kSpaceMark)).value()};
    if (member(part, "replacement") != nullptr) {
      auto mark = text_at(part, "replacement", where);
      if (!mark) return mark.error();
      if (mark->empty() || mark->size() != utf8_length((*mark)[0]))
        return bad_part(where + ".replacement", "must be one character");
      meta.mark = *mark;
    }
    if (member(part, "prepend_scheme") != nullptr) {
      auto scheme = text_at(part, "prepend_scheme", where);
      if (!scheme) return scheme.error();
      if (*scheme != "always" && *scheme != "never" && *scheme != "first") {
        return bad_part(where + ".prepend_scheme", "is '" + *scheme + "', not always, never or first");
      }
      meta.prepend = *scheme == "always"  ? Metaspace::Prepend::always
                     : *scheme == "first" ? Metaspace::Prepend::first
                                          : Metaspace::Prepend::never;
    } else {
      auto prefix = flag_at(part, "add_prefix_space", true, where);  // files from before prepend_scheme
      if (!prefix) return prefix.error();
      meta.prepend = *prefix ? Metaspace::Prepend::always : Metaspace::Prepend::never;
    }
    auto split = flag_at(part, "split", true, where);
    if (!split) return split.error();
    meta.split = *split;
    meta.marks = Regex::compile(Regex::quote(meta.mark)).value();
    to.add(std::move(meta));
    return {};
  }

  Result<> add(const Json& part, const std::string& where, int depth) {
    if (!part.is_object()) return bad_part(where, "must be an object");
    if (depth > kDepthMax) return bad_part(where, "nests too deeply");
    auto type = text_at(part, "type", where);
    if (!type) return type.error();
    if (*type == "Sequence") {
      auto list = sequence_at(part, "pretokenizers", where);
      if (!list) return list.error();
      for (std::size_t i = 0; i < (*list)->size(); ++i) {
        auto added = add((**list)[i], where + ".pretokenizers[" + std::to_string(i) + "]", depth + 1);
        if (!added) return added.error();
      }
      return {};
    }
    if (byte_level) return bad_part(where, "comes after ByteLevel, which must be the last step");
    if (*type == "ByteLevel") return byte_level_step(part, where);
    settle_digits();
    if (*type == "Metaspace") return metaspace_step(part, where);
    if (*type == "Digits") {
      auto individual = flag_at(part, "individual_digits", false, where);
      if (!individual) return individual.error();
      if (*individual) {
        digits_pending = true;
      } else {
        to.add(must_split("[" + numeric_class() + "]", Behavior::contiguous));
      }
    } else if (*type == "Split") {
      auto pattern = pattern_at(part, "pattern", where);
      if (!pattern) return pattern.error();
      auto behavior = behavior_at(part, "behavior", where);
      if (!behavior) return behavior.error();
      auto invert = flag_at(part, "invert", false, where);
      if (!invert) return invert.error();
      to.add(Split{*pattern, *behavior, *invert});
    } else if (*type == "Whitespace") {
      to.add(must_split("[" + word_class() + "]+|[^\\s" + word_class() + "]+", Behavior::removed, true));
    } else if (*type == "BertPreTokenizer") {
      to.add(BertWords{});
    } else if (*type == "WhitespaceSplit") {
      to.add(must_split("\\s", Behavior::removed));
    } else if (*type == "Punctuation") {
      Behavior behavior = Behavior::isolated;
      if (member(part, "behavior") != nullptr) {
        auto given = behavior_at(part, "behavior", where);
        if (!given) return given.error();
        behavior = *given;
      }
      to.add(must_split(punctuation_pattern(), behavior));
    } else {
      return bad_part(where, "is a '" + *type +
                                 "', which is not supported (ByteLevel, Split, Digits, Metaspace, Punctuation, "
                                 "Whitespace, WhitespaceSplit, BertPreTokenizer and Sequence are)");
    }
    return {};
  }
};

}  // namespace

Result<Regex> pattern_at(const Json& object, const char* key, const std::string& where) {
  const Json* pattern = member(object, key);
  if (pattern == nullptr || !pattern->is_object())
    return bad_part(where + "." + key, "must be {\"String\": ...} or {\"Regex\": ...}");
  if (member(*pattern, "String") != nullptr) {
    auto text = text_at(*pattern, "String", where + "." + key);
    if (!text) return text.error();
    return Regex::compile(Regex::quote(*text));
  }
  auto text = text_at(*pattern, "Regex", where + "." + key);
  if (!text) return text.error();
  auto regex = Regex::compile(*text);
  if (!regex) return bad_part(where + "." + key + ":", regex.error().message);
  return regex;
}

Result<> read_normalizer(const Json& part, const std::string& where, Normalizer& to) {
  return add_normalizer(part, where, 0, to);
}

Result<> read_pre_tokenizer(const Json& part, const std::string& where, PreTokenizer& to, bool& byte_level) {
  PreTokenizerReader reader{to};
  auto added = reader.add(part, where, 0);
  if (!added) return added.error();
  reader.settle_digits();
  byte_level = reader.byte_level;
  return {};
}

}  // namespace tokenworks::tokenizer
