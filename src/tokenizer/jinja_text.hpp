#pragma once
// Text: valid UTF-8 in which every byte remembers who wrote it: the template (trusted) or the caller. Slices and
// concatenations keep the marks, so a message's "<|im_start|>" is still the caller's after any amount of trimming. The
// functions below are Python's str methods on it, by code point. Values; one thread at a time.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tokenworks::tokenizer::jinja {

class Text {
 public:
  Text() = default;
  Text(std::string bytes, bool trusted);

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool all_trusted() const { return runs_.empty() || (runs_.size() == 1 && runs_.front().trusted); }
  bool trusted_at(std::size_t byte) const;           // byte < size()

  void append(const Text& other);
  void append(std::string_view bytes, bool trusted);
  Text slice(std::size_t begin, std::size_t end) const;   // bytes, at character borders

  // Stretches of one origin: [begin, end of runs()[i]).
  struct Run {
    std::size_t end;
    bool trusted;
  };
  const std::vector<Run>& runs() const { return runs_; }

 private:
  std::string bytes_;
  std::vector<Run> runs_;                            // ascending ends, neighbours differ, the last ends at size()
};

// Characters. All offsets are bytes of valid UTF-8.
std::size_t count_characters(std::string_view text);
std::size_t character_offset(std::string_view text, std::size_t index);   // size() when past the end
std::vector<std::size_t> character_starts(std::string_view text);        // and one past the last
bool is_python_space(char32_t c);                    // str.isspace of one character
bool is_line_end(char32_t c);                        // what str.splitlines splits at

// str methods.
enum class Side { left, right, both };
Text strip(const Text& text, Side side, const std::string* characters = nullptr);
Text replace(const Text& text, const std::string& old, const Text& with, std::int64_t count);
// `separator` null: runs of white space; `from_right`: rsplit. count < 0: all.
std::vector<Text> split(const Text& text, const std::string* separator, std::int64_t count, bool from_right);
std::vector<Text> split_lines(const Text& text, bool keep_ends = false);
Text join(const Text& separator, const std::vector<Text>& items);
Text map_case(const Text& text, bool upper);
Text capitalize(const Text& text);
Text title(const Text& text);                        // str.title
Text swap_case(const Text& text);
Text reverse(const Text& text);
Text pad(const Text& text, std::size_t width, Side side, const Text& fill);   // ljust, rjust, center

bool all_characters(std::string_view text, const std::function<bool(char32_t)>& test);   // false when empty
bool is_alpha(char32_t c);
bool is_digit(char32_t c);
bool is_alnum(char32_t c);
bool is_printable(char32_t c);
bool is_cased_as(std::string_view text, bool upper);                     // isupper, islower

std::string python_repr(std::string_view text);                          // with quotes, as repr(str)
std::string python_float(double value);                                  // as repr(float)

}  // namespace tokenworks::tokenizer::jinja
