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
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
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
  std::array<std::int16_t, 324> to_byte{};  // by code point; -1 outside the alphabet
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

namespace {

// Characters (or whole new blocks) that Unicode 10.0 to 16.0 gave a decomposition or a combining class: the normalizers
// of `tokenizers` have the tables of 9.0 (crate unicode-normalization-alignments) and leave them alone, so the ids a
// model was trained on do too.
constexpr std::array<std::pair<char32_t, char32_t>, 53> kInert = {
    {{0x7FD, 0x7FD},     {0x897, 0x897},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},
     {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},
     {0x105C0, 0x105FF}, {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27},
     {0x10D40, 0x10D8F}, {0x10EAB, 0x10EAC}, {0x10EFC, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
     {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11380, 0x113FF}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
     {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
     {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
     {0x11F00, 0x11F5F}, {0x16100, 0x1613F}, {0x16D40, 0x16D7F}, {0x16FF0, 0x16FF1}, {0x1CC00, 0x1CCFF},
     {0x1E030, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4D0, 0x1E4FF},
     {0x1E5D0, 0x1E5FF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}}};

bool is_inert(char32_t c) {
  const auto after =
      std::upper_bound(kInert.begin(), kInert.end(), c, [](char32_t a, const auto& r) { return a < r.first; });
  return after != kInert.begin() && c <= std::prev(after)->second;
}

void normalize_known(std::string_view text, NormalForm form, std::string& to) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    to += text;
    return;
  }
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  std::array<utf8proc_int32_t, 32> expanded;  // the longest decomposition has 18 characters (U+FDFA)
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
      std::stable_sort(characters.begin() + static_cast<std::ptrdiff_t>(i),
                       characters.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](auto a, auto b) { return combining(a) < combining(b); });
    }
    i = end + 1;
  }
  auto count = static_cast<utf8proc_ssize_t>(characters.size());
  if (form == NormalForm::nfc || form == NormalForm::nfkc) {
    count = utf8proc_normalize_utf32(characters.data(), count,
                                     static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    utf8_append(to, static_cast<char32_t>(characters[static_cast<std::size_t>(i)]));
}

}  // namespace

void normalize(std::string_view text, NormalForm form, std::string& to) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    if (static_cast<unsigned char>(text[i]) < 0xC2 || !is_inert(utf8_decode(text, i))) continue;
    normalize_known(text.substr(begin, i - begin), form, to);  // nothing interacts with such a character
    begin = i + utf8_length(text[i]);
    to += text.substr(i, begin - i);
  }
  normalize_known(text.substr(begin), form, to);
}

namespace {

// Lower case of letters that Unicode 16.0 and 17.0 added; utf8proc 2.8 knows 15.0, Rust 17.0.
char32_t lower(char32_t c) {
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;
  switch (c) {
    case 0x1C89:
    case 0xA7CC:
    case 0xA7CE:
    case 0xA7D2:
    case 0xA7D4:
    case 0xA7DA:
      return c + 1;
    case 0xA7CB:
      return 0x264;
    case 0xA7DC:
      return 0x19B;
    default:
      return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  }
}

}  // namespace

void lowercase(std::string_view text, std::string& to) {
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    const char32_t c = utf8_decode(text, i);
    if (c == 0x130) {
      to += "i\xCC\x87";  // the one character whose lower case is two (SpecialCasing.txt)
    } else {
      utf8_append(to, lower(c));
    }
  }
}

}  // namespace tokenworks::tokenizer
