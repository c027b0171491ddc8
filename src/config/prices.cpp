#include "parts.hpp"

namespace tokenworks::config {

void read_prices(Fields& f, Prices& p) {
  f.text("version", p.version, true);
  f.text("currency", p.currency);
  if (p.currency.size() != 3 || p.currency.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string::npos) {
    f.mistake("currency", "is '" + p.currency + "'; a code of three capital letters (ISO 4217) is needed, such as USD");
  }
  f.named("models", [&](const std::string& name, Fields& g) {
    TokenPrices prices;
    prices.where = g.where();
    // A price per million tokens with six decimals is a whole number of pico-units per token.
    g.decimal("input", prices.input, 6, true);
    prices.cached_input = prices.input;
    g.decimal("cached_input", prices.cached_input, 6);
    g.decimal("output", prices.output, 6, true);
    p.models[name] = prices;
  });
  if (p.models.empty()) f.mistake("models", "must price at least one model");
  f.mapping("tiers", [&](Fields& g) {
    g.decimal("priority", p.tier_micro[static_cast<int>(Tier::priority)], 6);
    g.decimal("standard", p.tier_micro[static_cast<int>(Tier::standard)], 6);
    g.decimal("batch", p.tier_micro[static_cast<int>(Tier::batch)], 6);
  });
}

}  // namespace tokenworks::config
