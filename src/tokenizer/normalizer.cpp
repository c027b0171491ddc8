#include "tokenizer/normalizer.hpp"

namespace tokenworks::tokenizer {
namespace {

// Each run of equal trust by itself: a combining mark at the start of a user's message does not reach into the
// template's text before it, where it could otherwise turn the end of a control token into another character.
template <class Transform>
MarkedText by_run(const MarkedText& in, Transform transform) {
  MarkedText out;
  std::string result;
  in.each_run(0, in.text().size(), [&](std::string_view text, bool trusted) {
    result.clear();
    transform(text, result);
    out.append(result, trusted);
  });
  return out;
}

MarkedText strip(const MarkedText& in, const StripSpace& how) {
  const std::string& text = in.text();
  std::size_t begin = 0, end = text.size();
  while (how.left && begin < end && is_white_space(utf8_decode(text, begin))) begin += utf8_length(text[begin]);
  while (how.right && begin < end) {
    std::size_t last = end - 1;
    while ((static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
    if (!is_white_space(utf8_decode(text, last))) break;
    end = last;
  }
  return in.slice(begin, end);
}

MarkedText replace(const MarkedText& in, const Replace& how) {
  MarkedText out;
  std::size_t done = 0, from = 0;
  Regex::Match match{};
  while (from <= in.text().size() && how.pattern.find(in.text(), from, match)) {
    if (match.end == match.begin) {  // an empty match replaces nothing
      if (match.end >= in.text().size()) break;
      from = match.end + utf8_length(in.text()[match.end]);
      continue;
    }
    out.append(in, done, match.begin);
    out.append(how.with, in.all_trusted(match.begin, match.end));
    done = from = match.end;
  }
  if (done == 0) return in;
  out.append(in, done, in.text().size());
  return out;
}

MarkedText prepend(const MarkedText& in, const Prepend& how) {
  if (in.text().empty()) return in;
  MarkedText out(how.text, in.runs()[0].trusted);
  out.append(in, 0, in.text().size());
  return out;
}

struct Applier {
  MarkedText text;
  void operator()(const UnicodeForm& s) {
    text = by_run(text, [&](std::string_view in, std::string& out) { normalize(in, s.form, out); });
  }
  void operator()(const Lowercase&) {
    text = by_run(text, [](std::string_view in, std::string& out) { lowercase(in, out); });
  }
  void operator()(const StripSpace& s) { text = strip(text, s); }
  void operator()(const Prepend& s) { text = prepend(text, s); }
  void operator()(const Replace& s) { text = replace(text, s); }
  void operator()(const BertText& s) {
    text = by_run(text, [&](std::string_view in, std::string& out) { normalize_bert(in, s, out); });
  }
};

struct Describer {
  std::string operator()(const UnicodeForm& s) const { return "form " + std::to_string(static_cast<int>(s.form)); }
  std::string operator()(const Lowercase&) const { return "lowercase"; }
  std::string operator()(const StripSpace& s) const {
    return std::string("strip ") + (s.left ? "l" : "") + (s.right ? "r" : "");
  }
  std::string operator()(const Prepend& s) const { return "prepend " + s.text; }
  std::string operator()(const BertText& s) const {
    return std::string("bert ") + (s.clean ? "c" : "") + (s.chinese ? "h" : "") + (s.strip_accents ? "a" : "") + (s.lowercase ? "l" : "");
  }
  std::string operator()(const Replace& s) const { return "replace " + s.pattern.pattern() + '\0' + s.with; }
};

}  // namespace

void Normalizer::add(NormalizerStep step) { steps_.push_back(std::move(step)); }

MarkedText Normalizer::apply(MarkedText text) const {
  Applier applier{std::move(text)};
  for (const NormalizerStep& step : steps_) std::visit(applier, step);
  return std::move(applier.text);
}

std::string Normalizer::describe() const {
  std::string all;
  for (const NormalizerStep& step : steps_) all += std::visit(Describer{}, step) + '\n';
  return all;
}

void replace_all(std::string_view text, const Regex& pattern, std::string_view with, std::string& to) {
  to += replace(MarkedText(text, false), Replace{pattern, std::string(with)}).text();
}

}  // namespace tokenworks::tokenizer
