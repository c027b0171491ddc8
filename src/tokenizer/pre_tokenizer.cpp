#include "tokenizer/pre_tokenizer.hpp"

#include "tokenizer/bert_text.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string digits_and_gpt2_pattern() {
  // After a cut at every number, GPT-2's lookahead sees the end of its piece where a number stands.
  const std::string n = numeric_class();
  return "[" + n + R"(]|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L})" + n + R"(]+|\s+(?![^\s)" + n + R"(])|\s+)";
}

void PreTokenizer::add(PreTokenizerStep step) { steps_.push_back(std::move(step)); }

void PreTokenizer::run(std::string_view text, bool at_start, const Sink& sink) const {
  if (!text.empty()) step(0, text, at_start, sink);
}

void PreTokenizer::step(std::size_t index, std::string_view text, bool at_start, const Sink& sink) const {
  if (index == steps_.size()) return sink(text);
  const PreTokenizerStep& step_here = steps_[index];
  if (const auto* how = std::get_if<Split>(&step_here)) {
    split(*how, index, text, at_start, sink);
  } else if (std::holds_alternative<BertWords>(step_here)) {
    words(index, text, at_start, sink);
  } else if (std::holds_alternative<AddPrefixSpace>(step_here)) {
    if (text.starts_with(' ')) return step(index + 1, text, at_start, sink);
    step(index + 1, " " + std::string(text), at_start, sink);
  } else {
    const auto& meta = std::get<Metaspace>(step_here);
    std::string marked;
    marked.reserve(text.size() + 8);
    for (const char c : text) {
      if (c == ' ') {
        marked += meta.mark;
      } else {
        marked += c;
      }
    }
    const bool wanted =
        meta.prepend == Metaspace::Prepend::always || (meta.prepend == Metaspace::Prepend::first && at_start);
    if (wanted && !marked.starts_with(meta.mark)) marked.insert(0, meta.mark);
    if (!meta.split) return step(index + 1, marked, at_start, sink);
    split(Split{meta.marks, Behavior::merged_with_next, false}, index, marked, at_start, sink);
  }
}

void PreTokenizer::words(std::size_t index, std::string_view text, bool at_start, const Sink& sink) const {
  std::size_t begin = 0;
  const auto cut = [&](std::size_t end) {
    if (end > begin) step(index + 1, text.substr(begin, end - begin), at_start && begin == 0, sink);
    begin = end;
  };
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = utf8_decode(text, i);
    const std::size_t next = i + utf8_length(text[i]);
    if (is_white_space(c)) {
      cut(i);
      begin = next;
    } else if (is_bert_punctuation(c)) {
      cut(i);
      cut(next);
    }
    i = next;
  }
  cut(text.size());
}

void PreTokenizer::split(const Split& how, std::size_t index, std::string_view text, bool at_start,
                         const Sink& sink) const {
  // A piece is held until the next cut is known, because a neighbour may join it; [begin, end) is that piece.
  std::size_t begin = 0, end = 0;
  bool held = false, held_delimiter = false, first = true;
  const auto emit = [&] {
    if (held && end > begin) {
      step(index + 1, text.substr(begin, end - begin), at_start && first && begin == 0, sink);
      first = false;
    }
    held = false;
  };
  const auto cut = [&](std::size_t from, std::size_t to, bool matched) {
    if (from == to) return;
    const bool delimiter = matched != how.invert;
    bool join = false;
    switch (how.behavior) {
      case Behavior::removed:
        if (delimiter) return emit();
        break;
      case Behavior::isolated:
        break;
      case Behavior::contiguous:
        join = held && held_delimiter == delimiter;
        break;
      // Of several delimiters in a row only the first joins the text before it, the last the text after it.
      case Behavior::merged_with_previous:
        join = held && delimiter && !held_delimiter;
        break;
      case Behavior::merged_with_next:
        join = held && held_delimiter && !delimiter;
        break;
    }
    if (!join) {
      emit();
      begin = from;
      held = true;
    }
    end = to;
    held_delimiter = delimiter;
  };
  std::size_t done = 0, from = 0;
  Regex::Match match{};
  while (from < text.size() && how.pattern.find(text, from, match)) {
    if (match.end == match.begin) {
      if (match.end >= text.size()) break;
      from = match.end + utf8_length(text[match.end]);
      continue;
    }
    cut(done, match.begin, false);
    cut(match.begin, match.end, true);
    done = from = match.end;
  }
  cut(done, text.size(), false);
  emit();
}

std::string PreTokenizer::describe() const {
  std::string all;
  for (const PreTokenizerStep& s : steps_) {
    if (const auto* how = std::get_if<Split>(&s)) {
      all += "split " + std::to_string(static_cast<int>(how->behavior)) + (how->invert ? "!" : "") +
             how->pattern.pattern() + '\n';
    } else if (std::holds_alternative<BertWords>(s)) {
      all += "bert words\n";
    } else if (const auto* meta = std::get_if<Metaspace>(&s)) {
      all +=
          "metaspace " + std::to_string(static_cast<int>(meta->prepend)) + (meta->split ? "s" : "") + meta->mark + '\n';
    } else {
      all += "prefix space\n";
    }
  }
  return all;
}

}  // namespace tokenworks::tokenizer
