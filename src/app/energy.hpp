#pragma once
// EnergyMeter: reads the cards once a second on a thread of its own (a driver may take its time to answer, and the watchdog
// must not wait for it) and when somebody looks, and keeps the EnergyBook. Without cards there is no thread. Any thread.
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tokenworks/backend/cards.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/model/runner.hpp"
#include "tokenworks/telemetry/energy.hpp"

namespace tokenworks::app {

// What steps of this model cost, on these cards.
telemetry::EnergyModel energy_model(const formats::ModelFile& file, const model::RunnerInfo& info, std::vector<std::string> cards);

class EnergyMeter {
 public:
  EnergyMeter(std::unique_ptr<backend::Cards> cards, const Clock& clock);
  ~EnergyMeter();
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;

  std::vector<backend::CardReading> read();          // and has the book told
  void set_tenants(const config::Tenants& tenants, const std::map<std::string, std::uint32_t>& numbers);
  telemetry::EnergyBook& book() { return book_; }

 private:
  void run();

  const std::unique_ptr<backend::Cards> cards_;
  const Clock& clock_;
  telemetry::EnergyBook book_;
  std::mutex cards_mutex_, mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;                               // last: starts when everything else stands
};

}  // namespace tokenworks::app
