#pragma once
// Preflight: everything a start needs that only opening it can prove: certificates, model files, their tokenizers and
// templates, the device, the memory for one context. `check` runs it and stops there, `serve` goes on with what it opened.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenworks/backend/backend.hpp"
#include "tokenworks/config/check.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/model/runner.hpp"
#include "tokenworks/tokenizer/chat_template.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::app {

struct OpenedModel {
  std::shared_ptr<const formats::ModelFile> file;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const tokenizer::ChatTemplate> chat_template;
  std::vector<std::unique_ptr<backend::Backend>> backends;   // one, or one a rank
  model::LoadOptions options;
};

struct Opened {
  config::Config config;
  std::vector<OpenedModel> models;                   // of config.plant.models those that are to be loaded
};

// Nullopt when something stands against it; every mistake that can be seen is told, not only the first. A path that leads
// nowhere is the parser's to name.
std::optional<OpenedModel> open_model(const config::ModelSpec& spec, const std::function<void(const char* key, const std::string& what)>& tell);
// bad_config with every mistake of the files and of what they name, a line each: "file:line: what; fix".
Result<Opened> open_plant(const std::string& config_path);

// Whether the prices may follow what the books keep for ever; bad_config as the start would say it. Reads beside a daemon.
Result<> past_allows(const config::Config& config);

// Of the key files of identity providers: also before a reload.
std::vector<std::string> key_set_mistakes(const config::Config& config);

}  // namespace tokenworks::app
