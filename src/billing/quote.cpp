#include "tokenworks/billing/quote.hpp"

#include <algorithm>

#include "price_rules.hpp"

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

constexpr int kPicoPlaces = 12;
constexpr std::int64_t kSecond = 1'000'000'000;

// As format_decimal, of what does not fit 64 bits. Not negative.
std::string decimal(Wide pico) {
  if (pico <= INT64_MAX) return format_decimal(static_cast<std::int64_t>(pico), kPicoPlaces);
  const Wide one = Wide{1'000'000'000'000};
  const std::string fraction = format_decimal(static_cast<std::int64_t>(pico % one), kPicoPlaces);
  std::string whole;
  for (Wide rest = pico / one; rest > 0; rest /= 10) whole.insert(whole.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
  return whole + fraction.substr(1);
}

std::string pad(const std::string& text, std::size_t width, bool right) {
  if (text.size() >= width) return text;
  return right ? std::string(width - text.size(), ' ') + text : text + std::string(width - text.size(), ' ');
}

std::string utc(std::int64_t unix_ns) {
  std::string text = (*TimeZone::find("UTC"))->format(unix_ns / kSecond);
  if (text.ends_with("+00:00")) text.replace(text.size() - 6, 6, "Z");
  return text;
}

}  // namespace

Result<Quote> quote(const PriceBook& book, const PriceQuestion& question, const ClassTokens& tokens) {
  auto answer = book.explain(question);
  if (!answer) {
    return error(Errc::model_not_found, "the model '" + std::string(question.model) + "' has no price in version " +
                                            book.in_force(question.unix_ns).version, "model");
  }
  auto charge = rate(answer->rates, tokens);
  if (!charge) return charge.error();
  Quote q;
  q.currency = book.currency();
  q.total = charge->total;
  const auto list = by_class(answer->list), price = by_class(answer->rates);
  Wide sum = 0;
  for (const ChargeLine& line : charge->lines) {
    std::size_t i = 0;
    while (line.token_class != config::name(static_cast<config::PriceClass>(i))) ++i;
    const int places = i + 1 == config::kPriceClasses ? kPicoPlaces : 6;   // micro-units per million are pico-units each
    const Wide pico = Wide{line.tokens} * price[i];
    sum += pico;
    q.lines.push_back({line.token_class, line.tokens, format_decimal(list[i], places), format_decimal(price[i], places),
                       decimal(pico), line.amount});
  }
  q.exact = decimal(sum);
  q.answer = std::move(*answer);
  return q;
}

std::string to_text(const Quote& q, const PriceQuestion& question) {
  const PriceAnswer& a = q.answer;
  std::string text;
  const auto row = [&](const char* name, const std::string& what) { text += pad(name, 11, false) + what + "\n"; };
  std::string force = a.from_unix_ns == INT64_MIN ? "in force from the beginning" : "in force from " + utc(a.from_unix_ns);
  force += a.until_unix_ns == INT64_MAX ? "" : " until " + utc(a.until_unix_ns);
  row("at", utc(question.unix_ns));
  row("version", a.version + ", " + force + ", sha256 " + a.version_hash.substr(0, 16));
  const std::string place = a.where.line > 0 ? a.where.file + ":" + std::to_string(a.where.line) : "kept by " + a.where.file;
  row("price", place + ", " + (a.override_of.empty() ? "for everybody" : "for " + a.override_of));
  row("band", (a.band_over ? "over " + std::to_string(*a.band_over) + " prompt tokens" : std::string("none")) + " (" +
                  std::to_string(question.prompt_tokens) + " prompt tokens)");
  row("time", a.time.empty() ? "no rule" : a.time + ", times " + format_decimal(a.time_micro, 6));
  row("tier", std::string(kTierNames[static_cast<std::size_t>(question.tier)]) + ", times " + format_decimal(a.tier_micro, 6));
  text += "\n" + pad("class", 13, false);
  for (const auto& [name, width] : {std::pair{"tokens", 14}, {"list price", 14}, {"price", 14}, {"exact", 22}, {"amount", 18}}) {
    text += pad(name, static_cast<std::size_t>(width), true);
  }
  text += "\n";
  for (const QuoteLine& l : q.lines) {
    text += pad(l.token_class, 13, false) + pad(std::to_string(l.tokens), 14, true) + pad(l.list_price, 14, true) +
            pad(l.price, 14, true) + pad(l.exact, 22, true) + pad(to_string(l.amount, q.currency), 18, true) + "\n";
  }
  text += "\n";
  row("exact", q.exact + " " + q.currency);
  row("total", to_string(q.total, q.currency) + " " + q.currency + ", rounded once to " +
                   std::to_string(money_places(q.currency)) + " decimals, half up");
  text += "\nPrices are per million tokens, of per_request per request.\n";
  return text;
}

}  // namespace tokenworks::billing
