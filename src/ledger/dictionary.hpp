#pragma once
// The writer's side of contexts and series: an entry stores one small number for its organization, project, key, model,
// prices and labels. Known combinations are found in memory; a new one becomes a row in the running transaction, so
// after a failed commit the whole object is thrown away. Ledger thread only.
#include <string>
#include <unordered_map>

#include "ledger/canonical.hpp"
#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

class Dictionary {
 public:
  struct Known {
    std::int64_t context = 0;
    std::int64_t series = 0;
    std::int64_t organization = 0;                   // the series of the organization's own accounts
  };

  explicit Dictionary(const Connection& store) : store_(store) {}

  // `bytes` is append_context(record). `refusal` is set, and Known empty, when a text of the context cannot be stored.
  Result<Known> of(const Record& record, std::string_view bytes, Result<>& refusal);
  Result<std::int64_t> organization(const std::string& organization, const std::string& currency);

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  Result<std::int64_t> series(const Record& record, bool whole);
  Result<std::int64_t> insert_context(const Record& record, std::int64_t series, std::string_view bytes);

  static constexpr std::size_t kKept = 100'000;      // then forgotten and found again in the store

  const Connection& store_;
  Statement insert_series_, find_series_, insert_context_, find_context_;
  std::unordered_map<std::string, Known, Hash, std::equal_to<>> known_;
  std::unordered_map<std::string, std::int64_t, Hash, std::equal_to<>> organizations_;
};

// Text the books can hold: valid UTF-8 without control characters, at most `bytes_max` bytes.
bool is_plain_text(std::string_view text, std::size_t bytes_max);

}  // namespace tokenworks::ledger
