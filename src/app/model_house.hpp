#pragma once
// ModelHouse: owns every served model and its engine, from the moment its weights are loaded until the last request of it
// has ended. Requests share the ownership but are never the last: a model that left the set stays here as retired until
// nobody else holds it, and a thread of the house then takes its engine down, never an IO thread. Safe from any thread;
// changes are prepared and committed by one caller at a time (gateway/model_desk.hpp).
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tokenworks/base/snapshot.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/model_desk.hpp"
#include "tokenworks/gateway/model_set.hpp"

namespace tokenworks::app {

using Served = std::shared_ptr<const gateway::ServedModel>;

struct HouseParts {
  std::string config_path;                           // relative paths of orders start beside it
  std::function<Result<Served>(const config::ModelSpec&)> load;      // opens the files and starts the engine; may take minutes
  std::function<void(const std::vector<std::string>&)> names;        // ids of all there are, after every change
};

class ModelHouse final : public gateway::ModelDesk {
 public:
  explicit ModelHouse(HouseParts parts);
  ~ModelHouse() override;                            // stop() first; requests are gone

  // Start-up, once: `loaded` belong to those of `specs` that are to be loaded, in their order.
  void open(std::vector<config::ModelSpec> specs, std::vector<Served> loaded);
  const Snapshot<gateway::ModelSet>& served() const { return set_; }

  std::vector<std::string> configured() const override;
  std::vector<gateway::ModelState> models() const override;
  Result<std::unique_ptr<gateway::ModelChange>> prepare(const gateway::ModelOrder& order) override;
  Result<std::unique_ptr<gateway::ModelChange>> prepare(const config::Config& fresh) override;

  // By id, of all that are served or drain, with the counts of engines that are gone: counters never fall.
  std::vector<std::pair<std::string, engine::EngineStatus>> statuses() const;
  void watch();                                      // every engine's watchdog
  bool lost() const;                                 // a device is
  // Ends what runs; true: an engine hangs in a step, and its thread cannot be waited for.
  bool stop();

 private:
  class Change;
  using Entries = std::vector<gateway::ModelSet::Entry>;
  struct Counts {                                    // of engines that are gone
    std::int64_t preemptions = 0, prefix_hit_tokens = 0, swapped_out = 0, swapped_in = 0;
  };

  const config::ModelSpec* spec_of(const std::string& id) const;     // under mutex_
  Result<Served> load(const config::ModelSpec& spec) const;
  Result<> prepare_model(const gateway::ModelOrder& order, Entries& next) const;
  Result<> prepare_alias(const gateway::ModelOrder& order, Entries& next) const;
  Result<> take_over(const config::ModelSpec* was, const config::ModelSpec& now, Entries& next) const;
  void put(Entries next, std::vector<config::ModelSpec> specs);
  std::vector<Served> all() const;                   // served and retired
  void tell_names();
  void reap();                                       // the house's thread

  const HouseParts parts_;
  Snapshot<gateway::ModelSet> set_;
  mutable std::mutex mutex_;
  std::vector<config::ModelSpec> specs_;             // of the files as last taken over
  std::vector<Served> retired_;
  std::map<std::string, Counts> gone_;
  std::mutex names_mutex_;                           // the last list told is the last one made; taken before mutex_
  std::condition_variable work_;
  bool stopping_ = false;
  std::thread reaper_;                               // last: starts when everything else stands
};

}  // namespace tokenworks::app
