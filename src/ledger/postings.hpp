#pragma once
// Double entry: which accounts an entry moves, derived from the entry alone. docs/ledger_format.md "Accounts" is the
// same table in prose. Debits equal credits within every entry, hence over all of them.
//
//   HOLD, EXTEND a          debit available a            credit held a
//   RELEASE, EXPIRE a       debit held a                 credit available a
//   SETTLE a of held h      debit held h                 credit revenue:<class> per line (sum a), available h - a
//   TOPUP a                 debit funding a              credit available a       (a < 0: the other way round)
//   ADJUST a                debit adjustment a           credit available a       (a < 0: the other way round)
//
// available, held, funding, adjustment: one per organization and currency; revenue: per project, key, model, tier,
// class.
#include <span>
#include <string>
#include <string_view>

#include "ledger/canonical.hpp"

namespace tokenworks::ledger {

enum class Account : std::uint8_t { available, held, funding, adjustment, revenue };

// "available", "revenue:output": the `kind` of an accounts row.
std::string kind_of(Account account, std::string_view token_class);

__extension__ typedef unsigned __int128 Unsigned128;
__extension__ typedef __int128 Signed128;

struct Totals {
  Unsigned128 debits = 0, credits = 0;
  Signed128 net() const { return static_cast<Signed128>(credits) - static_cast<Signed128>(debits); }   // credit balance
  bool operator==(const Totals&) const = default;
};

// Totals are stored as 16 bytes, big-endian.
std::array<std::uint8_t, 16> to_bytes(Unsigned128 value);
Unsigned128 from_bytes(std::span<const std::uint8_t> bytes);   // 0 unless exactly 16 bytes
std::string decimal_text(Unsigned128 units, int places = 9);   // as format_decimal(units, places)

// Calls post(account, token_class, debit, credit), nano-units >= 0, for every posting of an entry.
template <class Post>
void for_each_posting(EntryType type, std::int64_t amount, std::int64_t held, std::span<const Line> lines,
                      Post&& post) {
  const std::int64_t none = 0;
  switch (type) {
    case EntryType::hold:
    case EntryType::extend:
      post(Account::available, std::string_view{}, amount, none);
      post(Account::held, std::string_view{}, none, amount);
      return;
    case EntryType::release:
    case EntryType::expire:
      post(Account::held, std::string_view{}, amount, none);
      post(Account::available, std::string_view{}, none, amount);
      return;
    case EntryType::settle:
      post(Account::held, std::string_view{}, held, none);
      for (const Line& line : lines) post(Account::revenue, line.token_class, none, line.nano);
      if (held != amount) post(Account::available, std::string_view{}, none, held - amount);
      return;
    case EntryType::topup:
    case EntryType::adjust: {
      const Account other = type == EntryType::topup ? Account::funding : Account::adjustment;
      const std::int64_t size = amount < 0 ? -amount : amount;
      post(other, std::string_view{}, amount < 0 ? none : size, amount < 0 ? size : none);
      post(Account::available, std::string_view{}, amount < 0 ? size : none, amount < 0 ? none : size);
      return;
    }
  }
}

}  // namespace tokenworks::ledger
