#pragma once
// The three files' readers and the checks that need all of them. Private to src/config.
#include "fields.hpp"

namespace tokenworks::config {

void read_plant(Fields& fields, Plant& plant);
void read_model(Fields& fields, ModelSpec& model);   // keys that are not there leave what the model has
void read_webhooks(Fields& fields, Plant& plant);   // a part of read_plant
void read_prices(Fields& fields, Prices& prices);
void read_tenants(Fields& fields, Tenants& tenants, const std::string& currency);   // of its amounts
// Names that must exist in another file.
void cross_check(const Config& config, std::vector<std::string>& mistakes);

// As load(), and reports which keys the parser asked for: (file kind, generic path).
Result<Config> load_asking(const std::string& path, std::set<std::pair<std::string, std::string>>* asked);

}  // namespace tokenworks::config
