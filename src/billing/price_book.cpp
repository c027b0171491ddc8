#include "tokenworks/billing/price_book.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "price_rules.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::billing {
namespace {

constexpr std::int64_t kNanoPerSecond = 1'000'000'000;

// Found by views: a price is looked up for every request.
using Models = std::map<std::string, ModelRules>;
using ModelsByView = std::map<std::string, const ModelRules*, std::less<>>;

struct VersionRules {
  Models models;
  std::map<std::string, Models> plans, organizations;
  std::int64_t tier_micro[3] = {};
  // Views into the above.
  ModelsByView by_model;
  std::map<std::string, ModelsByView, std::less<>> by_plan, by_organization;
};

ModelsByView by_view(const Models& models) {
  ModelsByView view;
  for (const auto& [name, rules] : models) view.emplace(name, &rules);
  return view;
}

std::int64_t seconds_of(std::int64_t unix_ns) {
  return unix_ns >= 0 ? unix_ns / kNanoPerSecond : -((-(unix_ns + 1)) / kNanoPerSecond) - 1;
}

class Book final : public PriceBook {
 public:
  const std::string& currency() const override { return currency_; }
  const std::vector<Version>& versions() const override { return versions_; }
  const Version& in_force(std::int64_t unix_ns) const override { return versions_[index_at(unix_ns)]; }

  std::optional<Rates> find(const PriceQuestion& q) const override {
    const VersionRules& version = *rules_[index_at(q.unix_ns)];
    const auto [model, whose] = model_of(version, q);
    if (model == nullptr) return std::nullopt;
    const TimeRule* time = model->time_at(seconds_of(q.unix_ns));
    return band_of(time != nullptr ? time->bands : model->bands, q.prompt_tokens).tiers[static_cast<std::size_t>(q.tier)];
  }

  std::optional<PriceAnswer> explain(const PriceQuestion& q) const override {
    const std::size_t index = index_at(q.unix_ns);
    const VersionRules& version = *rules_[index];
    const auto [model, whose] = model_of(version, q);
    if (model == nullptr) return std::nullopt;
    const TimeRule* time = model->time_at(seconds_of(q.unix_ns));
    const BandRates& band = band_of(time != nullptr ? time->bands : model->bands, q.prompt_tokens);
    PriceAnswer a;
    a.version = versions_[index].version;
    a.version_hash = versions_[index].hash;
    a.from_unix_ns = versions_[index].from_unix_ns;
    if (index + 1 < versions_.size()) a.until_unix_ns = versions_[index + 1].from_unix_ns;
    if (whose == Whose::plan) a.override_of = "plan " + std::string(q.plan);
    if (whose == Whose::organization) a.override_of = "organization " + std::string(q.organization);
    if (band.over >= 0) a.band_over = band.over;
    if (time != nullptr) {
      a.time = time->text();
      a.time_micro = time->micro;
    }
    a.tier_micro = version.tier_micro[static_cast<std::size_t>(q.tier)];
    a.list = band.list;
    a.rates = band.tiers[static_cast<std::size_t>(q.tier)];
    a.where = band.where;
    return a;
  }

  std::string currency_;
  std::vector<Version> versions_;
  std::vector<std::unique_ptr<const VersionRules>> rules_;   // parallel

 private:
  enum class Whose : std::uint8_t { everybody, plan, organization };

  std::size_t index_at(std::int64_t unix_ns) const {
    std::size_t i = versions_.size() - 1;
    while (i > 0 && versions_[i].from_unix_ns > unix_ns) --i;
    return i;
  }

  static std::pair<const ModelRules*, Whose> model_of(const VersionRules& version, const PriceQuestion& q) {
    const auto in = [&](const ModelsByView& models) {
      const auto it = models.find(q.model);
      return it == models.end() ? nullptr : it->second;
    };
    if (const auto o = version.by_organization.find(q.organization); o != version.by_organization.end()) {
      if (const ModelRules* model = in(o->second)) return {model, Whose::organization};
    }
    if (const auto p = version.by_plan.find(q.plan); p != version.by_plan.end()) {
      if (const ModelRules* model = in(p->second)) return {model, Whose::plan};
    }
    return {in(version.by_model), Whose::everybody};
  }
};

std::unique_ptr<const VersionRules> make_version(const config::PriceVersion& version, std::int64_t unit_pico, Mistakes& mistakes) {
  for (std::size_t tier = 0; tier < kTierNames.size(); ++tier) {
    if (version.tier_micro[tier] < 0 || version.tier_micro[tier] > 1000 * kMicro) {
      mistakes.add(version.where, std::string("the multiplier of tier ") + kTierNames[tier] + " must be from 0 to 1000");
    }
  }
  auto rules = std::make_unique<VersionRules>();
  std::ranges::copy(version.tier_micro, rules->tier_micro);
  const auto make = [&](const config::PricesByModel& prices, const std::string& prefix) {
    Models models;
    for (const auto& [name, model] : prices) {
      models.emplace(name, make_rules(model, prefix + name, version.tier_micro, unit_pico, mistakes));
    }
    return models;
  };
  rules->models = make(version.models, "");
  for (const auto& [name, prices] : version.plans) rules->plans[name] = make(prices, "plans." + name + ".");
  for (const auto& [name, prices] : version.organizations) rules->organizations[name] = make(prices, "organizations." + name + ".");
  rules->by_model = by_view(rules->models);
  for (const auto& [name, models] : rules->plans) rules->by_plan[name] = by_view(models);
  for (const auto& [name, models] : rules->organizations) rules->by_organization[name] = by_view(models);
  return rules;
}

}  // namespace

Result<std::shared_ptr<const PriceBook>> PriceBook::make(const config::Prices& prices) {
  Mistakes mistakes;
  const std::optional<int> digits = minor_digits(prices.currency);
  if (!digits) mistakes.add(prices.where, "the currency '" + prices.currency + "' is none of ISO 4217, such as USD");
  std::int64_t unit_pico = 1'000'000'000'000;
  for (int i = 0; i < money_places(prices.currency); ++i) unit_pico /= 10;

  std::vector<const config::PriceVersion*> versions{&prices};
  for (const config::PriceVersion& later : prices.later) versions.push_back(&later);
  std::set<std::string> names;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    const config::PriceVersion& v = *versions[i];
    if (v.version.empty() || v.version.size() > 64) mistakes.add(v.where, "version must be 1 to 64 characters");
    if (!names.insert(v.version).second) mistakes.add(v.where, "the version '" + v.version + "' stands twice");
    if (i > 0 && v.from_unix_ns <= versions[i - 1]->from_unix_ns) {
      mistakes.add(v.where, "version '" + v.version + "' begins no later than the version before it ('" + versions[i - 1]->version +
                                "'): give it a later 'from', or put the versions in order");
    }
  }
  auto book = std::make_shared<Book>();
  book->currency_ = prices.currency;
  for (const config::PriceVersion* v : versions) book->rules_.push_back(make_version(*v, unit_pico, mistakes));
  if (!mistakes.none()) return error(Errc::bad_config, mistakes.text());
  for (std::size_t i = 0; i < versions.size(); ++i) {
    const VersionRules& rules = *book->rules_[i];
    std::string text = canonical(*versions[i], prices.currency, rules.models, rules.plans, rules.organizations);
    const Digest digest = sha256(text);
    book->versions_.push_back({versions[i]->version, hex(digest), std::move(text), versions[i]->from_unix_ns, versions[i]->where});
  }
  return std::shared_ptr<const PriceBook>(std::move(book));
}

}  // namespace tokenworks::billing
