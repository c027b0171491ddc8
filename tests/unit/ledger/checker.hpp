#pragma once
// Runs tests/golden/verify_ledger.py, the checker that shares no code with ours, over a ledger file.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "support/paths.hpp"

namespace tokenworks::ledger::test {

struct CheckerAnswer {
  int code = -1;
  std::string text;
  bool has(const std::string& part) const { return text.find(part) != std::string::npos; }
};

// `scratch`: a folder for its output. `more`: further arguments, as the shell takes them.
inline CheckerAnswer run_checker(const std::string& path, const std::string& scratch, const std::string& more = "") {
  const std::string interpreter =
      tokenworks::test::environment("TOKENWORKS_PYTHON", tokenworks::test::cache_dir() + "/venv/bin/python");
  if (!std::filesystem::exists(interpreter)) {
    ADD_FAILURE() << "no Python at " << interpreter << "; tests/run makes it, or set TOKENWORKS_PYTHON";
    return {};
  }
  const std::filesystem::path script = std::filesystem::path(__FILE__).parent_path() / "../../golden/verify_ledger.py";
  const std::string out = scratch + "/answer.json";
  const int status = std::system(
      ("'" + interpreter + "' '" + script.string() + "' '" + path + "' " + more + " > '" + out + "'").c_str());
  std::ostringstream text;
  text << std::ifstream(out).rdbuf();
  return {WEXITSTATUS(status), text.str()};
}

}  // namespace tokenworks::ledger::test
