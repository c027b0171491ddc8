#include "tokenworks/billing/price_book.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

constexpr std::array<const char*, 3> kTiers{"priority", "standard", "batch"};
constexpr std::int64_t kMicro = 1'000'000;

class Book final : public PriceBook {
 public:
  const std::string& version() const override { return version_; }
  const std::string& hash() const override { return hash_; }
  const std::string& text() const override { return text_; }
  const std::string& currency() const override { return currency_; }
  const Rates* find(std::string_view model, Tier tier) const override {
    const auto it = models_.find(model);
    return it == models_.end() ? nullptr : &it->second[static_cast<std::size_t>(tier)];
  }

  std::string version_, currency_, text_, hash_;
  std::map<std::string, std::array<Rates, 3>, std::less<>> models_;
};

// A JSON string literal (RFC 8259): quote, backslash and control characters escaped, everything else as it is.
std::string quoted(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      (out += '\\') += c;
    } else if (byte < 0x20) {
      ((out += "\\u00") += kDigits[byte >> 4]) += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out += '"';
}

// The canonical form: one JSON object, keys sorted, no white space, prices as decimal text of pico-units per token. An
// auditor prices an entry again from this text alone.
std::string canonical(const Book& book) {
  std::string text = "{\"currency\":" + quoted(book.currency_) + ",\"format\":\"tokenworks price book 1\",\"models\":{";
  bool first_model = true;
  for (const auto& [model, tiers] : book.models_) {
    text += (first_model ? "" : ",") + quoted(model) + ":{";
    first_model = false;
    for (const std::size_t tier : {std::size_t{2}, std::size_t{0}, std::size_t{1}}) {   // batch, priority, standard
      const Rates& r = tiers[tier];
      text += std::string(tier == 2 ? "" : ",") + "\"" + kTiers[tier] + "\":{\"cached_input\":\"" + std::to_string(r.cached_input) +
              "\",\"input\":\"" + std::to_string(r.input) + "\",\"output\":\"" + std::to_string(r.output) + "\"}";
    }
    text += '}';
  }
  return text + "},\"unit\":\"pico per token\",\"version\":" + quoted(book.version_) + "}";
}

}  // namespace

Result<std::shared_ptr<const PriceBook>> PriceBook::make(const config::Prices& prices) {
  std::string mistakes;
  const auto mistake = [&](const config::Where& where, const std::string& what) {
    mistakes += (mistakes.empty() ? "" : "\n") + where.file + ":" + std::to_string(where.line) + ": " + what;
  };
  if (prices.version.empty() || prices.version.size() > 64) mistake({"prices", 0}, "version must be 1 to 64 characters");
  if (prices.currency.size() != 3 || !std::ranges::all_of(prices.currency, [](char c) { return c >= 'A' && c <= 'Z'; })) {
    mistake({"prices", 0}, "currency must be three capital letters, like USD");
  }
  for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
    if (prices.tier_micro[tier] < 0) mistake({"prices", 0}, std::string("the multiplier of tier ") + kTiers[tier] + " is negative");
  }
  auto book = std::make_shared<Book>();
  book->version_ = prices.version;
  book->currency_ = prices.currency;
  for (const auto& [model, at] : prices.models) {
    std::array<Rates, 3>& tiers = book->models_[model];
    struct Class {
      const char* name;
      std::int64_t pico;
      std::int64_t Rates::*rate;
    };
    for (const Class& c : {Class{"input", at.input, &Rates::input}, Class{"cached_input", at.cached_input, &Rates::cached_input},
                           Class{"output", at.output, &Rates::output}}) {
      // Amounts in prices.yaml are per million tokens: pico-units per token are micro-units per million.
      const std::string price = model + "." + c.name + " (" + format_decimal(c.pico, 6) + " per million tokens)";
      if (c.pico < 0) {
        mistake(at.where, price + " is negative");
        continue;
      }
      for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
        if (prices.tier_micro[tier] < 0) continue;
        const Wide product = Wide{c.pico} * prices.tier_micro[tier];
        const std::string times = price + " times the tier " + kTiers[tier] + " (" + format_decimal(prices.tier_micro[tier], 6) + ")";
        if (product % kMicro != 0) {
          mistake(at.where, times + " is not a whole number of pico-units per token; change the price or the multiplier");
        } else if (product / kMicro > INT64_MAX) {
          mistake(at.where, times + " is too large");
        } else {
          tiers[tier].*c.rate = static_cast<std::int64_t>(product / kMicro);
        }
      }
    }
  }
  if (!mistakes.empty()) return error(Errc::bad_config, mistakes);
  book->text_ = canonical(*book);
  const Digest digest = sha256(book->text_);
  book->hash_ = hex(digest);
  return std::shared_ptr<const PriceBook>(std::move(book));
}

}  // namespace tokenworks::billing
