#pragma once
// What the ledger's tests share: records with everything filled in, and calls that wait for the commit.
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ledger/service.hpp"
#include "support/fault_vfs.hpp"

namespace tokenworks::ledger::test {

inline constexpr std::int64_t kNoon = 1'764'072'000'000'000'000;   // 2025-11-25 12:00:00 UTC
inline constexpr std::int64_t kHourNs = 3600 * kSecondNs;

inline RequestId request(int n) {
  std::array<std::uint8_t, 10> bytes{};
  for (int i = 0; i < 4; ++i) bytes[static_cast<std::size_t>(9 - i)] = static_cast<std::uint8_t>(n >> 8 * i);
  return RequestId::make(kNoon / 1'000'000 + n, bytes);
}

inline Record hold(const RequestId& id, std::int64_t nano, const std::string& organization = "acme") {
  Record r;
  r.type = EntryType::hold;
  r.unix_ns = kNoon;
  r.request = id;
  r.organization.value = organization;
  r.project.value = organization + "/search";
  r.key.value = "k1234567";
  r.actor = "service:default";
  r.model.value = "smollm2-135m-instruct";
  r.model_digest = std::string(64, 'a');
  r.tokenizer_digest = std::string(64, 'b');
  r.price_version = "2026-11-01";
  r.price_hash = std::string(64, 'c');
  r.usage = {100, 0, 50, 0};
  r.amount = {nano};
  r.currency = "USD";
  r.build_id = "test";
  r.region = "eu-central";
  r.jurisdiction = "DE";
  r.data_class = "internal";
  return r;
}

inline Record settle(Record r, std::int64_t input, std::int64_t output) {
  r.type = EntryType::settle;
  r.usage = {100, 20, 40, 10};
  r.amount = {input + output};
  r.lines = {{"input", {input}}, {"output", {output}}};
  r.finish_reason = "stop";
  return r;
}

inline Record ending(Record r, EntryType type, std::int64_t nano) {
  r.type = type;
  r.usage = {};
  r.amount = {nano};
  r.finish_reason = "cancelled";
  return r;
}

inline Record money(const RequestId& id, EntryType type, std::int64_t nano, const std::string& organization = "acme") {
  Record r;
  r.type = type;
  r.unix_ns = kNoon;
  r.request = id;
  r.organization.value = organization;
  r.actor = "user:anna";
  r.amount = {nano};
  r.currency = "USD";
  return r;
}

// Appends and waits for what its owner is told.
inline Result<> book(Ledger& ledger, Record record) {
  auto told = std::make_shared<std::promise<Result<>>>();
  auto future = told->get_future();
  if (auto taken = ledger.append(std::move(record), [told](const Result<>& r) { told->set_value(r); }); !taken)
    return taken;
  if (future.wait_for(std::chrono::seconds(120)) != std::future_status::ready)
    return error(Errc::internal, "not told in 120 s");
  return future.get();
}

// A ledger on a disk in memory, with a clock that stands still.
struct Plant {
  explicit Plant(std::uint64_t seed = 1) : disk(seed), clock(kNoon) {
    options.path = "/ledger.sqlite";
    options.vfs = disk.name();
    options.build_id = "test";
    tuning.checkpoints.background = false;
    tuning.close_patience_ns = 0;
    tuning.gather_us = 0;
  }
  // Opens (again); the message of the error, or "".
  std::string open() {
    ledger.reset();
    auto made = Service::open(options, tuning, clock);
    if (!made) return made.error().message;
    ledger = std::move(*made);
    return "";
  }
  void kill_and_restart_disk() {
    disk.kill_now();
    ledger.reset();
    disk.power_on();
  }

  tokenworks::test::FaultVfs disk;
  ManualClock clock;
  LedgerOptions options;
  Tuning tuning;
  std::unique_ptr<Service> ledger;
};

}  // namespace tokenworks::ledger::test
