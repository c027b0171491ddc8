// The dependency rule of docs/architecture.md: a room includes only what the rooms above it in the list offer.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace tokenworks {
namespace {

namespace fs = std::filesystem;

// What each room may name directly; what those may use comes with them.
const std::map<std::string, std::set<std::string>> kMayUse{
    {"base", {}},
    {"telemetry", {"base"}},
    {"config", {"base"}},
    {"formats", {"base"}},
    {"ledger", {"base"}},
    {"billing", {"ledger", "config"}},
    {"tenancy", {"ledger", "config"}},
    {"tokenizer", {"formats"}},
    {"grammar", {"tokenizer"}},
    {"backend", {"base", "formats", "kernels"}},
    {"model", {"backend", "formats"}},
    {"scheduler", {"base"}},
    {"engine", {"scheduler", "model", "grammar"}},
    {"trust", {"ledger"}},
    {"gateway", {"engine", "tenancy", "billing", "tokenizer", "trust"}},
    {"jobs", {"gateway", "ledger"}},
    {"http", {"gateway", "jobs", "telemetry"}},
};

std::set<std::string> reachable(const std::string& room) {
  std::set<std::string> all{room};
  std::vector<std::string> todo{room};
  while (!todo.empty()) {
    const std::string next = todo.back();
    todo.pop_back();
    if (!kMayUse.contains(next)) continue;
    for (const std::string& other : kMayUse.at(next)) {
      if (all.insert(other).second) todo.push_back(other);
    }
  }
  return all;
}

fs::path root() { return fs::path(__FILE__).parent_path().parent_path().parent_path().parent_path(); }

TEST(Rooms, IncludeOnlyWhatStandsAboveThem) {
  const std::regex include(R"(^\s*#include\s+[<"](tokenworks/([a-z]+)/|(kernels)/))");
  int files = 0;
  for (const auto& [room, unused] : kMayUse) {
    const std::set<std::string> allowed = reachable(room);
    for (const fs::path& folder : {root() / "include/tokenworks" / room, root() / "src" / room}) {
      if (!fs::exists(folder)) continue;
      for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string extension = entry.path().extension();
        if (extension != ".hpp" && extension != ".cpp") continue;
        ++files;
        std::ifstream in(entry.path());
        int number = 0;
        for (std::string line; std::getline(in, line);) {
          ++number;
          std::smatch match;
          if (!std::regex_search(line, match, include)) continue;
          const std::string other = match[2].matched ? match[2].str() : match[3].str();
          EXPECT_TRUE(allowed.contains(other)) << entry.path() << ":" << number << ": room " << room << " may not use " << other;
        }
      }
    }
  }
  EXPECT_GT(files, 60);
}

TEST(Rooms, PublicHeadersNameNoHeavyLibrary) {
  const std::regex heavy(R"(#include\s+<(nlohmann|boost/beast|yaml-cpp|sqlite3|spdlog|prometheus|curl|pcre2)[/.])");
  for (const auto& entry : fs::recursive_directory_iterator(root() / "include")) {
    if (entry.path().extension() != ".hpp") continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      EXPECT_FALSE(std::regex_search(line, heavy)) << entry.path() << ": " << line;
    }
  }
}

TEST(Rooms, EveryHeaderAndSourceStaysShortEnoughForOneIdea) {
  for (const char* top : {"include", "src", "kernels"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root() / top)) {
      const std::string extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      std::ifstream in(entry.path());
      const auto lines = std::count(std::istreambuf_iterator<char>(in), {}, '\n');
      EXPECT_LE(lines, 500) << entry.path();
    }
  }
}

}  // namespace
}  // namespace tokenworks
