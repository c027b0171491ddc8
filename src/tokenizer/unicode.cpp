#include "tokenizer/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

namespace tokenworks::tokenizer {

Utf8Step utf8_step(std::string_view bytes) {
  using Kind = Utf8Step::Kind;
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return {Kind::character, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::invalid, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte of some leads is narrower: no overlong forms, no surrogates, nothing past U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::incomplete, static_cast<std::uint8_t>(i)};
    const bool good = i == 1 ? at(1) >= low && at(1) <= high : (at(i) & 0xC0) == 0x80;
    if (!good) return {Kind::invalid, static_cast<std::uint8_t>(i)};
  }
  return {Kind::character, static_cast<std::uint8_t>(length)};
}

bool valid_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    if (static_cast<unsigned char>(bytes[0]) < 0x80) {
      bytes.remove_prefix(1);
      continue;
    }
    const Utf8Step step = utf8_step(bytes);
    if (step.kind != Utf8Step::Kind::character) return false;
    bytes.remove_prefix(step.length);
  }
  return true;
}

std::string replace_invalid(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  if (valid_utf8(bytes)) return text.assign(bytes);
  while (!bytes.empty()) {
    const Utf8Step step = utf8_step(bytes);
    text += step.kind == Utf8Step::Kind::character ? bytes.substr(0, step.length) : kReplacement;
    bytes.remove_prefix(step.length);
  }
  return text;
}

char32_t utf8_decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  switch (utf8_length(text[at])) {
    case 1: return byte(0);
    case 2: return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3: return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

void utf8_append(std::string& to, char32_t c) {
  if (c < 0x80) {
    to += static_cast<char>(c);
  } else if (c < 0x800) {
    to += static_cast<char>(0xC0 | c >> 6);
    to += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    to += static_cast<char>(0xE0 | c >> 12);
    to += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    to += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    to += static_cast<char>(0xF0 | c >> 18);
    to += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    to += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    to += static_cast<char>(0x80 | (c & 0x3F));
  }
}

namespace {

struct Alphabet {
  std::array<char32_t, 256> of_byte{};
  std::array<std::int16_t, 324> to_byte{};           // by code point; -1 outside the alphabet
  Alphabet() {
    to_byte.fill(-1);
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      of_byte[b] = printable ? b : next++;
      to_byte[of_byte[b]] = static_cast<std::int16_t>(b);
    }
  }
};
const Alphabet kAlphabet;

}  // namespace

char32_t byte_to_alphabet(std::uint8_t byte) { return kAlphabet.of_byte[byte]; }

bool alphabet_to_bytes(std::string_view spelling, std::string& bytes) {
  bytes.clear();
  for (std::size_t i = 0; i < spelling.size(); i += utf8_length(spelling[i])) {
    const char32_t c = utf8_decode(spelling, i);
    if (c >= kAlphabet.to_byte.size() || kAlphabet.to_byte[c] < 0) return false;
    bytes += static_cast<char>(kAlphabet.to_byte[c]);
  }
  return true;
}

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

void normalize(std::string_view text, NormalForm form, std::string& to) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    to += text;
    return;
  }
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  std::array<utf8proc_int32_t, 32> expanded;         // the longest decomposition has 18 characters (U+FDFA)
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(utf8_decode(text, i)), expanded.data(),
                                           static_cast<utf8proc_ssize_t>(expanded.size()), decompose, nullptr);
    for (utf8proc_ssize_t k = 0; k < n; ++k) characters.push_back(expanded[static_cast<std::size_t>(k)]);
  }
  // Canonical order. utf8proc's own is quadratic in a run of combining marks, which a user can make a megabyte long.
  const auto combining = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (std::size_t i = 0; i < characters.size();) {
    std::size_t end = i;
    while (end < characters.size() && combining(characters[end]) != 0) ++end;
    if (end - i > 1) {
      std::stable_sort(characters.begin() + static_cast<std::ptrdiff_t>(i), characters.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](auto a, auto b) { return combining(a) < combining(b); });
    }
    i = end + 1;
  }
  auto count = static_cast<utf8proc_ssize_t>(characters.size());
  if (form == NormalForm::nfc || form == NormalForm::nfkc) {
    count = utf8proc_normalize_utf32(characters.data(), count,
                                     static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) utf8_append(to, static_cast<char32_t>(characters[static_cast<std::size_t>(i)]));
}

void lowercase(std::string_view text, std::string& to) {
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    const char32_t c = utf8_decode(text, i);
    if (c == 0x130) {
      to += "i\xCC\x87";                             // the one character whose lower case is two (SpecialCasing.txt)
    } else {
      utf8_append(to, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
}

}  // namespace tokenworks::tokenizer
