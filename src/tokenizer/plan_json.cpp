// TokenizerData out of a tokenizer.json (huggingface/tokenizers, format version 1.0): the model, the added tokens and
// the beginning-of-text rule; the pipeline parts are read by the other plan_json files. Unknown parts are errors: a
// tokenizer that is nearly right is wrong.
#include <algorithm>
#include <set>

#include "tokenizer/json_reader.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

constexpr std::int64_t kIdMax = 1 << 22;  // more tokens than any vocabulary has

Result<TokenId> id_of(const Json& value, const std::string& where) {
  if (!value.is_number_integer()) return bad_part(where, "must be a token id");
  const auto id = value.get<std::int64_t>();
  if (id < 0 || id > kIdMax) return bad_part(where, "is " + std::to_string(id) + ", which is no possible token id");
  return static_cast<TokenId>(id);
}

Result<> read_vocabulary(const Json& model, BpeSpec& spec) {
  const Json* vocab = member(model, "vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->empty())
    return bad_part("model.vocab", "must be an object of spellings and ids");
  for (const auto& [spelling, value] : vocab->items()) {
    auto id = id_of(value, "model.vocab['" + spelling + "']");
    if (!id) return id.error();
    const auto i = static_cast<std::size_t>(*id);
    if (i >= spec.spellings.size()) spec.spellings.resize(i + 1);
    if (!spec.spellings[i].empty())
      return bad_part("model.vocab", "gives id " + std::to_string(*id) + " to two spellings");
    spec.spellings[i] = spelling;
  }
  spec.in_model.assign(spec.spellings.size(), true);
  return {};
}

Result<> read_merges(const Json& model, BpeSpec& spec) {
  const Json* list = member(model, "merges");
  if (list == nullptr || !list->is_array()) return bad_part("model.merges", "must be a list");
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(list->size());
  for (const Json& entry : *list) {
    const std::string where = "model.merges[" + std::to_string(merges.size()) + "]";
    if (entry.is_string()) {
      const auto& text = entry.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return bad_part(where, "is not two spellings with one space between");
      }
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      merges.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
    } else {
      return bad_part(where, "must be a string or a pair of strings");
    }
  }
  return add_merges(spec, merges);
}

Result<> read_flags(const Json& model, BpeSpec& spec) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json* value = member(model, key);
    if (value != nullptr && !(value->is_string() && value->get_ref<const std::string&>().empty())) {
      return bad_part(std::string("model.") + key, "is set, which is not supported");
    }
  }
  if (const Json* dropout = member(model, "dropout"); dropout != nullptr && *dropout != 0.0) {
    return bad_part("model.dropout", "is set: encoding would be random");
  }
  auto fallback = flag_at(model, "byte_fallback", false, "model");
  if (!fallback) return fallback.error();
  auto ignore = flag_at(model, "ignore_merges", false, "model");
  if (!ignore) return ignore.error();
  auto fuse = flag_at(model, "fuse_unk", false, "model");
  if (!fuse) return fuse.error();
  spec.byte_fallback = *fallback;
  spec.ignore_merges = *ignore;
  spec.fuse_unknown = *fuse;
  return {};
}

Result<> read_added(const Json& root, Plan& plan) {
  const Json* list = member(root, "added_tokens");
  if (list == nullptr) return {};
  if (!list->is_array()) return bad_part("added_tokens", "must be a list");
  BpeSpec& spec = plan.bpe;
  for (const Json& entry : *list) {
    const std::string where = "added_tokens[" + std::to_string(plan.added.size()) + "]";
    if (!entry.is_object()) return bad_part(where, "must be an object");
    AddedToken token;
    auto content = text_at(entry, "content", where);
    if (!content) return content.error();
    const Json* id_value = member(entry, "id");
    if (id_value == nullptr) return bad_part(where + ".id", "is missing");
    auto id = id_of(*id_value, where + ".id");
    if (!id) return id.error();
    token.id = *id;
    token.content = *content;
    const std::pair<const char*, bool*> flags[] = {{"special", &token.special},
                                                   {"lstrip", &token.lstrip},
                                                   {"rstrip", &token.rstrip},
                                                   {"single_word", &token.single_word},
                                                   {"normalized", &token.normalized}};
    for (const auto& [key, flag] : flags) {
      auto value = flag_at(entry, key, false, where);
      if (!value) return value.error();
      *flag = *value;
    }
    const auto i = static_cast<std::size_t>(*id);
    if (i >= spec.spellings.size()) {
      spec.spellings.resize(i + 1);
      spec.in_model.resize(i + 1, false);
    }
    const bool known = spec.spellings[i] == token.content;
    if (!known && !spec.spellings[i].empty()) {
      return bad_part(where, "has id " + std::to_string(*id) + ", which is '" + spec.spellings[i] + "' already");
    }
    spec.spellings[i] = token.content;
    if (!known || token.special) spec.in_model[i] = false;  // text never becomes a control token by merging
    plan.added.push_back(std::move(token));
  }
  return {};
}

// The id of a special token that TemplateProcessing (or the older BertProcessing) puts first, or last.
std::optional<TokenId> template_token(const Json& part, bool first) {
  const auto id_in = [](const Json& value) -> std::optional<TokenId> {
    if (!value.is_number_integer()) return std::nullopt;
    const auto id = value.get<std::int64_t>();
    return id >= 0 && id <= kIdMax ? std::optional(static_cast<TokenId>(id)) : std::nullopt;
  };
  if (!part.is_object()) return std::nullopt;
  if (part.value("type", Json()) == "BertProcessing") {
    const Json* pair = member(part, first ? "cls" : "sep");
    return pair != nullptr && pair->is_array() && pair->size() == 2 ? id_in((*pair)[1]) : std::nullopt;
  }
  if (part.value("type", Json()) != "TemplateProcessing") return std::nullopt;
  const Json* single = member(part, "single");
  const Json* tokens = member(part, "special_tokens");
  if (single == nullptr || !single->is_array() || single->empty() || tokens == nullptr || !tokens->is_object())
    return std::nullopt;
  const Json& at = first ? single->front() : single->back();
  const Json* special = at.is_object() ? member(at, "SpecialToken") : nullptr;
  const Json* name = special != nullptr && special->is_object() ? member(*special, "id") : nullptr;
  if (name == nullptr || !name->is_string()) return std::nullopt;
  const Json* entry = member(*tokens, name->get_ref<const std::string&>().c_str());
  const Json* ids = entry != nullptr && entry->is_object() ? member(*entry, "ids") : nullptr;
  return ids != nullptr && ids->is_array() && ids->size() == 1 ? id_in((*ids)[0]) : std::nullopt;
}

// A special token that a raw text begins (or, embedded, ends) with.
std::optional<TokenId> template_special(const Json& root, bool first) {
  const Json* processor = member(root, "post_processor");
  if (processor == nullptr || !processor->is_object()) return std::nullopt;
  const Json* list = member(*processor, "processors");
  if (list == nullptr || !list->is_array()) return template_token(*processor, first);
  for (const Json& part : *list) {
    if (auto id = template_token(part, first)) return id;
  }
  return std::nullopt;
}

Result<> read_word_piece(const Json& model, Plan& plan) {
  WordPieceSpec spec;
  if (member(model, "continuing_subword_prefix") != nullptr) {
    auto prefix = text_at(model, "continuing_subword_prefix", "model");
    if (!prefix) return prefix.error();
    spec.prefix = *prefix;
  }
  if (member(model, "max_input_chars_per_word") != nullptr) {
    auto most = number_at(model, "max_input_chars_per_word", "model");
    if (!most) return most.error();
    if (*most < 0 || *most > 1 << 20) return bad_part("model.max_input_chars_per_word", "is " + std::to_string(*most) + ", which is no possible length");
    spec.characters_max = static_cast<std::int32_t>(*most);
  }
  plan.word_piece = std::move(spec);
  return {};
}

}  // namespace

Result<Plan> plan_from_json(const formats::TokenizerData& data) {
  Json root;
  try {
    root = Json::parse(data.json);
  } catch (const Json::exception& e) {
    return error(Errc::bad_file, std::string("tokenizer.json does not parse: ") + e.what());
  }
  if (!root.is_object()) return error(Errc::bad_file, "tokenizer.json is not an object");
  const Json* model = member(root, "model");
  if (model == nullptr || !model->is_object()) return bad_part("model", "must be an object");
  const Json* type = member(*model, "type");
  const bool word_piece = type != nullptr && *type == "WordPiece";
  if (type != nullptr && *type != "BPE" && !word_piece) {
    return bad_part("model.type", "is " + type->dump() + "; only BPE and WordPiece are supported");
  }
  Plan plan;
  if (auto read = read_vocabulary(*model, plan.bpe); !read) return read.error();
  if (word_piece) {
    if (auto read = read_word_piece(*model, plan); !read) return read.error();
  } else {
    if (auto read = read_flags(*model, plan.bpe); !read) return read.error();
    if (auto read = read_merges(*model, plan.bpe); !read) return read.error();
  }
  if (auto read = read_added(root, plan); !read) return read.error();
  // After the added tokens: a merge that makes a control token is dropped with it.
  std::set<std::string> control;
  for (const AddedToken& token : plan.added) {
    if (token.special) control.insert(token.content);
  }
  std::erase_if(plan.bpe.merges, [&](const auto& merge) {
    const auto& spellings = plan.bpe.spellings;
    return control.count(spellings[static_cast<std::size_t>(merge.first)] +
                         spellings[static_cast<std::size_t>(merge.second)]) != 0;
  });
  if (const Json* unknown = member(*model, "unk_token")) {
    const auto found = std::find(plan.bpe.spellings.begin(), plan.bpe.spellings.end(),
                                 unknown->is_string() ? unknown->get<std::string>() : "");
    if (!unknown->is_string() || found == plan.bpe.spellings.end())
      return bad_part("model.unk_token", "is not in the vocabulary");
    plan.bpe.unknown = static_cast<TokenId>(found - plan.bpe.spellings.begin());
    if (plan.word_piece) plan.word_piece->unknown = plan.bpe.unknown;
  }
  if (const Json* part = member(root, "normalizer")) {
    if (auto read = read_normalizer(*part, "normalizer", plan.normalizer); !read) return read.error();
  }
  if (const Json* part = member(root, "pre_tokenizer")) {
    if (auto read = read_pre_tokenizer(*part, "pre_tokenizer", plan.pre_tokenizer, plan.bpe.byte_level); !read)
      return read.error();
  }
  plan.decoder.control.assign(plan.bpe.spellings.size(), false);
  for (const AddedToken& token : plan.added) {
    if (token.special) plan.decoder.control[static_cast<std::size_t>(token.id)] = true;
  }
  std::vector<std::string> shown = plan.bpe.spellings;
  for (const AddedToken& token : plan.added) {  // a token that is matched in normalized text decodes to such
    if (token.normalized)
      shown[static_cast<std::size_t>(token.id)] = plan.normalizer.apply(MarkedText(token.content, true)).text();
  }
  if (auto read = read_decoder(member(root, "decoder"), shown, plan.decoder); !read) return read.error();

  plan.end = template_special(root, false);
  const std::optional<TokenId> from_template = template_special(root, true);
  if (data.add_bos.value_or(from_template.has_value())) plan.bos = from_template ? from_template : data.bos;
  return plan;
}

}  // namespace tokenworks::tokenizer
