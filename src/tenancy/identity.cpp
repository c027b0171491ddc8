#include "tokenworks/tenancy/identity.hpp"

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>

#include "jwt.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/base/snapshot.hpp"

namespace tokenworks::tenancy {
namespace {

using Keys = std::shared_ptr<const std::vector<JsonWebKey>>;

constexpr std::size_t kKeySetMax = 1 << 20;
constexpr std::int64_t kAgainAtMostEveryNs = 2'000'000'000;   // a source, whatever tokens ask for

bool is_url(const std::string& source) { return source.find("://") != std::string::npos; }

struct State {                                       // immutable, swapped whole
  std::vector<config::IssuerSpec> issuers;
  std::map<std::string, Keys> keys;                  // by source; null: not read yet
};

class IdentityImpl final : public Identity {
 public:
  IdentityImpl(const Clock& clock, std::string secret, FetchText fetch) : clock_(clock), secret_(std::move(secret)), fetch_(std::move(fetch)) {
    state_.set(std::make_shared<const State>());
    thread_ = std::thread([this] { keep_fresh(); });
  }
  ~IdentityImpl() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  Result<> apply(const std::vector<config::IssuerSpec>& issuers) override {
    auto fresh = std::make_shared<State>();
    fresh->issuers = issuers;
    const auto old = state_.get();
    for (const config::IssuerSpec& issuer : issuers) {
      Keys& keys = fresh->keys[issuer.jwks];
      if (const auto known = old->keys.find(issuer.jwks); known != old->keys.end()) keys = known->second;
      if (is_url(issuer.jwks)) continue;
      auto read = read_source(issuer.jwks);
      if (!read) return read.error();
      keys = *read;
    }
    std::lock_guard lock(mutex_);
    read_ns_.clear();                                // the thread looks at every source now
    asked_ = true;
    state_.set(std::move(fresh));
    wake_.notify_all();
    return {};
  }

  Result<Bearer> verify(std::string_view text) const override {
    const auto token = read_token(text);
    if (!token) return token.error();
    const auto state = state_.get();
    const auto issued = find_issuer(*token, state->issuers);
    if (!issued) return issued.error();
    const config::IssuerSpec& spec = *issued->spec;
    const Keys& keys = state->keys.at(spec.jwks);
    const auto refused = [](const char* why) { return error(Errc::invalid_api_key, std::string("This bearer token ") + why); };
    const Signature signature = keys ? verify_signature(*token, *keys) : Signature::unknown_key;
    if (signature == Signature::bad) return refused("is not signed by its issuer");
    if (signature == Signature::unknown_key) {
      ask_again();
      return refused(keys ? "is signed with a key its issuer does not publish; if that is new, try again in a few seconds"
                          : "cannot be checked now: its issuer's keys could not be read yet; try again in a few seconds");
    }
    const auto claims = check_claims(*token, spec, clock_.unix_ns());
    if (!claims) return claims.error();
    Bearer bearer;
    bearer.project = claims->project;
    bearer.organization = claims->project.substr(0, claims->project.find('/'));
    const Digest subject = hmac_sha256(secret_, spec.issuer + '\n' + claims->subject);
    bearer.key = "jwt-" + hex(std::span(subject).first(8));
    return bearer;
  }

 private:
  Result<Keys> read_source(const std::string& source) const {
    std::string text;
    if (is_url(source)) {
      auto fetched = fetch_(source);
      if (!fetched) return fetched.error();
      text = std::move(*fetched);
    } else {
      std::ifstream file(source, std::ios::binary);
      std::stringstream all;
      if (file) all << file.rdbuf();
      text = all.str();
      if (!file || text.empty()) return error(Errc::bad_config, "identity: " + source + ": cannot be read, or is empty");
    }
    if (text.size() > kKeySetMax) return error(Errc::bad_config, "identity: " + source + ": is larger than 1 MiB");
    auto keys = parse_key_set(text);
    if (!keys) return error(Errc::bad_config, "identity: " + source + ": " + keys.error().message);
    return std::make_shared<const std::vector<JsonWebKey>>(std::move(*keys));
  }

  void ask_again() const {
    {
      std::lock_guard lock(mutex_);
      asked_ = true;
    }
    wake_.notify_all();
  }

  // The thread: reads what is old, or what a token asked for, one source after the other.
  void keep_fresh() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      const auto state = state_.get();
      const bool asked = std::exchange(asked_, false);
      std::int64_t next = INT64_MAX;
      for (const config::IssuerSpec& issuer : state->issuers) {
        const auto found = read_ns_.find(issuer.jwks);
        const std::int64_t now = clock_.steady_ns(), last = found == read_ns_.end() ? INT64_MIN / 2 : found->second;
        const bool missing = state->keys.at(issuer.jwks) == nullptr;
        const std::int64_t due = last + (asked || missing ? kAgainAtMostEveryNs : std::max(issuer.refresh_ns, kAgainAtMostEveryNs));
        if (now < due) {
          if (asked) asked_ = true;                  // soon
          next = std::min(next, due - now);
          continue;
        }
        read_ns_[issuer.jwks] = now;
        next = std::min(next, missing ? kAgainAtMostEveryNs : issuer.refresh_ns);
        lock.unlock();
        auto read = read_source(issuer.jwks);
        lock.lock();
        if (stopping_) return;
        if (read) {
          put(issuer.jwks, std::move(*read));
        } else {
          log::warn("identity_keys_unreadable", {{"issuer", issuer.issuer}, {"why", read.error().message}});
        }
      }
      if (next == INT64_MAX) {
        wake_.wait(lock, [&] { return stopping_ || asked_; });
      } else {
        const bool soon = asked_;                    // asked for, but too early: sleep until it is due
        wake_.wait_for(lock, std::chrono::nanoseconds(next), [&] { return stopping_ || (asked_ && !soon); });
      }
    }
  }

  void put(const std::string& source, Keys keys) {   // under the mutex
    auto fresh = std::make_shared<State>(*state_.get());
    const auto place = fresh->keys.find(source);
    if (place == fresh->keys.end()) return;          // a reload took the issuer away meanwhile
    place->second = std::move(keys);
    state_.set(std::move(fresh));
  }

  const Clock& clock_;
  const std::string secret_;
  const FetchText fetch_;
  Snapshot<State> state_;
  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  std::map<std::string, std::int64_t> read_ns_;      // by source: when it was read last
  mutable bool asked_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Identity> Identity::make(const Clock& clock, std::string secret, FetchText fetch) {
  return std::make_unique<IdentityImpl>(clock, std::move(secret), std::move(fetch));
}

bool Identity::is_token(std::string_view bearer) {
  // A header begins with a brace, which is 'e' in base64url; white space may follow it (RFC 7515 4).
  return bearer.starts_with('e') && std::count(bearer.begin(), bearer.end(), '.') == 2;
}

std::string mistake_in_key_set(std::string_view json) {
  const auto keys = parse_key_set(json);
  return keys ? std::string() : keys.error().message;
}

}  // namespace tokenworks::tenancy
