// The ledger's speed on this disk, beside the disk's own: entries/s while the store grows, the latency of a settle at a
// steady rate, usage queries, verification, recovery after kill -9, bytes per request. Prints one JSON object.
//   bench_ledger [--rows 2000000] [--rate 10000] [--seconds 10] [--organizations 1000] [--folder .] [--no-verify]
//                [--settings 32768/1000/1000/16384/64/3,32768/1000/200/1000000/0/0] [--rounds 1]   settle latency with several
// settings, alternating, the disk probed beside each: pages of log that start a checkpoint / gather_us / milliseconds and entries between
// two writes of a part of the rollups / pages of a checkpoint that are synced together, 0 all / rest after them, times what they took;
// --warm 3: seconds before the measurement, in which the log grows to
// its full length (later it is written over and over). Beside each: what every thread worked and how long it waited for a
// processor, what other processes used (others_permille of the machine: a run is quiet where it is small) and the hypervisor took. --anatomy: where settles wait (anatomy.hpp), at the price of noting it.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "anatomy.hpp"
#include "ledger/service.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/ledger/ledger.hpp"

using namespace tokenworks;
using namespace tokenworks::ledger;

namespace {

constexpr std::int64_t kMonthNs = 30ll * 86400 * 1'000'000'000;

struct Settings {
  std::int64_t rows = 2'000'000, rate = 10'000, seconds = 10, organizations = 1000, rounds = 1, warm = 3;
  std::vector<Tuning> settings = {Tuning{}};
  std::string folder = ".";
  bool verify = true, anatomy = false;
};

const SystemClock kClock;

std::vector<Tuning> settings_of(const std::string& text) {
  std::vector<Tuning> all;
  for (std::size_t at = 0; at < text.size(); at = std::min(text.size(), text.find(',', at)) + 1) {
    long long gather = 0, every = 0, behind = 0;
    Tuning one;
    if (std::sscanf(text.c_str() + at, "%d/%lld/%lld/%lld/%d/%d", &one.checkpoints.pages, &gather, &every, &behind, &one.checkpoints.slice,
                    &one.checkpoints.rest) != 6) {
      std::abort();
    }
    one.gather_us = gather;
    one.rollups.every_ns = every * 1'000'000;
    one.rollups.behind = behind;
    all.push_back(one);
  }
  return all;
}

std::int64_t now_us() { return kClock.steady_ns() / 1000; }

// CPU time of the whole process, kernel included.
std::int64_t cpu_us() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000 + t.tv_nsec / 1000;
}

std::string percentiles(std::vector<std::int64_t>& us) {
  std::sort(us.begin(), us.end());
  const auto at = [&](std::size_t permille) { return us[std::min(us.size() - 1, us.size() * permille / 1000)]; };
  return "{\"p50_us\": " + std::to_string(at(500)) + ", \"p99_us\": " + std::to_string(at(990)) +
         ", \"p999_us\": " + std::to_string(at(999)) + ", \"max_us\": " + std::to_string(us.back()) + "}";
}

// Writing 4 KiB and fdatasync, as a log does: growing the file, or over what it holds (a log that began again).
std::vector<std::int64_t> disk_syncs(const std::string& folder, int count, bool grow) {
  const std::string path = folder + "/sync.probe";
  const int file = ::open(path.c_str(), O_CREAT | O_TRUNC | O_RDWR, 0600);
  if (file < 0) std::abort();
  std::vector<char> page(4096, 'x');
  std::vector<std::int64_t> took;
  for (int i = 0; !grow && i < count; ++i) {
    if (::write(file, page.data(), page.size()) < 0) std::abort();
  }
  if (!grow && (::fsync(file) != 0 || ::lseek(file, 0, SEEK_SET) != 0)) std::abort();
  for (int i = 0; i < count; ++i) {
    const std::int64_t begun = now_us();
    if (::write(file, page.data(), page.size()) < 0 || ::fdatasync(file) != 0) std::abort();
    took.push_back(now_us() - begun);
  }
  ::close(file);
  ::unlink(path.c_str());
  return took;
}

RequestId id_of(std::int64_t n, std::int64_t unix_ms) {
  std::array<std::uint8_t, 10> random{};
  std::uint64_t mixed = static_cast<std::uint64_t>(n) * 0x9e3779b97f4a7c15u;
  for (auto& byte : random) byte = static_cast<std::uint8_t>(mixed), mixed = mixed >> 7 | mixed << 57;
  return RequestId::make(unix_ms, random);
}

Record record_of(std::int64_t organization) {
  Record r;
  r.organization.value = "organization-" + std::to_string(organization);
  r.project.value = r.organization.value + "/default";
  r.key.value = "k" + std::to_string(10'000'000 + organization).substr(1);
  r.actor = "service:default";
  r.model.value = "smollm2-135m-instruct";
  r.model_digest = std::string(64, 'a');
  r.tokenizer_digest = std::string(64, 'b');
  r.price_version = "2026-11-01";
  r.price_hash = std::string(64, 'c');
  r.currency = "USD";
  r.build_id = "tokenworks 0.1.0 bench";
  r.region = "eu-central";
  r.jurisdiction = "DE";
  r.data_class = "internal";
  return r;
}

void make_hold(Record& r) {
  r.type = EntryType::hold;
  r.usage = {512, 0, 256, 0};
  r.amount = {153'600};
  r.lines.clear();
  r.finish_reason.clear();
}

void make_settle(Record& r) {
  r.type = EntryType::settle;
  r.usage = {512, 128, 200, 0};
  r.amount = {124'800};
  r.lines = {{"input", {38'400}}, {"cached_input", {6'400}}, {"output", {80'000}}};
  r.finish_reason = "stop";
}

std::unique_ptr<Ledger> open(const std::string& path) {
  LedgerOptions options;
  options.path = path;
  options.build_id = "bench";
  auto opened = Ledger::open(options, kClock);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    std::exit(1);
  }
  return std::move(*opened);
}

// HOLD and SETTLE pairs spread over a month, as fast as the queue takes them; with the first of the settings.
void fill(const Settings& s, const std::string& path) {
  LedgerOptions options;
  options.path = path;
  options.build_id = "bench";
  auto opened = Service::open(options, s.settings.front(), kClock);
  if (!opened) std::abort();
  Ledger* const ledger = opened->get();
  std::vector<Record> templates;
  for (std::int64_t i = 0; i < s.organizations; ++i) templates.push_back(record_of(i));
  const std::int64_t base = kClock.unix_ns() - kMonthNs;
  const std::int64_t pairs = s.rows / 2, lag = 64;   // sixty-four requests run at any time
  const std::int64_t begun = now_us(), cpu_begun = cpu_us();
  std::int64_t tenth = begun, tenth_left = 0;
  std::string tenths;                                // entries/s of each tenth of the rows
  for (std::int64_t i = 0; i < pairs + lag; ++i) {
    if (i < pairs) {
      Record r = templates[static_cast<std::size_t>(i * 7919 % s.organizations)];
      r.unix_ns = base + kMonthNs / pairs * i;
      r.request = id_of(i, r.unix_ns / 1'000'000);
      make_hold(r);
      while (!ledger->append(r)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (i >= lag) {
      const std::int64_t k = i - lag;
      Record r = templates[static_cast<std::size_t>(k * 7919 % s.organizations)];
      r.unix_ns = base + kMonthNs / pairs * k;
      r.request = id_of(k, r.unix_ns / 1'000'000);
      make_settle(r);
      while (!ledger->append(r)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (i % 4096 == 0) {
      while (ledger->health().queued > 60'000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (i % (pairs / 10) == 0 && i > 0) {
      const std::int64_t now = now_us(), queued = ledger->health().queued;
      if (i < pairs) tenths += std::to_string((2 * (pairs / 10) + tenth_left - queued) * 1'000'000 / (now - tenth)) + ", ";
      if (i < pairs) tenth = now, tenth_left = queued;
    }
  }
  while (ledger->health().queued > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::int64_t end = now_us();
  tenths += std::to_string((2 * (pairs / 10) + tenth_left) * 1'000'000 / (end - tenth));
  std::printf("  \"fill\": {\"rows\": %lld, \"entries_per_s\": %lld, \"entries_per_s_by_tenth\": [%s], "
              "\"cpu_ns_per_entry\": %lld},\n",
              static_cast<long long>(2 * pairs), static_cast<long long>(2 * pairs * 1'000'000 / (end - begun)), tenths.c_str(),
              static_cast<long long>((cpu_us() - cpu_begun) * 1000 / (2 * pairs)));
}

// Nanoseconds a thread ran, and was ready but had no processor (schedstat), by its name.
struct Processor {
  std::int64_t ran = 0, waited = 0;
};
std::map<std::string, Processor> processors() {
  std::map<std::string, Processor> all;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm"), stat(task.path() / "schedstat");
    std::string name;
    Processor one;
    if (std::getline(comm, name) && stat >> one.ran >> one.waited) all[name] = one;
  }
  return all;
}
// Of all processors since boot: what the hypervisor took, and what they worked (user, nice, system, interrupts).
struct Machine {
  std::int64_t stolen_ms = 0, worked_ms = 0;
};
Machine machine() {
  std::ifstream stat("/proc/stat");
  std::string word;
  std::array<std::int64_t, 8> ticks{};               // user nice system idle iowait irq softirq steal
  stat >> word;
  for (auto& one : ticks) stat >> one;
  const std::int64_t ms = 1000 / ::sysconf(_SC_CLK_TCK);
  return {ticks[7] * ms, (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * ms};
}

// `rate` settles a second (and as many holds), each timed from append to its callback.
struct Latency {
  std::vector<std::int64_t> took, commits, growing, over;   // microseconds; the last two: the disk's own syncs
  std::vector<std::int64_t> rounds_p99;
  std::map<std::string, Processor> threads;
  std::int64_t wall = 0, stolen_ms = 0;
  std::vector<std::int64_t> others_permille;         // of all processors, used by other processes, by round
  std::string anatomy;                               // of the last round
};

void settle_latency(const Settings& s, const std::string& path, const Tuning& tuning, Latency& into) {
  for (const bool grow : {true, false}) {
    for (const std::int64_t us : disk_syncs(s.folder, 300, grow)) (grow ? into.growing : into.over).push_back(us);
  }
  LedgerOptions options;
  options.path = path;
  options.build_id = "bench";
  bench::Anatomy anatomy;                            // outlives the ledger
  if (s.anatomy) options.vfs = bench::timed_vfs();
  auto opened = Service::open(options, tuning, kClock);
  if (!opened) std::abort();
  Service& ledger = **opened;
  std::mutex mutex;
  std::atomic<bool> measured{false};
  ledger.on_commit([&](std::int64_t ns, std::int64_t) {
    if (!measured) return;
    if (s.anatomy) anatomy.commit(ns, ledger.last_rollups_ns());
    std::lock_guard lock(mutex);
    into.commits.push_back(ns / 1000);
  });
  std::vector<Record> templates;
  for (std::int64_t i = 0; i < s.organizations; ++i) templates.push_back(record_of(i));
  const std::int64_t total = s.rate * (s.warm + s.seconds), lag = s.rate / 10;
  const std::int64_t begun = now_us(), begun_unix_ms = kClock.unix_ns() / 1'000'000;
  // In the order of time, as the daemon's are: ids of one and the same millisecond would come in random order, and every entry
  // would dirty a page of its own of the index by request.
  const auto request_of = [&](std::int64_t i) { return id_of(i, begun_unix_ms + i * 1000 / s.rate); };
  std::int64_t measured_from = begun, cpu_begun = 0;
  Machine machine_before;
  const std::size_t earlier = into.took.size();
  std::map<std::string, Processor> before;
  for (std::int64_t i = 0; i < total + lag; ++i) {
    while (now_us() - begun < i * 1'000'000 / s.rate) std::this_thread::sleep_for(std::chrono::microseconds(200));
    const std::int64_t unix_ns = kClock.unix_ns();
    if (i == s.rate * s.warm) {
      before = processors();
      machine_before = machine();
      cpu_begun = cpu_us();
      measured = true;
      measured_from = now_us();
    }
    if (i < total) {
      Record r = templates[static_cast<std::size_t>(i * 7919 % s.organizations)];
      r.unix_ns = unix_ns;
      r.request = request_of(i);
      make_hold(r);
      (void)ledger.append(std::move(r), {});
    }
    if (i >= lag) {
      const std::int64_t k = i - lag;
      Record r = templates[static_cast<std::size_t>(k * 7919 % s.organizations)];
      r.unix_ns = unix_ns;
      r.request = request_of(k);
      make_settle(r);
      const std::int64_t asked = now_us();
      (void)ledger.append(std::move(r), [&, asked](const Result<>& done) {
        if (!done) std::abort();
        if (!measured) return;
        if (s.anatomy) anatomy.settle(asked * 1000);
        std::lock_guard lock(mutex);
        into.took.push_back(now_us() - asked);
      });
    }
  }
  while (ledger.health().queued > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::int64_t wall = now_us() - measured_from;
  const Machine now = machine();
  into.wall += wall;
  into.stolen_ms += now.stolen_ms - machine_before.stolen_ms;
  const std::int64_t others = (now.worked_ms - machine_before.worked_ms) * 1000 - (cpu_us() - cpu_begun);
  into.others_permille.push_back(std::max<std::int64_t>(0, others) * 1000 / (wall * std::max(1u, std::thread::hardware_concurrency())));
  for (const auto& [name, after] : processors()) {
    into.threads[name].ran += after.ran - before[name].ran;
    into.threads[name].waited += after.waited - before[name].waited;
  }
  opened->reset();                                   // the last callback is over
  if (s.anatomy) into.anatomy = anatomy.report();
  std::vector<std::int64_t> round(into.took.begin() + static_cast<std::ptrdiff_t>(earlier), into.took.end());
  std::sort(round.begin(), round.end());
  into.rounds_p99.push_back(round[round.size() * 99 / 100]);
}

// Every setting in turn, `rounds` times, so that a disturbance of the machine meets all of them.
void settle_latencies(const Settings& s, const std::string& path) {
  std::vector<Latency> all(s.settings.size());
  for (std::int64_t round = 0; round < s.rounds; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) settle_latency(s, path, s.settings[i], all[i]);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    Latency& one = all[i];
    const Tuning& tuning = s.settings[i];
    const auto per_s = [&](std::size_t n) { return static_cast<long long>(static_cast<std::int64_t>(n) * 1'000'000 / one.wall); };
    std::printf("  \"settle_%d_%lld_%lld_%lld_%d_%d\": {\"per_s\": %lld, \"commits_per_s\": %lld,\n    \"latency\": %s,\n"
                "    \"commit\": %s,\n    \"disk_sync_growing\": %s,\n    \"disk_sync_over\": %s,\n",
                tuning.checkpoints.pages, static_cast<long long>(tuning.gather_us), static_cast<long long>(tuning.rollups.every_ns / 1'000'000),
                static_cast<long long>(tuning.rollups.behind), tuning.checkpoints.slice, tuning.checkpoints.rest, per_s(one.took.size()), per_s(one.commits.size()), percentiles(one.took).c_str(),
                percentiles(one.commits).c_str(), percentiles(one.growing).c_str(), percentiles(one.over).c_str());
    const auto p99 = [](const std::vector<std::int64_t>& sorted) { return sorted[sorted.size() * 99 / 100]; };
    const std::int64_t limit = 2 * std::min(p99(one.growing), p99(one.over)) + 5000;   // by the faster of the two
    std::string rounds, threads, others;
    for (const std::int64_t permille : one.others_permille) others += (others.empty() ? "" : ", ") + std::to_string(permille);
    for (const std::int64_t us : one.rounds_p99) rounds += (rounds.empty() ? "" : ", ") + std::to_string(us);
    for (const auto& [name, t] : one.threads) {
      threads += (threads.empty() ? "\"" : ", \"") + name + "\": {\"ran_ms\": " + std::to_string(t.ran / 1'000'000) +
                 ", \"waited_for_processor_ms\": " + std::to_string(t.waited / 1'000'000) + "}";
    }
    std::printf("    \"p99_us_by_round\": [%s], \"others_permille_by_round\": [%s], \"stolen_ms\": %lld,\n    \"threads\": {%s},\n", rounds.c_str(), others.c_str(),
                static_cast<long long>(one.stolen_ms), threads.c_str());
    if (!one.anatomy.empty()) std::printf("    %s,\n", one.anatomy.c_str());
    std::printf("    \"p99_limit_us\": %lld, \"within\": %s},\n", static_cast<long long>(limit),
                p99(one.took) <= limit ? "true" : "false");
  }
}

void queries(const Settings& s, const std::string& path) {
  const auto timed = [&](const char* what, const UsageQuery& query) {
    std::int64_t best = INT64_MAX, first = 0;
    std::size_t rows = 0;
    for (int i = 0; i < 5; ++i) {
      const std::int64_t begun = now_us();
      const auto answer = usage_of_file(path, query);
      const std::int64_t took = now_us() - begun;
      if (!answer) std::abort();
      rows = answer->size();
      if (i == 0) first = took;
      best = std::min(best, took);
    }
    std::printf("  \"%s\": {\"rows\": %zu, \"first_us\": %lld, \"best_us\": %lld},\n", what, rows,
                static_cast<long long>(first), static_cast<long long>(best));
  };
  UsageQuery by_day;
  by_day.bucket_seconds = 86400;
  by_day.by_model = by_day.by_tier = false;
  timed("usage_by_day_and_project", by_day);
  UsageQuery all;
  timed("usage_total", all);
  UsageQuery ragged = by_day;                        // ends inside a minute: the edges come from the entries
  ragged.from_unix_ns = kClock.unix_ns() - kMonthNs / 2 + 123'456'789;
  timed("usage_by_day_ragged_edges", ragged);
  if (!s.verify) return;
  const std::int64_t begun = now_us();
  const auto report = verify_file(path);
  if (!report || !report->ok) std::abort();
  std::printf("  \"verify\": {\"entries\": %lld, \"ms\": %lld},\n", static_cast<long long>(report->entries),
              static_cast<long long>((now_us() - begun) / 1000));
}

// A child that dies by SIGKILL with a thousand running requests and a log full of commits; then a timed opening.
void recovery(const Settings& s, const std::string& path) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto ledger = open(path);
    std::atomic<int> done{0};
    const std::int64_t base = kClock.unix_ns();
    for (std::int64_t i = 0; i < 20'000; ++i) {
      Record r = record_of(i % s.organizations);
      r.unix_ns = base;
      r.request = id_of(i + 1'000'000'000, base / 1'000'000);
      make_hold(r);
      (void)ledger->append(r);
      if (i < 1000) {
        ledger->progress({r.request, {512, 0, 10, 0}, {4'000}, {{"output", {4'000}}}},
                         [&](const Result<>&) { ++done; });
        continue;
      }
      make_settle(r);
      (void)ledger->append(std::move(r));
    }
    while (done < 1000 || ledger->health().queued > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::error_code ignored;
  const auto log_bytes = std::filesystem::file_size(path + "-wal", ignored);
  const std::int64_t begun = now_us();
  const auto ledger = open(path);
  const std::int64_t took = now_us() - begun;
  std::printf("  \"recovery\": {\"ms\": %lld, \"log_bytes\": %lld, \"settled\": %lld, \"released\": %lld},\n",
              static_cast<long long>(took / 1000), static_cast<long long>(log_bytes),
              static_cast<long long>(ledger->recovery().settled), static_cast<long long>(ledger->recovery().released));
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--no-verify") {
      s.verify = false;
      continue;
    }
    if (flag == "--anatomy") {
      s.anatomy = true;
      continue;
    }
    if (i + 1 >= argc) return std::fprintf(stderr, "%s needs a value\n", flag.c_str()), 2;
    const char* value = argv[++i];
    if (flag == "--rows") s.rows = std::atoll(value);
    else if (flag == "--rate") s.rate = std::atoll(value);
    else if (flag == "--seconds") s.seconds = std::atoll(value);
    else if (flag == "--organizations") s.organizations = std::atoll(value);
    else if (flag == "--warm") s.warm = std::atoll(value);
    else if (flag == "--rounds") s.rounds = std::atoll(value);
    else if (flag == "--settings") s.settings = settings_of(value);
    else if (flag == "--folder") s.folder = value;
    else return std::fprintf(stderr, "unknown option %s\n", flag.c_str()), 2;
  }
  std::string folder = s.folder + "/bench-ledger-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return std::perror("mkdtemp"), 1;
  const std::string path = folder + "/ledger.sqlite";
  std::printf("{\n");
  s.folder = folder;
  auto syncs = disk_syncs(folder, 500, true);
  std::printf("  \"disk_fdatasync\": %s,\n", percentiles(syncs).c_str());
  fill(s, path);
  const auto bytes = static_cast<long long>(std::filesystem::file_size(path));
  settle_latencies(s, path);
  queries(s, path);
  recovery(s, path);
  std::printf("  \"bytes_per_million_requests\": %lld\n}\n", bytes / (s.rows / 2) * 1'000'000);
  std::filesystem::remove_all(folder);
  return 0;
}
