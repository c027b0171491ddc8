#include "environment.hpp"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {
namespace {

constexpr std::string_view kPrefix = "TOKENWORKS_";

// Not configuration: read by the daemon, the command line, the scripts and the tests.
const std::set<std::string, std::less<>> kOthers{
    "TOKENWORKS_API_KEY",     "TOKENWORKS_BENCH_BUILD", "TOKENWORKS_BIN",  "TOKENWORKS_CACHE",   "TOKENWORKS_CLIENTS",   "TOKENWORKS_COMMIT",
    "TOKENWORKS_CPU",         "TOKENWORKS_CUDA",        "TOKENWORKS_CUDA_LIBRARIES", "TOKENWORKS_DEMO_MODEL", "TOKENWORKS_FAIL_SYNC", "TOKENWORKS_GOLDEN",
    "TOKENWORKS_LONG",        "TOKENWORKS_MINILM",      "TOKENWORKS_NVCC", "TOKENWORKS_NVML", "TOKENWORKS_CUDART",      "TOKENWORKS_OPENAPI",    "TOKENWORKS_PYTHON",
    "TOKENWORKS_SANITIZE",    "TOKENWORKS_TEMPLATES",
    "TOKENWORKS_SANITIZED",   "TOKENWORKS_SEED",        "TOKENWORKS_SEEDS",      "TOKENWORKS_TESTS"};

// What Kubernetes and Docker put into every container beside a service of the name "tokenworks".
bool of_a_service_link(std::string_view name) {
  return name == "TOKENWORKS_PORT" || name.starts_with("TOKENWORKS_PORT_") || name.starts_with("TOKENWORKS_SERVICE_") ||
         name.starts_with("TOKENWORKS_ENV_");
}

}  // namespace

void check_environment(const std::set<std::string>& known, const std::vector<std::string>& unread, std::vector<std::string>& mistakes) {
  std::vector<std::string> unknown;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    if (!name.starts_with(kPrefix) || known.contains(std::string(name)) || kOthers.contains(name) || of_a_service_link(name)) continue;
    if (name.starts_with("TOKENWORKS_TEST_")) continue;
    if (std::any_of(unread.begin(), unread.end(), [&](const std::string& prefix) { return name.starts_with(prefix); })) continue;
    unknown.emplace_back(name);
  }
  std::sort(unknown.begin(), unknown.end());
  // The prefix is common to all: the distance is that of the rest, so that a short name is not near to everything.
  std::vector<std::string> names;
  for (const std::string& name : known) names.push_back(name.substr(kPrefix.size()));
  for (const std::string& name : unknown) {
    const auto near = nearest(name.substr(kPrefix.size()), names);
    mistakes.push_back("environment variable " + name + ": is the name of no configuration key" +
                       (near ? "; did you mean '" + std::string(kPrefix) + *near + "'?" : "; unset it"));
  }
}

}  // namespace tokenworks::config
