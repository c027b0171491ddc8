#include "energy.hpp"

#include <chrono>
#include <utility>

namespace tokenworks::app {

telemetry::EnergyModel energy_model(const formats::ModelFile& file, const model::RunnerInfo& info, std::vector<std::string> cards) {
  const formats::ModelConfig& c = file.config();
  telemetry::EnergyModel m{.cards = std::move(cards)};
  for (const auto& [name, tensor] : file.tensors())
    if (tensor.shape.size() == 2 && name != "model.embed_tokens.weight") m.flop_per_row += 2 * tensor.elements();
  m.flop_per_pair = std::int64_t{4} * c.layers * c.q_heads * c.head_dim;
  m.weight_bytes = static_cast<std::int64_t>(info.weight_bytes);
  if (info.kv_blocks > 0) m.bytes_per_position = static_cast<std::int64_t>(info.kv_bytes) / (std::int64_t{16} * info.kv_blocks);
  return m;
}

EnergyMeter::EnergyMeter(std::unique_ptr<backend::Cards> cards, const Clock& clock) : cards_(std::move(cards)), clock_(clock) {
  if (cards_) thread_ = std::thread([this] { run(); });
}

EnergyMeter::~EnergyMeter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::vector<backend::CardReading> EnergyMeter::read() {
  if (!cards_) return {};
  const std::lock_guard lock(cards_mutex_);
  std::vector<backend::CardReading> all = cards_->read();
  for (const backend::CardReading& c : all)
    if (c.energy_millijoules) book_.reading(c.device, *c.energy_millijoules, clock_.steady_ns());
  return all;
}

void EnergyMeter::set_tenants(const config::Tenants& tenants, const std::map<std::string, std::uint32_t>& numbers) {
  std::map<std::uint32_t, telemetry::EnergyTenant> all;
  for (const config::OrganizationSpec& o : tenants.organizations) {
    const auto number = numbers.find(o.name);
    if (number == numbers.end()) continue;
    telemetry::EnergyTenant& t = all[number->second];
    t.name = o.name;
    for (const config::PlanSpec& plan : tenants.plans)
      if (plan.name == o.plan) t.reserved = plan.reserved_tokens_per_second;
  }
  book_.set_tenants(std::move(all));
}

void EnergyMeter::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    (void)read();
    lock.lock();
    changed_.wait_for(lock, std::chrono::seconds(1), [this] { return stopping_; });
  }
}

}  // namespace tokenworks::app
