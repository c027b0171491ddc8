#include "tokenizer/plan.hpp"

#include "tokenizer/tables.hpp"

namespace tokenworks::tokenizer {

Result<> add_merges(BpeSpec& spec, const std::vector<std::pair<std::string, std::string>>& merges) {
  StringTable ids;
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (!spec.spellings[i].empty() && spec.in_model[i]) ids.set(spec.spellings[i], static_cast<TokenId>(i));
  }
  spec.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    const TokenId l = ids.find(left), r = ids.find(right);
    if (l < 0 || r < 0) {
      return error(Errc::bad_file, "tokenizer merge " + std::to_string(i) + " joins '" + left + "' and '" + right +
                                       "', but '" + (l < 0 ? left : right) + "' is not in the vocabulary");
    }
    spec.merges.emplace_back(l, r);
  }
  return {};
}

int byte_of_spelling(std::string_view s) {
  if (s.size() != 6 || !s.starts_with("<0x") || s[5] != '>') return -1;
  int value = 0;
  for (const char c : s.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

Split isolate(const std::string& pattern) { return Split{Regex::compile(pattern).value(), Behavior::isolated, false}; }

}  // namespace tokenworks::tokenizer
