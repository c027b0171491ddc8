#include "anatomy.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace tokenworks::bench {
namespace {

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// Nanoseconds the calling thread was ready and had no processor.
std::int64_t run_delay_ns() {
  thread_local const int file = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  char text[128] = {};
  if (file < 0 || ::pread(file, text, sizeof text - 1, 0) <= 0) return 0;
  long long ran = 0, waited = 0;
  return std::sscanf(text, "%lld %lld", &ran, &waited) == 2 ? waited : 0;
}

std::int64_t overlap(std::int64_t a0, std::int64_t a1, std::int64_t b0, std::int64_t b1) {
  return std::max<std::int64_t>(0, std::min(a1, b1) - std::max(a0, b0));
}

std::string quantiles(std::vector<std::int64_t> ns) {
  if (ns.empty()) return "null";
  std::sort(ns.begin(), ns.end());
  const auto us = [&](std::size_t percent) { return std::to_string(ns[std::min(ns.size() - 1, ns.size() * percent / 100)] / 1000); };
  return "{\"n\": " + std::to_string(ns.size()) + ", \"p50_us\": " + us(50) + ", \"p99_us\": " + us(99) + ", \"max_us\": " + us(100) + "}";
}

}  // namespace

void Anatomy::add(std::int64_t begun, std::int64_t ended, Piece piece) {
  if (ended > begun) spans_.push_back({begun, ended, piece});
}

void Anatomy::commit(std::int64_t took_ns, std::int64_t rollups_ns) {
  const std::int64_t end = now_ns(), begun = end - took_ns, delay = run_delay_ns();
  std::int64_t at = last_end_ == 0 ? begun : last_end_;
  bool inside = false;
  for (const FileTime& time : take_file_times()) {
    if (time.begun_ns < at) continue;
    if (!inside && time.begun_ns >= begun) {
      add(at, begun, between);
      const std::int64_t built = std::max(begun, time.begun_ns - rollups_ns);
      add(begun, built, entries);
      add(built, time.begun_ns, rollups);
      at = time.begun_ns;
      inside = true;
    }
    add(at, time.begun_ns, inside ? log_write : between);
    const Piece piece = time.work == FileWork::log_write ? log_write : time.work == FileWork::log_sync ? log_sync : finish;
    add(time.begun_ns, time.ended_ns, inside ? piece : finish);
    at = time.ended_ns;
  }
  if (inside) add(at, end, log_write);
  if (last_end_ != 0) delays_.push_back({last_end_, end, delay - last_delay_});
  last_end_ = end;
  last_delay_ = delay;
}

void Anatomy::settle(std::int64_t asked_ns) { settles_.push_back({asked_ns, now_ns()}); }

Anatomy::Sum Anatomy::sum(std::int64_t from_ns) const {
  Sum sum;
  for (const Settle& one : settles_) {
    if (one.done - one.asked < from_ns) continue;
    ++sum.count;
    sum.total += one.done - one.asked;
    const auto ends_after = [&](const auto& span) { return span.ended < one.asked; };
    for (auto at = std::partition_point(spans_.begin(), spans_.end(), ends_after); at != spans_.end() && at->begun < one.done; ++at) {
      sum.by_piece[at->piece] += overlap(at->begun, at->ended, one.asked, one.done);
    }
    for (auto at = std::partition_point(delays_.begin(), delays_.end(), ends_after); at != delays_.end() && at->begun < one.done; ++at) {
      sum.without_processor += std::min(at->ns, overlap(at->begun, at->ended, one.asked, one.done));
    }
    const auto beside_after = [&](const FileTime& time) { return time.ended_ns < one.asked; };
    for (auto at = std::partition_point(beside_.begin(), beside_.end(), beside_after); at != beside_.end() && at->begun_ns < one.done; ++at) {
      const std::int64_t both = overlap(at->begun_ns, at->ended_ns, one.asked, one.done);
      (at->work == FileWork::base_write ? sum.beside_write : sum.beside_sync) += both;
    }
  }
  return sum;
}

// How long the log's syncs took, by what the checkpoint thread did meanwhile.
std::string Anatomy::syncs() const {
  std::vector<std::int64_t> alone, writing, syncing, writes, finishes;
  for (const Span& span : spans_) {
    if (span.piece == log_write && span.ended - span.begun > 1'000'000) writes.push_back(span.ended - span.begun);
    if (span.piece == finish) finishes.push_back(span.ended - span.begun);
    if (span.piece != log_sync) continue;
    std::int64_t write = 0, sync = 0;
    const auto before = [&](const FileTime& time) { return time.ended_ns < span.begun; };
    for (auto at = std::partition_point(beside_.begin(), beside_.end(), before); at != beside_.end() && at->begun_ns < span.ended; ++at) {
      (at->work == FileWork::base_write ? write : sync) += 1;
    }
    (sync != 0 ? syncing : write != 0 ? writing : alone).push_back(span.ended - span.begun);
  }
  return "\"log_sync\": {\"alone\": " + quantiles(alone) + ", \"beside_copying\": " + quantiles(writing) + ", \"beside_sync_of_copy\": " +
         quantiles(syncing) + "},\n    \"log_writes_over_1ms\": " + quantiles(writes) + ", \"own_part_of_checkpoints\": " + quantiles(finishes);
}

std::string Anatomy::report() {
  beside_ = take_others_file_times();
  std::sort(beside_.begin(), beside_.end(), [](const FileTime& a, const FileTime& b) { return a.begun_ns < b.begun_ns; });
  if (settles_.empty()) return "\"settles\": null";
  std::vector<std::int64_t> took, copies, copy_syncs;
  for (const Settle& one : settles_) took.push_back(one.done - one.asked);
  std::sort(took.begin(), took.end());
  std::int64_t pages = 0;
  for (const FileTime& time : beside_) {
    (time.work == FileWork::base_write ? copies : copy_syncs).push_back(time.ended_ns - time.begun_ns);
    if (time.work == FileWork::base_write) pages += time.calls;
  }
  const auto text = [](const char* name, const Sum& sum) {
    const auto mean = [&](std::int64_t ns) { return std::to_string(ns / std::max<std::int64_t>(1, sum.count) / 1000); };
    return std::string("\"") + name + "\": {\"n\": " + std::to_string(sum.count) + ", \"mean_us\": " + mean(sum.total) +
           ", \"between\": " + mean(sum.by_piece[between]) + ", \"entries\": " + mean(sum.by_piece[entries]) +
           ", \"rollups\": " + mean(sum.by_piece[rollups]) + ", \"log_write\": " + mean(sum.by_piece[log_write]) +
           ", \"log_sync\": " + mean(sum.by_piece[log_sync]) + ", \"finish\": " + mean(sum.by_piece[finish]) +
           ", \"beside_copying\": " + mean(sum.beside_write) + ", \"beside_sync_of_copy\": " + mean(sum.beside_sync) +
           ", \"without_processor\": " + mean(sum.without_processor) + "}";
  };
  std::string out = text("all", sum(0)) + ",\n    " + text("slowest_hundredth", sum(took[took.size() * 99 / 100]));
  out += ",\n    " + syncs() + ",\n    \"copied_pages\": " + std::to_string(pages) + ", \"copying\": " + quantiles(copies) +
         ", \"syncs_of_copies\": " + quantiles(copy_syncs);
  return out;
}

}  // namespace tokenworks::bench
