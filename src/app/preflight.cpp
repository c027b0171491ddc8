#include "preflight.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tokenworks/backend/places.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/billing/price_archive.hpp"
#include "tokenworks/billing/price_book.hpp"
#include "tokenworks/http/listen_check.hpp"
#include "tokenworks/http/tls_check.hpp"
#include "tokenworks/ledger/ledger.hpp"
#include "tokenworks/model/check.hpp"
#include "tokenworks/tenancy/identity.hpp"

namespace tokenworks::app {
namespace {

namespace fs = std::filesystem;

class Preflight {
 public:
  Preflight(const config::Config& config, std::vector<std::string>& mistakes) : config_(config), mistakes_(mistakes) {}

  void check_tls() {
    for (const http::TlsMistake& m : http::tls_mistakes(config_.plant.tls)) say(m.key, m.what);
  }

  void check_data_dir() {
    std::error_code ignored;
    const std::string& folder = config_.plant.data_dir;
    if (folder.empty()) return;
    if (!fs::exists(folder, ignored)) {              // serve makes it, and every folder above it that is missing
      fs::path above = folder;
      while (above.has_relative_path() && !fs::exists(above, ignored)) above = above.parent_path();
      const bool can = fs::is_directory(above, ignored) && ::access(above.c_str(), W_OK | X_OK) == 0;
      if (!can) say("data_dir", folder + " cannot be made: " + above.string() + " is no directory this user may write in");
      return;
    }
    if (!fs::is_directory(folder, ignored)) return say("data_dir", folder + " is no directory");
    if (::access(folder.c_str(), W_OK | X_OK) != 0) return say("data_dir", folder + " cannot be written in by this user");
    for (const char* name : {"lock", "server.key", "ledger.sqlite"}) {
      const std::string file = folder + "/" + name;
      if (fs::exists(file, ignored) && ::access(file.c_str(), R_OK | W_OK) != 0) say("data_dir", file + " is another user's, or read-only");
    }
  }

  // What cannot be listened on whoever else listens: names nobody knows, addresses of other machines, ports of the system.
  void check_listen() {
    for (const std::string& address : config_.plant.listen) check_listen("listen", address);
    check_listen("admin.listen", config_.plant.admin_listen);
  }

  void check_key_sets() {
    for (std::string& m : key_set_mistakes(config_)) mistakes_.push_back(std::move(m));
  }

  std::optional<OpenedModel> open(const config::ModelSpec& spec, std::size_t index) {
    return open_model(spec, [&](const char* key, const std::string& what) { say("models[" + std::to_string(index) + "]." + key, "model '" + spec.id + "': " + what); });
  }

 private:
  void check_listen(const std::string& key, const std::string& address) {
    if (address.empty()) return;                     // the parser has said why
    if (const std::string what = http::listen_mistake(address); !what.empty()) say(key, what);
  }
  void say(const std::string& key, const std::string& what) {
    mistakes_.push_back(config::place_of(config_.path, key) + ": " + key + ": " + what);
  }
  const config::Config& config_;
  std::vector<std::string>& mistakes_;
};

}  // namespace

std::optional<OpenedModel> open_model(const config::ModelSpec& spec, const std::function<void(const char* key, const std::string& what)>& tell) {
  bool good = true;
  const auto say = [&](const char* key, const std::string& what) {
    good = false;
    tell(key, what);
  };
  OpenedModel model;
  model.options.context_tokens = static_cast<std::int32_t>(spec.context_tokens);
  model.options.kv_cache_bytes = static_cast<std::size_t>(spec.kv_cache_bytes);
  model.options.swap_bytes = static_cast<std::size_t>(spec.swap_bytes);
  model.options.sequences_max = static_cast<std::int32_t>(spec.max_sequences);
  std::error_code ignored;
  if (spec.path.empty() || !fs::exists(spec.path, ignored)) return std::nullopt;   // the parser has said so
  auto file = formats::ModelFile::open(spec.path);
  backend::BackendChoice choice;
  choice.backend = spec.backend;
  choice.compute = spec.compute;
  choice.threads = static_cast<std::int32_t>(spec.threads);
  const bool encoder = file && (*file)->config().token_types > 0;
  if (encoder && choice.backend == "auto") choice.backend = "cpu";   // the one that runs encoders
  auto backends = backend::make_backends(choice);
  if (backends) {
    model.backends = std::move(*backends);
  } else {
    say(backends.error().param.empty() ? "backend" : backends.error().param.c_str(), backends.error().message);
  }
  if (!file) {
    say("path", file.error().message);
    return std::nullopt;
  }
  model.file = *file;
  auto tokenizer = tokenizer::Tokenizer::make((*file)->tokenizer());
  if (!tokenizer) say("path", tokenizer.error().message);
  const std::string& source = (*file)->tokenizer().chat_template;
  auto chat_template = tokenizer::ChatTemplate::parse(source.empty() ? tokenizer::default_chat_template() : source);
  if (!chat_template) say("path", chat_template.error().message);
  if (!model.backends.empty()) {
    if (auto fits = model::can_load(**file, *model.backends[0], model.options, static_cast<std::int32_t>(model.backends.size())); !fits) {
      say(fits.error().param.empty() ? "path" : fits.error().param.c_str(), fits.error().message);
    }
  }
  if (!good) return std::nullopt;
  model.tokenizer = *tokenizer;
  model.chat_template = *chat_template;
  return model;
}

std::vector<std::string> key_set_mistakes(const config::Config& config) {
  std::vector<std::string> mistakes;
  for (const config::IssuerSpec& issuer : config.tenants.issuers) {
    if (issuer.jwks.empty() || issuer.jwks.find("://") != std::string::npos) continue;   // a URL is asked while serving
    std::ifstream file(issuer.jwks, std::ios::binary);
    std::stringstream text;
    if (file) text << file.rdbuf();
    const std::string what = file ? tenancy::mistake_in_key_set(text.str()) : "cannot be read: there is no such file, or no right to read it";
    if (what.empty()) continue;
    mistakes.push_back(config.plant.tenants_path + ": identity: issuer '" + issuer.issuer + "': jwks: " + issuer.jwks + " " + what);
  }
  return mistakes;
}

Result<> past_allows(const config::Config& config) {
  const std::string store = config.plant.data_dir + "/ledger.sqlite";
  std::error_code ignored;
  if (!fs::exists(store, ignored)) return {};
  const auto book = billing::PriceBook::make(config.prices);
  if (!book) return book.error();
  const auto history = ledger::price_history_of_file(store);
  const auto balances = ledger::balances_of_file(store);
  if (!history || !balances) return {};              // books of an older version, or being moved: the start tells
  std::string mistakes;
  for (const Result<>& allowed : {billing::check_currency(**book, *balances), billing::check_prices_change(**book, *history, SystemClock{}.unix_ns())}) {
    if (!allowed) mistakes += (mistakes.empty() ? "" : "\n") + allowed.error().message;
  }
  if (!mistakes.empty()) return error(Errc::bad_config, mistakes);
  return {};
}

Result<Opened> open_plant(const std::string& config_path) {
  std::vector<OpenedModel> models;
  const auto further = [&](const config::Config& config, std::vector<std::string>& mistakes) {
    Preflight preflight(config, mistakes);
    preflight.check_listen();
    preflight.check_tls();
    preflight.check_data_dir();
    preflight.check_key_sets();
    // Where cards wait for each other, a kernel that is loaded at its first use may wait for one that waits for it. The driver
    // reads this once, before it is used at all.
    const auto over_cards = [](const config::ModelSpec& m) { return m.backend.starts_with("cuda:") && m.backend.find('+') != std::string::npos; };
    if (std::ranges::any_of(config.plant.models, over_cards)) ::setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    for (std::size_t i = 0; i < config.plant.models.size(); ++i) {
      if (!config.plant.models[i].load) continue;
      if (auto opened = preflight.open(config.plant.models[i], i)) models.push_back(std::move(*opened));
    }
    if (!mistakes.empty()) return;                   // prices that are incomplete are mistakes already
    if (auto prices = billing::PriceBook::make(config.prices); !prices) mistakes.push_back(prices.error().message);
  };
  auto loaded = config::load(config_path, further);
  if (!loaded) return loaded.error();
  return Opened{std::move(*loaded), std::move(models)};
}

}  // namespace tokenworks::app
