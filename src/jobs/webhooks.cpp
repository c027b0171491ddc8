#include "tokenworks/jobs/webhooks.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "courier.hpp"
#include "event_body.hpp"
#include "tokenworks/base/snapshot.hpp"

namespace tokenworks::jobs {
namespace {

using Receivers = std::vector<config::Plant::Webhook>;

constexpr std::chrono::seconds kLook{1};             // how often a receiver's thread asks the outbox

// One receiver's thread.
class Runner {
 public:
  Runner(const WebhookParts& parts, config::Plant::Webhook webhook) : courier_(parts, std::move(webhook)), thread_([this] { run(); }) {}
  ~Runner() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  const Courier& courier() const { return courier_; }

 private:
  void run() {
    const auto stopped = [this] { return stop_.load(); };
    while (!stopped()) {
      if (courier_.pass(stopped)) continue;
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kLook, stopped);
    }
  }

  Courier courier_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;                               // last: it uses everything above
};

class WebhooksImpl final : public Webhooks {
 public:
  explicit WebhooksImpl(WebhookParts parts) : parts_(std::move(parts)) { receivers_.set(std::make_shared<const Receivers>()); }

  Events budget_threshold(const billing::BudgetEvent& event, std::int64_t unix_ns) override {
    const EventName name = name_of(parts_.id_secret, event);
    return outgoing(name, unix_ns, [&] { return body_of(name, event, unix_ns); });
  }
  Events credit_expired(std::string_view organization, std::string_view currency, const billing::Balance::Lapse& lapse,
                        const RequestId& operation, std::int64_t unix_ns) override {
    const EventName name = name_of(parts_.id_secret, operation);
    return outgoing(name, unix_ns, [&] { return body_of(name, organization, currency, lapse, operation, unix_ns); });
  }

  void configure(const std::vector<config::Plant::Webhook>& webhooks) override {
    std::lock_guard lock(mutex_);
    receivers_.set(std::make_shared<const Receivers>(webhooks));
    const auto same = [](const config::Plant::Webhook& a, const config::Plant::Webhook& b) {
      return a.name == b.name && a.url == b.url && a.secret == b.secret && a.old_secret == b.old_secret;
    };
    std::erase_if(runners_, [&](const std::unique_ptr<Runner>& runner) {
      return std::ranges::none_of(webhooks, [&](const auto& w) { return same(w, runner->courier().webhook()); });
    });
    for (const config::Plant::Webhook& w : webhooks) {
      const bool there = std::ranges::any_of(runners_, [&](const auto& runner) { return same(w, runner->courier().webhook()); });
      if (!there) runners_.push_back(std::make_unique<Runner>(parts_, w));
    }
  }

  std::vector<Status> status() const override {
    std::lock_guard lock(mutex_);
    std::vector<Status> all;
    for (const auto& runner : runners_) all.push_back(runner->courier().status());
    return all;
  }

 private:
  template <class Body>
  Events outgoing(const EventName& name, std::int64_t unix_ns, const Body& body) const {
    Events events;
    std::string text;
    const std::shared_ptr<const Receivers> receivers = receivers_.get();
    for (const config::Plant::Webhook& w : *receivers) {
      const bool wanted = std::ranges::any_of(w.events, [&](const std::string& type) { return type == "*" || type == name.type; });
      if (!wanted) continue;
      if (text.empty()) text = body();
      events.push_back({name.id, w.name, name.type, text, unix_ns});
    }
    return events;
  }

  const WebhookParts parts_;
  Snapshot<Receivers> receivers_;                    // read by whoever ends a hold
  mutable std::mutex mutex_;                         // guards the runners
  std::vector<std::unique_ptr<Runner>> runners_;
};

}  // namespace

std::unique_ptr<Webhooks> Webhooks::make(WebhookParts parts) { return std::make_unique<WebhooksImpl>(std::move(parts)); }

}  // namespace tokenworks::jobs
