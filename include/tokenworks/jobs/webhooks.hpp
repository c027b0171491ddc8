#pragma once
// Webhooks: tells receivers of events, signed, from the ledger's outbox. As an EventSink it turns what happened into rows of
// the outbox (who wants it, under which id, in which words); its threads, one per receiver, send what is due and write down
// how it went. A receiver that is down or hangs delays nobody but itself. Nothing here is on the request path.
//
// At least once: a delivery that was taken but not yet written down is sent again after a crash, under the same id. The
// signature is that of the Standard Webhooks specification (docs/webhooks.md). Any thread; outlives admission.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/events.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::jobs {

struct Post {                                        // one attempt
  std::string url, body;
  std::vector<std::pair<std::string, std::string>> headers;
};
// Sends it; the status, or why there is none. Ends soon after `stopped` says so. Blocks its receiver's thread only.
using Send = std::function<Result<int>(const Post& post, const std::function<bool()>& stopped)>;
Send curl_send(std::string user_agent);

struct WebhookParts {
  const Clock& clock;
  ledger::Ledger& ledger;
  std::string id_secret;                             // ids of two plants never meet
  Send send;
  std::function<std::uint64_t()> random;             // for jitter
};

class Webhooks : public gateway::EventSink {
 public:
  struct Status {
    std::string name;
    std::int64_t pending = 0, delivered = 0, failed = 0, given_up = 0;   // failed: attempts
  };

  static std::unique_ptr<Webhooks> make(WebhookParts parts);
  // Stops the threads; what is on its way is sent again by the next run.
  ~Webhooks() override = default;
  // From now on these; start-up and reload. What is due to one that is gone waits for its return, or is given up.
  virtual void configure(const std::vector<config::Plant::Webhook>& webhooks) = 0;
  virtual std::vector<Status> status() const = 0;
};

}  // namespace tokenworks::jobs
