#pragma once
// UTF-8 and the byte-level alphabet, as this room needs them. Pure functions, any thread.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tokenworks::tokenizer {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";    // U+2581, what SentencePiece writes for a space

// What stands at the start of `bytes` (not empty): a whole character, the maximal part of an ill-formed one (Unicode
// 15.0, section 3.9, "substitution of maximal subparts"), or a well-begun character cut off by the end.
struct Utf8Step {
  enum class Kind : std::uint8_t { character, invalid, incomplete } kind;
  std::uint8_t length;  // >= 1
};
Utf8Step utf8_step(std::string_view bytes);

bool valid_utf8(std::string_view bytes);
// Every maximal ill-formed part becomes U+FFFD, as Python's errors="replace" and Rust's from_utf8_lossy do.
std::string replace_invalid(std::string_view bytes);

// Bytes of the character that begins with `lead`, in text known to be valid.
inline std::size_t utf8_length(char lead) {
  const auto b = static_cast<unsigned char>(lead);
  return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}
char32_t utf8_decode(std::string_view text, std::size_t at);  // of the character at `at`, in valid text
void utf8_append(std::string& to, char32_t character);

// GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up.
char32_t byte_to_alphabet(std::uint8_t byte);
// The bytes a spelling in that alphabet stands for; false (and `bytes` is unspecified) when a character is outside it.
bool alphabet_to_bytes(std::string_view spelling, std::string& bytes);

bool is_white_space(char32_t c);  // the Unicode property White_Space

enum class NormalForm : std::uint8_t { nfc, nfd, nfkc, nfkd };
// Appends the normal form of valid text. Linear but for sorting runs of combining marks, n log n.
void normalize(std::string_view text, NormalForm form, std::string& to);
// Appends the text with each character lowered by itself (no final sigma), as Rust's char::to_lowercase.
void lowercase(std::string_view text, std::string& to);

}  // namespace tokenworks::tokenizer
