#pragma once
// Offline: the same Administration as the daemon's, over a store this process has to itself.
#include <map>
#include <memory>
#include <string>

#include "control.hpp"
#include "tokenworks/gateway/administration.hpp"

namespace tokenworks::cli {

class Offline {
 public:
  static Result<std::unique_ptr<Offline>> open(const config::Config& config, Control& control);
  gateway::Administration& administration() { return *administration_; }

 private:
  SystemClock clock_;
  std::unique_ptr<gateway::Admission> admission_;
  Snapshot<tenancy::Directory> directory_;
  std::map<std::string, std::uint32_t> tenant_numbers_;
  std::unique_ptr<gateway::Administration> administration_;
};

}  // namespace tokenworks::cli
