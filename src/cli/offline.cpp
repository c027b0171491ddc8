#include "offline.hpp"

#include "tokenworks/app/plant.hpp"
#include "tokenworks/trust/server_key.hpp"

namespace tokenworks::cli {

Result<std::unique_ptr<Offline>> Offline::open(const config::Config& config, Control& control) {
  auto ledger = control.ledger();
  if (!ledger) return ledger.error();
  auto prices = billing::PriceBook::make(config.prices);
  if (!prices) return prices.error();
  auto key = trust::ServerKey::open(config.plant.data_dir + "/server.key");
  if (!key) return key.error();
  auto made = std::make_unique<Offline>();
  const gateway::PlantLabels labels{app::build_id(), config.plant.region, config.plant.jurisdiction, key->derive("tags")};
  auto admission = gateway::Admission::make(made->clock_, **ledger, labels, config.tenants, *prices);
  if (!admission) return admission.error();
  made->admission_ = std::move(*admission);
  made->administration_ = gateway::make_administration(
      {made->clock_, **ledger, *made->admission_, made->directory_, config, made->tenant_numbers_, {}, {}, {}});
  return made;
}

}  // namespace tokenworks::cli
