#include "tokenworks/config/model.hpp"

#include <filesystem>
#include <tuple>

#include "parts.hpp"

namespace tokenworks::config {
namespace {

namespace fs = std::filesystem;

auto engine_keys(const ModelSpec& m) {
  return std::tie(m.path, m.backend, m.compute, m.speculation, m.embeddings, m.context_tokens, m.kv_cache_bytes, m.swap_bytes, m.max_sequences,
                  m.step_target_ns, m.cost_units_micro, m.threads);
}

// ":3: kv_cache is ..." without the place, which says nothing about a body.
std::string without_place(const std::string& mistake) {
  const std::size_t end = mistake.find(": ");
  return end == std::string::npos ? mistake : mistake.substr(end + 2);
}

// "kv_cache is ...", "unknown key 'kv_cash'; ...", "'id' is missing": the key.
std::string key_of(const std::string& mistake) {
  const std::size_t quote = mistake.find('\'');
  if (quote != std::string::npos && (quote == 0 || mistake.starts_with("unknown key"))) return mistake.substr(quote + 1, mistake.find('\'', quote + 1) - quote - 1);
  return mistake.substr(0, mistake.find_first_of(" :"));
}

}  // namespace

Result<ModelSpec> model_from_text(std::string_view text, const ModelSpec& base, const std::string& file) {
  std::vector<std::string> mistakes;
  std::set<std::string> variables;
  const Document document{"", "tokenworks.yaml", "=", &variables, &mistakes, nullptr};   // no variable's name holds a '='
  ModelSpec model = base;
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (!root.IsMap()) return error(Errc::invalid_request, "a model is described by an object with the keys of `models` in tokenworks.yaml");
    Fields fields(document, root, "", "models[]");
    read_model(fields, model);
    fields.done();
  } catch (const YAML::Exception& e) {
    return error(Errc::invalid_request, "the description of the model cannot be read: " + e.msg);
  }
  model.where = base.where;
  if (!model.path.empty() && !fs::path(model.path).is_absolute()) {
    model.path = (fs::absolute(file).parent_path() / model.path).lexically_normal().string();
  }
  std::error_code ignored;
  if (!model.path.empty() && !fs::exists(model.path, ignored)) {
    mistakes.push_back(":1: path: there is no file or folder " + model.path);
  }
  if (mistakes.empty()) return model;
  std::string all;
  for (const std::string& m : mistakes) all += (all.empty() ? "" : "; ") + without_place(m);
  return error(Errc::invalid_request, all, key_of(without_place(mistakes.front())));
}

bool needs_new_engine(const ModelSpec& a, const ModelSpec& b) { return engine_keys(a) != engine_keys(b); }

bool same_model(const ModelSpec& a, const ModelSpec& b) {
  return !needs_new_engine(a, b) && a.id == b.id && a.aliases == b.aliases && a.data_classes == b.data_classes && a.load == b.load;
}

}  // namespace tokenworks::config
