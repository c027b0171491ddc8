#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "commands.hpp"
#include "tokenworks/backend/places.hpp"
#include "tokenworks/backend/backend.hpp"

namespace tokenworks::cli {
namespace {

std::string config_path;
bool as_json = false;

// What was found, in the order it is shown.
class Findings {
 public:
  void add(const char* what, const std::string& value) { rows_.emplace_back(what, value); }
  void print() const {
    if (!as_json) {
      for (const auto& [what, value] : rows_) std::printf("%-22s %s\n", what.c_str(), value.c_str());
      return;
    }
    // {"ok", "checks": [{"name", "value"}]}: a name may stand more than once (every card is a row).
    nlohmann::ordered_json j;
    j["ok"] = ok;
    j["checks"] = nlohmann::ordered_json::array();
    for (const auto& [what, value] : rows_) j["checks"].push_back({{"name", what}, {"value", value}});
    std::printf("%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
  bool ok = true;

 private:
  std::vector<std::pair<std::string, std::string>> rows_;
};

// Median of a few write + fdatasync pairs in the data directory: what every settled request waits for at least.
std::string fsync_time(const std::string& folder) {
  const std::string path = folder + "/.doctor";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return "cannot write in " + folder;
  std::vector<std::int64_t> times;
  const std::string page(4096, 'x');
  for (int i = 0; i < 21; ++i) {
    const auto began = std::chrono::steady_clock::now();
    if (::pwrite(fd, page.data(), page.size(), 0) != static_cast<ssize_t>(page.size()) || ::fdatasync(fd) != 0) break;
    times.push_back(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
  }
  ::close(fd);
  ::unlink(path.c_str());
  if (times.empty()) return "cannot sync in " + folder;
  std::sort(times.begin(), times.end());
  return std::to_string(times[times.size() / 2]) + " us (fdatasync, median) in " + folder;
}

// Where a model of the configuration runs, and why.
std::string place_of(const config::ModelSpec& m) {
  const bool automatic = m.backend == "auto", card = m.backend.starts_with("cuda");
  const std::string why = automatic || card ? backend::why_no_card(m.compute) : "";
  if (automatic) return why.empty() ? "card 0 (an encoder: the CPU)" : "the CPU, because " + why;
  return card && !why.empty() ? m.backend + " cannot be had: " + why : m.backend;
}

int doctor() {
  Findings found;
  const auto row = [&](const char* what, const std::string& value) { found.add(what, value); };
  row("build", app::build_id());
  row("cores", std::to_string(std::thread::hardware_concurrency()));
  auto backend = backend::make_backend({.backend = "cpu"});
  row("cpu backend", backend ? (*backend)->info().path + " on " + (*backend)->info().device : backend.error().message);
  const backend::GpuReport gpu = backend::gpu_report();
  row("cuda backend", gpu.built_in ? "built in: " + backend::built_in_kernels() : "not in this binary, which was built without nvcc");
  row("gpu driver", gpu.driver);
  for (const std::string& device : gpu.devices) row("gpu", device);
  if (gpu.devices.empty()) row("gpu", "none; of each card there would be its memory and its peers (P2P)");
  row("confidential computing", backend::confidential_computing());
  const std::vector<std::string> unfit = gpu.built_in ? backend::cards_without_kernels() : std::vector<std::string>();
  for (const std::string& why : unfit) row("cannot use", why);
  auto automatic = backend::make_backend({.backend = "auto"});       // asks the card, too
  const bool on_card = automatic && (*automatic)->info().name == "cuda";
  row("backend: auto", on_card ? "models run on GPU 0" : "models run on the CPU, because " + backend::why_no_card("default"));
  std::ifstream memory("/proc/meminfo");
  for (std::string line; std::getline(memory, line);) {
    if (line.starts_with("MemAvailable:")) row("memory available", line.substr(line.find_first_of("0123456789")));
  }
  std::ifstream huge("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string pages;
  std::getline(huge, pages);
  row("huge pages", pages.empty() ? "unknown" : pages);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  row("open files", std::to_string(files.rlim_cur) + ", at most " + std::to_string(files.rlim_max));
  int code = app::kOk;
  if (!config_path.empty()) {
    const auto c = config::load(config_path);
    if (!c) {
      row("configuration", c.error().message);
      code = app::kBadUsage;
    } else {
      row("configuration", c->path + ": ok");
      for (const config::ModelSpec& m : c->plant.models) row("model", m.id + ": " + place_of(m));
      if (access(c->plant.data_dir.c_str(), F_OK) == 0) {
        row("disk", fsync_time(c->plant.data_dir));
      } else {
        row("disk", c->plant.data_dir + " does not exist yet; serve will make it");
      }
    }
  }
  if (!backend) code = app::kCheckFailed;
  found.ok = code == app::kOk;
  found.print();
  return code;
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("doctor", "What this machine offers and what will run where");
  sub->add_option("--config", config_path, "tokenworks.yaml");
  sub->add_flag("--json", as_json, "Print JSON");
  sub->callback([&action] { action = doctor; });
  CLI::App* version = app.add_subcommand("version", "Print the version");
  static bool json = false;
  version->add_flag("--json", json, "Print JSON");
  version->callback([&action] {
    action = [] {
      if (json) {
        std::printf("{\"version\": \"%s\", \"build_id\": \"%s\"}\n", app::version(), app::build_id());
      } else {
        std::printf("tokenworks %s\n", app::build_id());
      }
      return app::kOk;
    };
  });
}

}  // namespace tokenworks::cli
