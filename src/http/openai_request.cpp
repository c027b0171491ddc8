#include "openai_request.hpp"

#include <charconv>

namespace tokenworks::http {
namespace {

using gateway::OutputFormat;

constexpr std::int64_t kTokenIdMax = INT32_MAX;

void read_sampling(Fields& fields, backend::SamplingParams& sampling, gateway::GenerateRequest& request) {
  if (const auto v = fields.real("temperature", 0, 2)) sampling.temperature = static_cast<float>(*v);
  if (const auto v = fields.real("top_p", 0, 1)) {
    sampling.top_p = static_cast<float>(*v);
    // The smallest set of tokens with a share of nothing is the likeliest one alone; the sampler calls that greedy.
    if (!(sampling.top_p > 0)) sampling.temperature = 0, sampling.top_p = 1;
  }
  if (const auto v = fields.real("presence_penalty", -2, 2)) sampling.presence_penalty = static_cast<float>(*v);
  if (const auto v = fields.real("frequency_penalty", -2, 2)) sampling.frequency_penalty = static_cast<float>(*v);
  // vLLM's names for what OpenAI's protocol lacks; -1 switches top_k off as 0 does.
  if (const auto v = fields.integer("top_k", -1, INT32_MAX)) sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(*v, 0));
  if (const auto v = fields.real("min_p", 0, 1)) sampling.min_p = static_cast<float>(*v);
  if (const auto v = fields.real("repetition_penalty", 0, 10, true)) sampling.repetition_penalty = static_cast<float>(*v);
  if (const auto v = fields.boolean("ignore_eos")) request.ignore_eos = *v;
  if (const auto v = fields.integer("seed", INT64_MIN, INT64_MAX)) request.seed = static_cast<std::uint64_t>(*v);
}

void read_stops(Fields& fields, const config::Plant::Limits& limits, gateway::GenerateRequest& request) {
  const auto bound = "takes at most " + std::to_string(limits.stop_strings) + " entries";
  if (const JsonValue* stop = fields.any("stop")) {
    if (stop->is_string()) {
      request.stop.push_back(stop->text);
    } else if (!stop->is_array()) {
      return fields.fail("stop", "must be a string or an array of strings");
    }
    for (const JsonValue& item : stop->items) {
      if (!item.is_string()) return fields.fail("stop", "must be a string or an array of strings");
      request.stop.push_back(item.text);
    }
    if (static_cast<std::int64_t>(request.stop.size()) > limits.stop_strings) return fields.fail("stop", bound);
    for (const std::string& text : request.stop) {
      if (text.empty()) return fields.fail("stop", "must not contain an empty string");
      if (text.size() > 1024) return fields.fail("stop", "must not contain a string of more than 1024 bytes");
    }
  }
  if (const JsonValue* ids = fields.array("stop_token_ids")) {
    if (static_cast<std::int64_t>(ids->items.size()) > limits.stop_strings) return fields.fail("stop_token_ids", bound);
    for (const JsonValue& item : ids->items) {
      const auto id = item.integer();
      if (!id || *id < 0 || *id > kTokenIdMax) return fields.fail("stop_token_ids", "must be an array of token ids (whole numbers from 0)");
      request.stop_tokens.push_back(static_cast<TokenId>(*id));
    }
  }
}

void read_bias(Fields& fields, const config::Plant::Limits& limits, gateway::GenerateRequest& request) {
  const JsonValue* map = fields.object("logit_bias");
  if (map == nullptr) return;
  if (static_cast<std::int64_t>(map->members.size()) > limits.logit_bias) {
    return fields.fail("logit_bias", "takes at most " + std::to_string(limits.logit_bias) + " tokens");
  }
  for (const auto& [key, value] : map->members) {
    std::int64_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc{} || end != key.data() + key.size() || token < 0 || token > kTokenIdMax) {
      return fields.fail("logit_bias", "must map token ids, written as whole numbers, to biases");
    }
    const auto bias = value.real();
    if (!bias || *bias < -100 || *bias > 100) return fields.fail("logit_bias", "must map to numbers between -100 and 100");
    request.bias.push_back({static_cast<TokenId>(token), static_cast<float>(*bias)});
  }
}

void read_response_format(Fields& fields, std::optional<Error>& mistake, OutputFormat& format) {
  const JsonValue* object = fields.object("response_format");
  if (object == nullptr) return;
  Fields inside(*object, "response_format.", mistake);
  const auto type = inside.string("type");
  if (!type) return inside.fail("type", "is required: text, json_object or json_schema");
  if (*type == "text") return;
  if (*type != "json_object" && *type != "json_schema") return inside.fail("type", "must be text, json_object or json_schema");
  const JsonValue* wrapped = *type == "json_schema" ? inside.object("json_schema") : nullptr;
  // llama.cpp and several hosts take the schema beside the type, whichever of the two it is.
  if (const JsonValue* beside = wrapped == nullptr ? inside.object("schema") : nullptr) {
    format = {OutputFormat::Kind::json_schema, json_text(*beside), {}, "response_format.schema"};
    return;
  }
  if (*type == "json_object") {
    format.kind = OutputFormat::Kind::json_object;
    return;
  }
  if (wrapped == nullptr) return inside.fail("json_schema", "is required with type json_schema");
  Fields schema(*wrapped, "response_format.json_schema.", mistake);
  const auto name = schema.string("name");
  if (!name || name->empty() || name->size() > 64 ||
      name->find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != std::string::npos) {
    return schema.fail("name", "is required: 1 to 64 of a-z, A-Z, 0-9, _ and -");
  }
  schema.string("description");
  schema.boolean("strict");
  const JsonValue* root = schema.object("schema");
  format.kind = root == nullptr ? OutputFormat::Kind::json_object : OutputFormat::Kind::json_schema;
  if (root != nullptr) format.schema = json_text(*root), format.param = "response_format.json_schema.schema";
}

// vLLM's structured outputs: {"structured_outputs": {"json"|"regex"|"choice"|"grammar": ...}} and the older guided_* fields.
// `prefix` of the fields' names; `outer`, what stands before them in messages.
void read_structured(Fields& fields, const std::string& prefix, OutputFormat& format, bool& given, const std::string& outer = {}) {
  const auto once = [&](const std::string& name) {
    if (given) fields.fail(name, "cannot be combined with another output format");
    given = true;
  };
  const std::string json = prefix + "json", regex = prefix + "regex", choice = prefix + "choice", grammar = prefix + "grammar";
  if (const JsonValue* schema = fields.any(json)) {
    once(json);
    if (schema->is_object()) {
      format = {OutputFormat::Kind::json_schema, json_text(*schema), {}, outer + json};
    } else if (schema->is_string()) {
      const auto parsed = parse_json(schema->text);
      if (!parsed || !parsed->is_object()) return fields.fail(json, "must be a JSON schema, as an object or its text");
      format = {OutputFormat::Kind::json_schema, json_text(*parsed), {}, outer + json};
    } else {
      fields.fail(json, "must be a JSON schema, as an object or its text");
    }
  }
  if (const auto pattern = fields.string(regex)) once(regex), format = {OutputFormat::Kind::regex, {}, *pattern, outer + regex};
  if (const auto text = fields.string(grammar)) once(grammar), format = {OutputFormat::Kind::grammar, {}, *text, outer + grammar};
  if (const JsonValue* choices = fields.array(choice)) {
    once(choice);
    for (const JsonValue& item : choices->items) {
      if (!item.is_string()) return fields.fail(choice, "must be an array of strings");
    }
    if (choices->items.empty()) return fields.fail(choice, "must not be empty");
    format = {OutputFormat::Kind::choice, json_text(*choices), {}, outer + choice};
  }
}

bool empty_or_off(const JsonValue& value) {
  if (value.kind == JsonValue::Kind::boolean) return !value.truth;
  if (value.is_string()) return value.text.empty();
  if (value.is_array()) return value.items.empty();
  return value.is_null() || (value.is_object() && value.members.empty());
}

void read_format(Fields& fields, const config::Plant::Limits& limits, std::optional<Error>& mistake, OutputFormat& format) {
  read_response_format(fields, mistake, format);
  bool given = format.kind != OutputFormat::Kind::text;
  read_structured(fields, "guided_", format, given);
  if (const JsonValue* object = fields.object("structured_outputs")) {
    Fields inside(*object, "structured_outputs.", mistake);
    read_structured(inside, "", format, given, "structured_outputs.");
    // What would hold the answer and cannot is never passed over.
    refuse_unsupported(*object, {"structural_tag", "disable_additional_properties"}, mistake, "structured_outputs.");
    if (inside.boolean("json_object").value_or(false)) {
      if (given) return inside.fail("json_object", "cannot be combined with another output format");
      format.kind = OutputFormat::Kind::json_object;
    }
  }
  if (static_cast<std::int64_t>(format.schema.text.size() + format.pattern.size()) > limits.schema_bytes) {
    fields.fail(format.param, "takes a schema, pattern or grammar of at most " + std::to_string(limits.schema_bytes) + " bytes");
  }
}

void read_stream(Fields& fields, std::optional<Error>& mistake, Parsed& parsed) {
  parsed.stream = fields.boolean("stream").value_or(false);
  const JsonValue* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!parsed.stream) return fields.fail("stream_options", "is only allowed when 'stream' is true");
  Fields inside(*options, "stream_options.", mistake);
  parsed.options.include_usage = inside.boolean("include_usage").value_or(false);
  parsed.options.obfuscation = inside.boolean("include_obfuscation").value_or(false);
  parsed.options.continuous_usage = inside.boolean("continuous_usage_stats").value_or(false);
  if (parsed.options.continuous_usage && !parsed.options.include_usage) {
    return inside.fail("continuous_usage_stats", "is only allowed when 'include_usage' is true");
  }
  parsed.request.continuous_usage = parsed.options.continuous_usage;
}

}  // namespace

void read_tier(Fields& fields, std::optional<Tier>& tier) {
  const auto word = fields.string("service_tier");
  if (!word || *word == "auto" || *word == "scale") return;   // OpenAI's scale tier is what the plan has reserved
  if (*word == "default" || *word == "standard") {
    tier = Tier::standard;
  } else if (*word == "flex" || *word == "batch") {
    tier = Tier::batch;
  } else if (*word == "priority" || *word == "fast") {
    tier = Tier::priority;
  } else {
    fields.fail("service_tier", "must be auto, default, flex or priority");
  }
}

void read_tags(Fields& fields, std::optional<Error>& mistake, std::map<std::string, std::string>& tags) {
  if (const JsonValue* metadata = fields.object("metadata")) {
    if (metadata->members.size() > 16) return fields.fail("metadata", "takes at most 16 pairs");
    Fields inside(*metadata, "metadata.", mistake);
    for (const auto& [key, value] : metadata->members) {
      if (!value.is_string()) return inside.fail(key, "must be a string");
      if (key.empty() || key.size() > 64) return fields.fail("metadata", "takes keys of 1 to 64 bytes");
      if (value.text.size() > 512) return inside.fail(key, "must not be longer than 512 bytes");
      tags[key] = value.text;
    }
  }
  // The prefix cache finds what is shared by itself, for one tenant at a time: the key is kept as a tag and steers nothing.
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key"}) {
    if (const auto text = fields.string(name)) {
      if (text->size() > 512) return fields.fail(name, "must not be longer than 512 bytes");
      tags[name] = *text;
    }
  }
}

Result<JsonValue> read_body(std::string_view body, std::string& named) {
  if (body.empty()) return error(Errc::invalid_request, "the request body is empty; send a JSON object");
  auto value = parse_json(body);
  if (!value) return value.error();
  if (!value->is_object()) {
    return error(Errc::invalid_request, std::string("the request body must be a JSON object, not ") + kind_name(value->kind));
  }
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  const auto model = fields.string("model");
  if (mistake) return *mistake;
  if (!model || model->empty()) return error(Errc::invalid_request, "'model' is required: the id of a model from GET /v1/models", "model");
  if (model->size() > 512) return error(Errc::invalid_request, "'model' must not be longer than 512 bytes", "model");
  named = *model;
  return value;
}

Result<JsonValue> read_body(std::string_view body, Parsed& parsed) { return read_body(body, parsed.request.model); }

void read_common(const JsonValue& body, const config::Plant::Limits& limits, std::optional<Error>& mistake, Parsed& parsed) {
  Fields fields(body, "", mistake);
  gateway::GenerateRequest& request = parsed.request;
  read_sampling(fields, request.sampling, request);
  if (const auto n = fields.integer("n", 1, limits.choices)) request.choices = static_cast<std::uint32_t>(*n);
  read_stops(fields, limits, request);
  read_bias(fields, limits, request);
  read_format(fields, limits, mistake, request.format);
  read_tier(fields, request.tier);
  read_tags(fields, mistake, request.tags);
  read_stream(fields, mistake, parsed);
}

void refuse_unsupported(const JsonValue& body, std::initializer_list<std::string_view> names, std::optional<Error>& mistake,
                        const std::string& prefix) {
  Fields fields(body, prefix, mistake);
  for (const std::string_view name : names) {
    const JsonValue* value = fields.any(name);
    if (value != nullptr && !empty_or_off(*value)) fields.fail(name, "is not supported by this server", Errc::unsupported_parameter);
  }
}

}  // namespace tokenworks::http
