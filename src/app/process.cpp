#include "process.hpp"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>

#include "tokenworks/base/log.hpp"

namespace tokenworks::app {
namespace {

// Clients that only connect, with no key, must not take the descriptors that books, probes and the admin listener need: of those
// the system gives, so many are not theirs.
constexpr std::int64_t kOwnDescriptors = 128;

}  // namespace

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

void harden_process() {
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  std::signal(SIGPIPE, SIG_IGN);
}

std::int64_t connections_that_fit(std::int64_t asked) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= static_cast<rlim_t>(asked + kOwnDescriptors)) return asked;
  const std::int64_t fit = std::max<std::int64_t>(static_cast<std::int64_t>(files.rlim_cur) - kOwnDescriptors, 1);
  log::warn("connections_lowered", {{"asked", asked}, {"connections", fit}, {"open_files", static_cast<std::int64_t>(files.rlim_cur)},
                                    {"action", "raise LimitNOFILE (ulimit -Hn), or lower limits.connections"}});
  return fit;
}

}  // namespace tokenworks::app
