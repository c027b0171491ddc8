// A Hugging Face folder: config.json, generation_config.json, safetensors, tokenizer.json, tokenizer_config.json,
// chat_template.jinja. The digest covers every file that is read here, in the order of their names.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "formats/hf_config.hpp"
#include "formats/model_data.hpp"
#include "formats/safetensors.hpp"
#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kConfigBytesMax = 64 << 20;
constexpr std::uint64_t kTokenizerBytesMax = 256 << 20;

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool has(const std::string& name) const {
    std::error_code ec;
    return fs::exists(file(name), ec);
  }
  // A text file, remembered for the digest; nullopt when it does not exist.
  Result<std::optional<std::string>> text(const std::string& name, std::uint64_t bytes_max = kConfigBytesMax) {
    auto read = read_text_file(file(name), bytes_max);
    if (read && *read) used_.insert(name);
    return read;
  }
  // An object; null when the file does not exist.
  Result<std::unique_ptr<Json>> json(const std::string& name) {
    auto read = text(name);
    if (!read) return read.error();
    if (!*read) return std::unique_ptr<Json>();
    auto parsed = parse_json(**read, file(name));
    if (parsed && !(*parsed)->is_object()) return error(Errc::bad_file, file(name) + ": is not a JSON object");
    return parsed;
  }
  std::vector<std::string> names(const std::string& ending) const {
    std::vector<std::string> out;
    std::error_code ec;
    for (auto it = fs::directory_iterator(path_, ec); !ec && it != fs::directory_iterator(); it.increment(ec)) {
      const std::string name = it->path().filename().string();
      if (name.ends_with(ending)) out.push_back(name);
    }
    std::ranges::sort(out);
    return out;
  }
  void use(const std::string& name) { used_.insert(name); }
  const std::set<std::string>& used() const { return used_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::set<std::string> used_;
};

// Which file holds which tensor; an empty map of names means "all of the one file".
struct Shards {
  std::map<std::string, std::set<std::string>> tensors_of;
};

Result<Shards> find_shards(Folder& folder) {
  Shards shards;
  const std::string index_name = "model.safetensors.index.json";
  auto index = folder.json(index_name);
  if (!index) return index.error();
  if (*index) {
    const auto map = (*index)->find("weight_map");
    if (map == (*index)->end() || !map->is_object() || map->empty()) {
      return error(Errc::bad_file, folder.file(index_name) + ": has no weight_map");
    }
    for (const auto& [tensor, file] : map->items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      if (!name.ends_with(".safetensors") || name.find('/') != std::string::npos || name.starts_with('.')) {
        return error(Errc::bad_file, folder.file(index_name) + ": tensor " + shown(tensor) + " is in " + shown(name) +
                                         ", which is not the name of a safetensors file of this folder");
      }
      shards.tensors_of[name].insert(tensor);
    }
    return shards;
  }
  if (folder.has("model.safetensors")) {
    shards.tensors_of["model.safetensors"];
    return shards;
  }
  const auto files = folder.names(".safetensors");
  if (files.size() == 1) {
    shards.tensors_of[files.front()];
    return shards;
  }
  std::string what = files.empty() ? "has no safetensors file" : "has several safetensors files and no " + index_name;
  if (files.empty() && !folder.names(".bin").empty()) {
    what += "; pickled weights (.bin) are never read, convert them first";
  }
  if (const auto ggufs = folder.names(".gguf"); files.empty() && !ggufs.empty()) {
    what += "; name the GGUF file itself: " + ggufs.front();
  }
  return error(Errc::bad_file, folder.path() + ": " + what);
}

Result<> read_weights(Folder& folder, ModelData& model,
                      std::map<std::string, std::shared_ptr<const ByteSource>>& opened) {
  auto shards = find_shards(folder);
  if (!shards) return shards.error();
  for (const auto& [name, wanted] : shards->tensors_of) {
    auto source = map_file(folder.file(name));
    if (!source) return source.error();
    opened[name] = *source;
    folder.use(name);
    auto tensors = read_safetensors(folder.file(name), std::span((*source)->data(), (*source)->size()));
    if (!tensors) return tensors.error();
    for (const std::string& tensor : wanted) {
      if (!tensors->contains(tensor)) {
        return error(Errc::bad_file,
                     folder.file(name) + ": tensor " + shown(tensor) + " is missing; the index says it is here");
      }
    }
    for (auto& [tensor, view] : *tensors) {
      if (!wanted.empty() && !wanted.contains(tensor)) continue;      // the index names another shard for it, or nobody
      model.tensors.emplace(tensor, std::move(view));
    }
  }
  return {};
}

// "</s>" or {"content": "</s>", ...}; "" for anything else.
std::string token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return "";
}

void add_ids(const Json& config, const char* key, std::set<TokenId>& into) {
  const auto it = config.find(key);
  if (it == config.end()) return;
  const auto add = [&](const Json& v) {
    if (v.is_number_integer() && v >= 0 && v <= std::numeric_limits<TokenId>::max()) into.insert(v.get<TokenId>());
  };
  if (it->is_array()) {
    for (const Json& v : *it) add(v);
  } else {
    add(*it);
  }
}

Result<std::string> chat_template(Folder& folder, const Json& tokenizer_config) {
  auto file = folder.text("chat_template.jinja");
  if (!file) return file.error();
  if (*file) return std::move(**file);
  const auto it = tokenizer_config.find("chat_template");
  if (it == tokenizer_config.end() || it->is_null()) return std::string();
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array()) {                                           // [{"name": "default", "template": ...}, ...]
    for (const Json& entry : *it) {
      if (entry.is_object() && entry.value("name", Json()) == "default" && entry.contains("template") &&
          entry["template"].is_string()) {
        return entry["template"].get<std::string>();
      }
    }
  }
  return error(Errc::bad_file,
               folder.file("tokenizer_config.json") + ": chat_template is neither text nor a list with a 'default'");
}

// The id of a special token's spelling, from tokenizer.json's added tokens.
std::optional<TokenId> id_of(const Json& tokenizer, const std::string& spelling) {
  const auto added = tokenizer.find("added_tokens");
  if (spelling.empty() || added == tokenizer.end() || !added->is_array()) return std::nullopt;
  for (const Json& token : *added) {
    if (!token.is_object() || token_text(token) != spelling) continue;
    std::set<TokenId> id;
    add_ids(token, "id", id);
    if (!id.empty()) return *id.begin();
  }
  return std::nullopt;
}

Result<> read_tokenizer(Folder& folder, const Json& config, ModelData& model) {
  TokenizerData& t = model.tokenizer;
  t.kind = TokenizerData::Kind::tokenizer_json;
  auto text = folder.text("tokenizer.json", kTokenizerBytesMax);
  if (!text) return text.error();
  if (!*text) {
    return error(Errc::bad_file, folder.path() +
                                     ": has no tokenizer.json (a tokenizer.model alone is not read; transformers' "
                                     "AutoTokenizer.save_pretrained writes the .json)");
  }
  t.json = std::move(**text);
  auto tokenizer = parse_json(t.json, folder.file("tokenizer.json"), "model");
  if (!tokenizer) return tokenizer.error();
  if (!(*tokenizer)->is_object()) {
    return error(Errc::bad_file, folder.file("tokenizer.json") + ": is not a JSON object");
  }

  auto settings = folder.json("tokenizer_config.json");
  if (!settings) return settings.error();
  auto map = folder.json("special_tokens_map.json");
  if (!map) return map.error();
  const Json tokenizer_config = *settings ? **settings : Json::object();
  for (const auto* source : {&*settings, &*map}) {
    if (!*source) continue;
    for (const auto& [key, value] : (*source)->items()) {
      if (!key.ends_with("_token")) continue;
      if (std::string spelling = token_text(value); !spelling.empty()) {
        t.special_strings.emplace(key, std::move(spelling));
      }
    }
  }
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const auto it = tokenizer_config.find(key);
    return it != tokenizer_config.end() && it->is_boolean() ? std::optional(it->get<bool>()) : std::nullopt;
  };
  t.add_bos = flag("add_bos_token");
  t.add_eos = flag("add_eos_token");
  auto jinja = chat_template(folder, tokenizer_config);
  if (!jinja) return jinja.error();
  t.chat_template = std::move(*jinja);

  auto generation = folder.json("generation_config.json");
  if (!generation) return generation.error();
  const auto special = [&](const char* token, const char* key) -> std::optional<TokenId> {
    const auto spelled = t.special_strings.find(token);
    if (spelled != t.special_strings.end()) {
      if (const auto id = id_of(**tokenizer, spelled->second)) return id;
    }
    std::set<TokenId> ids;
    add_ids(config, key, ids);
    return ids.empty() ? std::nullopt : std::optional(*ids.begin());
  };
  t.bos = special("bos_token", "bos_token_id");
  t.eos = special("eos_token", "eos_token_id");
  t.unknown = special("unk_token", "unk_token_id");
  t.pad = special("pad_token", "pad_token_id");
  std::set<TokenId> stop;
  if (t.eos) stop.insert(*t.eos);
  add_ids(config, "eos_token_id", stop);
  if (*generation) add_ids(**generation, "eos_token_id", stop);
  t.stop.assign(stop.begin(), stop.end());
  return {};
}

// "bert.encoder..." of a BertForMaskedLM and "encoder..." of a BertModel are the same weights. What follows the last layer
// (pooler, heads) is not read, as the sentence encoders do.
void tidy_encoder(ModelData& model) {
  std::map<std::string, TensorView> kept;
  for (auto& [name, view] : model.tensors) {
    const std::string plain = name.starts_with("bert.") ? name.substr(5) : name;
    if (!plain.starts_with("embeddings.") && !plain.starts_with("encoder.")) continue;
    view.name = plain;
    kept.emplace(plain, std::move(view));
  }
  model.tensors = std::move(kept);
}

// sentence-transformers' 1_Pooling/config.json: how rows become a vector.
Result<> read_pooling(Folder& folder, ModelConfig& config) {
  auto json = folder.json("1_Pooling/config.json");
  if (!json) return json.error();
  if (!*json) return {};
  const auto on = [&](const char* key) { return (*json)->value(key, Json(false)) == Json(true); };
  const bool mean = on("pooling_mode_mean_tokens"), first = on("pooling_mode_cls_token"), last = on("pooling_mode_lasttoken");
  const bool other = on("pooling_mode_max_tokens") || on("pooling_mode_mean_sqrt_len_tokens") || on("pooling_mode_weightedmean_tokens");
  if (other || mean + first + last != 1) {
    return error(Errc::bad_file, folder.file("1_Pooling/config.json") + ": exactly one of the mean, the first (cls) and the last token is supported");
  }
  config.pooling = mean ? "mean" : first ? "first" : "last";
  return {};
}

}  // namespace

Result<ModelData> read_hugging_face(const std::string& path) {
  std::string clean = path;
  while (clean.size() > 1 && clean.ends_with('/')) clean.pop_back();
  Folder folder(clean);
  ModelData model;
  model.path = clean;
  model.format = "safetensors";
  auto config = folder.json("config.json");
  if (!config) return config.error();
  if (!*config) {
    const auto ggufs = folder.names(".gguf");
    return error(Errc::bad_file, clean + ": has no config.json" +
                                     (ggufs.empty() ? "" : "; name the GGUF file itself: " + ggufs.front()));
  }
  auto read = read_hf_config(folder.file("config.json"), **config);
  if (!read) return read.error();
  model.config = std::move(*read);
  if (model.config.name.empty()) model.config.name = fs::path(clean).filename().string();

  std::map<std::string, std::shared_ptr<const ByteSource>> opened;
  if (auto ok = read_weights(folder, model, opened); !ok) return ok.error();
  if (model.config.architecture == "bert") {
    tidy_encoder(model);
    if (auto ok = read_pooling(folder, model.config); !ok) return ok.error();
  }
  if (model.config.tied_embeddings) model.tensors.erase("lm_head.weight");    // transformers ignores a stored copy, too
  if (auto ok = read_tokenizer(folder, **config, model); !ok) return ok.error();
  for (const std::string& name : folder.used()) {
    auto& source = opened[name];
    if (!source) {
      auto mapped = map_file(folder.file(name));
      if (!mapped) return mapped.error();
      source = std::move(*mapped);
    }
    model.sources.push_back(source);
  }
  if (auto ok = check(clean, model); !ok) return ok.error();
  return model;
}

}  // namespace tokenworks::formats
