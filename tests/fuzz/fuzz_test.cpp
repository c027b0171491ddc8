// The fuzz targets without a fuzzer: every file of the corpus, whole and under mutations that are the same in every run.
// What libFuzzer found stays in the corpus, so it stays mended. An input that needs more than a minute of processor time ends
// the program with its name, and memory may not grow without bound.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>
#include <vector>

#include "fuzz/targets.hpp"
#include "support/paths.hpp"

namespace tokenworks::fuzz {
namespace {

struct Seed {
  std::string name, bytes;
};

char current[512];                                   // what runs now, for the message of a signal

void stop(int signal) {
  const char* what = signal == SIGVTALRM ? "no end after a minute of processor time: " : "crashed: ";
  (void)!write(2, what, std::char_traits<char>::length(what));
  (void)!write(2, current, std::char_traits<char>::length(current));
  (void)!write(2, "\n", 1);
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

// Processor time of this process, so that a loaded machine changes nothing.
void allow(int seconds) {
  const itimerval timer{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

std::vector<Seed> seeds_of(const std::string& target) {
  const std::filesystem::path folder = std::filesystem::path(__FILE__).parent_path() / "corpus" / target;
  std::vector<Seed> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    seeds.push_back({entry.path().filename().string(), {std::istreambuf_iterator<char>(in), {}}});
  }
  std::sort(seeds.begin(), seeds.end(), [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return seeds;
}

std::string mutated(const std::vector<Seed>& seeds, const std::string& from, std::size_t bytes_max, std::mt19937_64& random) {
  static const std::vector<std::string> kWords = {"\"", "\\", "{", "}", "[", "]", ",", ":", "null", "-1", "1e999", "18446744073709551616", "\r\n",
      std::string(1, '\0'), "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", "\xC3", "\xED\xA0\x80", "{%", "{{", "}}", "%}", "(", ")*", "$ref", "::=", "&a ", "*a", "<<: "};
  std::string bytes = from;
  for (std::size_t times = 1 + random() % 4; times > 0; --times) {
    const std::size_t at = bytes.empty() ? 0 : random() % bytes.size(), n = bytes.empty() ? 0 : random() % std::min<std::size_t>(bytes.size() - at, 40);
    switch (random() % 7) {
      case 0: if (!bytes.empty()) bytes[at] = static_cast<char>(random()); break;
      case 1: if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8)); break;
      case 2: bytes.erase(at, n); break;
      case 3: bytes.insert(at, std::string(bytes.substr(at, n))); break;
      case 4: bytes.insert(at, kWords[random() % kWords.size()]); break;
      case 5: bytes.resize(at); break;
      default: {
        const std::string& other = seeds[random() % seeds.size()].bytes;
        if (!other.empty()) bytes.replace(at, n, other.substr(random() % other.size(), random() % 60));
      }
    }
  }
  if (bytes.size() > bytes_max) bytes.resize(bytes_max);
  return bytes;
}

class Fuzz : public testing::TestWithParam<Target> {};

TEST_P(Fuzz, NothingInTheCorpusOrNearItBreaksATarget) {
  const Target& target = GetParam();
  const std::vector<Seed> seeds = seeds_of(target.name);
  ASSERT_FALSE(seeds.empty()) << target.name << " has no corpus";
  std::signal(SIGVTALRM, stop);
  std::signal(SIGABRT, stop);
  const bool sanitized = !test::environment("TOKENWORKS_SANITIZED", "").empty();
  const std::size_t rounds = test::long_run() ? 40'000 : sanitized ? 100 : 800;
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  std::mt19937_64 random(20261123);
  for (const Seed& seed : seeds) {
    for (std::size_t round = 0; round <= rounds; ++round) {
      const std::string input = round == 0 ? seed.bytes : mutated(seeds, seed.bytes, target.bytes_max, random);
      std::snprintf(current, sizeof current, "%s/%s, mutation %zu", target.name, seed.name.c_str(), round);
      allow(60);
      target.run(input);
    }
  }
  allow(0);
  std::signal(SIGABRT, SIG_DFL);
  getrusage(RUSAGE_SELF, &after);
  if (!sanitized) {
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 1 << 20) << "KiB more than before";
  }
}

// The build for libFuzzer compiles a list of files instead of the rooms, and needs clang: what the linker took for this program,
// by its map, says without it whether the list is whole.
TEST(FuzzReaders, AreAllThatTheTargetsNeed) {
  std::ifstream in(TOKENWORKS_FUZZ_MAP);
  const std::regex member(R"(libtw_(http|gateway)\.a\((\w+)\.cpp\.o\))");
  const std::string readers = " " TOKENWORKS_FUZZ_READERS " ";
  std::set<std::string> needed;                      // by a target, or by a file that is needed
  std::string taken, wanted_by;                      // a line each, the second indented
  for (std::string line; std::getline(in, line);) {
    std::swap(taken, wanted_by);
    wanted_by = line;
    std::smatch name, by;
    if (!wanted_by.starts_with(" ") || !std::regex_search(taken, name, member)) continue;
    const bool by_target = wanted_by.find("/targets/") != std::string::npos;
    if (!by_target && !(std::regex_search(wanted_by, by, member) && needed.contains(by[1].str() + "/" + by[2].str()))) continue;
    needed.insert(name[1].str() + "/" + name[2].str());
  }
  EXPECT_FALSE(needed.empty());
  for (const std::string& name : needed) {
    EXPECT_NE(readers.find(" " + name + " "), std::string::npos) << name << ".cpp: add it to READERS in tests/fuzz/CMakeLists.txt";
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz, testing::ValuesIn(kTargets), [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tokenworks::fuzz
