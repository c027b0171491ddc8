// No floating point touches money: a small lexer over the rooms that handle it. Comments are skipped; strings too,
// except for SQL's REAL. The lexer itself is tested on planted offences.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace tokenworks::ledger {
namespace {

namespace fs = std::filesystem;

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// Words that are, make or read floating point.
const std::set<std::string> kForbidden = {
    "double", "float", "float_t", "double_t", "stod", "stof", "stold", "strtod", "strtof", "strtold", "atof", "REAL",
    "sqlite3_bind_double", "sqlite3_column_double", "sqlite3_value_double", "sqlite3_result_double", "log10", "ldexp",
    "lround", "llround", "nearbyint"};

// "line: offence" for each one.
class Lexer {
 public:
  explicit Lexer(std::string text) : text_(std::move(text)) {}

  std::vector<std::string> offences() {
    while (at_ < text_.size()) next();
    return found_;
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  void skip(std::size_t end) {
    for (end = std::min(end, text_.size()); at_ < end; ++at_) line_ += text_[at_] == '\n' ? 1 : 0;
  }
  void offence(const std::string& what) { found_.push_back(std::to_string(line_) + ": " + what); }

  void next() {
    const char c = peek();
    if (c == '/' && peek(1) == '/') return skip(text_.find('\n', at_));
    if (c == '/' && peek(1) == '*') return skip(text_.find("*/", at_ + 2) + 2);
    if (c == 'R' && peek(1) == '"') return raw_string();
    if (c == '"') return quoted('"');
    if (c == '\'') return quoted('\'');
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
    if (is_word(c)) return word();
    skip(at_ + 1);
  }
  void raw_string() {
    const std::size_t open = text_.find('(', at_);
    const std::string close = ")" + text_.substr(at_ + 2, open - at_ - 2) + "\"";
    const std::size_t end = text_.find(close, open);
    sql(text_.substr(open, end - open));
    skip(end == std::string::npos ? end : end + close.size());
  }
  void quoted(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    sql(text_.substr(at_, end - at_));
    skip(end + 1);
  }
  void sql(const std::string& inside) {
    for (std::size_t at = inside.find("REAL"); at != std::string::npos; at = inside.find("REAL", at + 4)) {
      const bool alone = (at == 0 || !is_word(inside[at - 1])) && (at + 4 >= inside.size() || !is_word(inside[at + 4]));
      if (alone) offence("REAL in a string");
    }
  }
  void word() {
    std::size_t end = at_;
    while (end < text_.size() && is_word(text_[end])) ++end;
    const std::string found = text_.substr(at_, end - at_);
    if (kForbidden.contains(found)) offence(found);
    skip(end);
  }
  // A preprocessing number; a point or an exponent makes it floating.
  void number() {
    std::size_t end = at_;
    const bool hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    bool floating = false;
    while (end < text_.size() &&
           (is_word(text_[end]) || text_[end] == '.' || (text_[end] == '\'' && is_word(text_[end + 1])))) {
      const char c = text_[end];
      const bool exponent = hex ? c == 'p' || c == 'P' : c == 'e' || c == 'E';
      floating = floating || c == '.' || exponent || (!hex && (c == 'f' || c == 'F'));
      ++end;
      if (exponent && end < text_.size() && (text_[end] == '+' || text_[end] == '-')) ++end;
    }
    if (floating) offence("literal " + text_.substr(at_, end - at_));
    skip(end);
  }

  const std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::vector<std::string> found_;
};

TEST(NoFloat, TheLexerFindsWhatIsPlanted) {
  const std::pair<const char*, std::size_t> planted[] = {{"double x;", 1},
                                                         {"auto y = 1.5;", 1},
                                                         {"auto z = .5;", 1},
                                                         {"x = 1e9;", 1},
                                                         {"x = 1e-9;", 1},
                                                         {"x = 2.f;", 1},
                                                         {"x = 0x1p3;", 1},
                                                         {"std::stod(s)", 1},
                                                         {"run(\"CREATE TABLE t(x REAL)\")", 1},
                                                         {"R\"sql(a REAL)sql\"", 1},
                                                         {"float a; double b;", 2},
                                                         {"x = 1'000.0;", 1},
                                                         {"c = '\\''; double d;", 1},
                                                         {"// double 1.5\n/* float */ int x;", 0},
                                                         {"s = \"double 1.5\";", 0},
                                                         {"x = 1'000'000;", 0},
                                                         {"x = 0xdeadbeef;", 0},
                                                         {"x = 0x1e5;", 0},
                                                         {"int doubled = a.b.c;", 0},
                                                         {"v[0].x", 0},
                                                         {"REALLY", 0},
                                                         {"\"SURREAL REALLY\"", 0},
                                                         {"f(x...);", 0},
                                                         {"int x1e5;", 0}};
  for (const auto& [text, count] : planted) EXPECT_EQ(Lexer(text).offences().size(), count) << text;
}

TEST(NoFloat, TouchesMoneyAnywhere) {
  const fs::path root = fs::path(__FILE__).parent_path() / "../../..";
  int files = 0;
  for (const char* folder : {"src/ledger", "src/billing", "src/tenancy", "include/tokenworks/ledger",
                             "include/tokenworks/billing", "include/tokenworks/tenancy"}) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& file : fs::recursive_directory_iterator(root / folder)) {
      if (file.path().extension() != ".cpp" && file.path().extension() != ".hpp") continue;
      std::ostringstream text;
      text << std::ifstream(file.path()).rdbuf();
      for (const std::string& offence : Lexer(text.str()).offences()) {
        ADD_FAILURE() << file.path().lexically_normal().string() << ":" << offence;
      }
      ++files;
    }
  }
  EXPECT_GT(files, 20);
}

}  // namespace
}  // namespace tokenworks::ledger
