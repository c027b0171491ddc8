#include "tokenworks/telemetry/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <set>

#include "charges.hpp"
#include "exposition.hpp"
#include "scraped.hpp"
#include "series.hpp"

namespace tokenworks::telemetry {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Histogram;

constexpr const char* kOther = "other";

enum class TokenClass : std::uint8_t { input, cached_input, output, reasoning, embedding };
constexpr const char* kTokenClasses[] = {"input", "cached_input", "output", "reasoning", "embedding"};

// The label values that may appear: known names up to a bound, the rest is "other".
class Labels {
 public:
  explicit Labels(std::size_t most) : most_(most) {}
  void set(const std::vector<std::string>& names) {
    std::lock_guard lock(mutex_);
    now_.clear();
    for (const std::string& name : names) {
      if (ever_.contains(name) || ever_.size() < most_) ever_.insert(name), now_.insert(name);
    }
  }
  std::string of(std::string_view name) const {
    std::lock_guard lock(mutex_);
    const auto found = now_.find(name);
    return found == now_.end() ? kOther : *found;
  }
  std::vector<std::string> all() const {
    std::lock_guard lock(mutex_);
    return {now_.begin(), now_.end()};
  }

 private:
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::set<std::string, std::less<>> now_;
  std::set<std::string> ever_;                       // series that exist stay: reloads must not add labels without end
};

class MetricsImpl final : public Metrics {
 public:
  explicit MetricsImpl(const std::vector<std::pair<std::string, std::string>>& build)
      : requests_(counters(series::kRequests)),
        tokens_(counters(series::kTokens)),
        first_token_(histogram(series::kFirstToken, series::kFirstTokenBuckets)),
        inter_token_(histogram(series::kInterToken, series::kInterTokenBuckets)),
        request_time_(histogram(series::kRequestTime, series::kRequestBuckets)),
        queue_time_(histogram(series::kQueueTime, series::kFirstTokenBuckets)),
        step_time_(histogram(series::kStepTime, series::kStepBuckets)),
        step_sequences_(histogram(series::kStepSequences, series::kCountBuckets)),
        step_prefill_(histogram(series::kStepTokens, series::kCountBuckets, {{"kind", "prefill"}})),
        step_decode_(histogram(series::kStepTokens, series::kCountBuckets, {{"kind", "decode"}})),
        commit_(histogram(series::kCommit, series::kCommitBuckets)) {
    prometheus::Labels labels(build.begin(), build.end());
    prometheus::BuildGauge().Name(series::kBuild.name).Help(series::kBuild.help).Register(registry_).Add(labels).Set(1);
  }

  void set_organizations(const std::vector<std::string>& names) override {
    organizations_.set(names);
    make_zeroes();
  }
  void set_models(const std::vector<std::string>& ids) override {
    models_.set(ids);
    make_zeroes();
  }
  void on_scrape(std::function<Scrape()> collect) override { collect_ = std::move(collect); }

  void request_done(const RequestDone& done) override {
    const std::string organization = organizations_.of(done.organization);
    const std::string model = models_.of(done.model);
    // Statuses come from our own closed mapping, so their number is bounded.
    counts_of(organization, model, done.status).Increment();
    const Usage& usage = done.usage;
    if (usage.input != 0 || usage.output != 0) {
      add_tokens(organization, model, done.embedding ? TokenClass::embedding : TokenClass::input, usage.input - usage.cached_input);
      add_tokens(organization, model, TokenClass::cached_input, usage.cached_input);
      add_tokens(organization, model, TokenClass::output, usage.output - usage.reasoning);
      add_tokens(organization, model, TokenClass::reasoning, usage.reasoning);
    }
    if (!done.currency.empty()) charges_.add(organization, std::string(done.currency), done.charge);
    if (done.seconds >= 0) request_time_.Observe(done.seconds);
    if (done.queue_seconds >= 0) queue_time_.Observe(done.queue_seconds);
    if (done.first_token_seconds >= 0) first_token_.Observe(done.first_token_seconds);
  }

  void inter_token(std::string_view, double seconds, int tokens) override {
    for (int i = 0; i < tokens; ++i) inter_token_.Observe(seconds);
  }

  void step(std::string_view, double seconds, int prefill_tokens, int decode_tokens, int sequences) override {
    step_time_.Observe(seconds);
    step_sequences_.Observe(sequences);
    if (prefill_tokens > 0) step_prefill_.Observe(prefill_tokens);
    if (decode_tokens > 0) step_decode_.Observe(decode_tokens);
  }

  void ledger_commit(double seconds, std::int64_t entries) override {
    commit_.Observe(seconds);
    entries_ += entries;
  }

  std::string expose(bool openmetrics) override {
    const Scrape scrape = collect_ ? collect_() : Scrape{};
    if (!scrape.currency.empty()) {
      for (const std::string& organization : organizations_.all()) charges_.ensure(organization, scrape.currency);
    }
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    for (auto& family : charges_.Collect()) families.push_back(std::move(family));
    append_scraped(scrape, entries_, families);
    append_cards(scrape, families);
    append_energy(scrape.energy, [this](const std::string& name) { return name == "_idle" ? name : organizations_.of(name); }, families);
    append_process(families);
    return write_exposition(std::move(families), openmetrics);
  }

 private:
  Family<Counter>& counters(const series::Series& s) {
    return prometheus::BuildCounter().Name(s.name).Help(s.help).Register(registry_);
  }
  Histogram& histogram(const series::Series& s, const std::vector<double>& buckets, const prometheus::Labels& labels = {}) {
    return prometheus::BuildHistogram().Name(s.name).Help(s.help).Register(registry_).Add(labels, buckets);
  }
  // The library finds a series by a map of its labels, built anew each time; these know theirs.
  struct Known {
    std::map<int, Counter*> requests;                // by status
    std::array<Counter*, 5> tokens{};                // by class
  };
  Known& known(const std::string& organization, const std::string& model) { return known_[organization][model]; }   // under known_mutex_
  Counter& counts_of(const std::string& organization, const std::string& model, int status) {
    std::lock_guard lock(known_mutex_);
    Counter*& counter = known(organization, model).requests[status];
    if (counter == nullptr) counter = &requests_.Add({{"organization", organization}, {"model", model}, {"status", std::to_string(status)}});
    return *counter;
  }
  void add_tokens(const std::string& organization, const std::string& model, TokenClass token_class, std::int64_t count) {
    if (count < 0) return;
    const auto place = static_cast<std::size_t>(token_class);
    std::lock_guard lock(known_mutex_);
    Counter*& counter = known(organization, model).tokens[place];
    if (counter == nullptr) counter = &tokens_.Add({{"organization", organization}, {"model", model}, {"class", kTokenClasses[place]}});
    counter->Increment(static_cast<double>(count));
  }
  // Series of what is configured exist from the start, so that rates and alerts see the first event.
  void make_zeroes() {
    for (const std::string& organization : organizations_.all()) {
      for (const std::string& model : models_.all()) {
        counts_of(organization, model, 200);
        for (const TokenClass c : {TokenClass::input, TokenClass::cached_input, TokenClass::output, TokenClass::reasoning}) add_tokens(organization, model, c, 0);
      }
    }
  }

  prometheus::Registry registry_;                    // owns what the references below refer to
  Family<Counter>&requests_, &tokens_;
  Histogram &first_token_, &inter_token_, &request_time_, &queue_time_, &step_time_, &step_sequences_, &step_prefill_,
      &step_decode_, &commit_;
  std::mutex known_mutex_;
  std::map<std::string, std::map<std::string, Known>> known_;   // as many as there are series: labels are bounded
  Charges charges_;
  Labels organizations_{series::kOrganizationsMax};
  Labels models_{64};
  std::atomic<std::int64_t> entries_{0};
  std::function<Scrape()> collect_;
};

}  // namespace

std::unique_ptr<Metrics> Metrics::make(const std::vector<std::pair<std::string, std::string>>& build) {
  return std::make_unique<MetricsImpl>(build);
}

}  // namespace tokenworks::telemetry
