#include "tokenizer/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cctype>

#include "tokenizer/regex_classes.hpp"

namespace tokenworks::tokenizer {
namespace {

// Class text for \p{name}: the category and what newer Unicode added to it. "L" covers "Lu", "Ll", ...
std::string category_class(std::string_view name) {
  std::string text = "\\p{" + std::string(name) + "}";
  for (const CategoryAddition& addition : kCategoryAdditions) {
    if (addition.category.starts_with(name)) text += addition.ranges;
  }
  return text;
}

// Rewrites the escapes whose meaning differs between Oniguruma and PCRE2; everything else is passed on.
class Rewriter {
 public:
  explicit Rewriter(const std::string& pattern) : in_(pattern) {}

  Result<std::string> run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\' && at_ + 1 < in_.size()) {
        escape();
      } else if (c == '[' && depth_ == 0) {
        open_class();
      } else if (c == '[' && in_.compare(at_, 2, "[:") != 0) {
        return error(Errc::bad_file,
                     "the pattern '" + in_ + "' nests one character class in another, which is not supported");
      } else if (c == '[') {  // [:alpha:]
        const std::size_t end = in_.find(":]", at_);
        copy(end == std::string::npos ? 1 : end + 2 - at_);
      } else if (c == ']' && depth_ > 0) {
        --depth_;
        copy(1);
      } else if (c == '&' && depth_ > 0 && in_.compare(at_, 2, "&&") == 0) {
        return error(Errc::bad_file,
                     "the pattern '" + in_ + "' intersects character classes (&&), which is not supported");
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  void copy(std::size_t n) {
    out_.append(in_, at_, n);
    at_ += n;
  }

  void open_class() {
    ++depth_;
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') copy(1);  // a first ] is itself
  }

  void put_class(std::string_view ranges, std::string_view inverse) {
    if (depth_ > 0) {
      out_ += ranges;
    } else if (!ranges.empty()) {
      out_.append("[").append(ranges).append("]");
    } else {
      out_.append("[^").append(inverse).append("]");
    }
  }

  void escape() {
    const char c = in_[at_ + 1];
    if (c == 's' || c == 'S') {
      put_class(c == 's' ? kSpaces : kNonSpaces, "");
      at_ += 2;
    } else if (c == 'h') {  // a hexadecimal digit in Oniguruma, a blank in PCRE2
      put_class("0-9a-fA-F", "");
      at_ += 2;
    } else if (c == 'd') {
      put_class(category_class("Nd"), "");
      at_ += 2;
    } else if ((c == 'p' || c == 'P') && at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
      const std::size_t end = in_.find('}', at_);
      if (end == std::string::npos) return copy(2);
      std::string name = in_.substr(at_ + 3, end - at_ - 3);
      const bool inverted = (c == 'P') != name.starts_with('^');
      if (name.starts_with('^')) name.erase(0, 1);
      if (!inverted) {
        put_class(category_class(name), "");
      } else if (depth_ == 0) {
        put_class("", category_class(name));
      } else {
        out_ += "\\P{" + name + "}";
      }
      at_ = end + 1;
    } else {
      copy(2);
    }
  }

  const std::string& in_;
  std::string out_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

// Per thread: PCRE2's match data and the stack its compiled code uses for backtracking.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr);
  Scratch() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, 10'000'000);
  }
  ~Scratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;  // false where the system forbids writable code pages
  Code() = default;
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Result<Regex> Regex::compile(const std::string& pattern) {
  auto rewritten = Rewriter(pattern).run();
  if (!rewritten) return rewritten.error();
  auto code = std::make_shared<Code>();
  int reason = 0;
  std::size_t offset = 0;
  // Ruby syntax, Oniguruma's default: ^ and $ match at every line.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten->data()), rewritten->size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &reason, &offset, nullptr);
  if (code->code == nullptr) {
    std::array<char, 256> text{};
    pcre2_get_error_message(reason, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
    return error(Errc::bad_file, "the pattern '" + pattern + "' does not compile: " + text.data());
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  Regex regex;
  regex.pattern_ = pattern;
  regex.code_ = std::move(code);
  return regex;
}

std::string Regex::quote(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

bool Regex::find(std::string_view text, std::size_t from, Match& match) const {
  thread_local Scratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int found =
      code_->jit
          ? pcre2_jit_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, scratch.data, scratch.context)
          : pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
  if (found < 0) return false;
  const std::size_t* ends = pcre2_get_ovector_pointer(scratch.data);
  match = {ends[0], ends[1]};
  return true;
}

std::string numeric_class() { return "\\p{N}" + std::string(kRustNumbers); }

std::string punctuation_pattern() {
  std::string later(kNotPunctuation);
  for (const CategoryAddition& addition : kCategoryAdditions) {
    if (addition.category == "P") later += addition.ranges;
  }
  return "(?![" + later + "])[" + std::string(kPunctuation) + "]";
}

std::string word_class() {
  // Alphabetic (letters, Nl and Other_Alphabetic, whose members are marks but for the circled letters), marks, decimal
  // digits, connectors and the two joiners: Unicode TR 18, annex C.
  return "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{"
         "1F169}"
         "\\x{1F170}-\\x{1F189}";
}

}  // namespace tokenworks::tokenizer
