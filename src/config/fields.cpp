#include "fields.hpp"

#include "yaml_file.hpp"

#include <algorithm>
#include <cstdlib>

namespace tokenworks::config {
namespace {

// A whole number and what follows it; nullopt when there is no number or it is too large.
std::optional<std::pair<std::int64_t, std::string>> number_and_unit(const std::string& text) {
  std::size_t at = 0;
  std::int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    if (__builtin_mul_overflow(value, std::int64_t{10}, &value) || __builtin_add_overflow(value, text[at] - '0', &value)) {
      return std::nullopt;
    }
  }
  if (at == 0) return std::nullopt;
  return std::pair{value, text.substr(at)};
}

}  // namespace

std::string capitals(const std::string& path) {
  std::string name;
  for (const char c : path) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (!name.empty() && name.back() == '_') name.pop_back();
  return name;
}

int line_of(const YAML::Node& node) { return std::max(0, node.Mark().line) + 1; }   // an empty file has no first line to mark

bool good_country(const std::string& text) {
  const auto capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (text.size() < 2 || !capital(text[0]) || !capital(text[1])) return false;
  if (text.size() == 2) return true;
  const auto part = [&](char c) { return capital(c) || (c >= '0' && c <= '9'); };
  return text[2] == '-' && text.size() >= 4 && text.size() <= 6 && std::all_of(text.begin() + 3, text.end(), part);
}

void Document::mistake(int line, const std::string& what) const {
  mistakes->push_back(file + ":" + std::to_string(line) + ": " + what);
}

Fields::Fields(const Document& document, const YAML::Node& node, std::string path, std::string generic)
    : document_(document), node_(node), path_(std::move(path)), generic_(std::move(generic)), line_(config::line_of(node)) {}

bool Fields::has(const std::string& key) const {
  return node_.IsMap() && static_cast<bool>(node_[key]);
}

int Fields::line_of(const std::string& key) const {
  if (!has(key)) return line_;
  const YAML::Node value = node_[key];
  if (!value.IsNull()) return config::line_of(value);
  for (const auto& item : node_) {                   // nothing stands where the next thing begins
    if (item.first.IsScalar() && item.first.Scalar() == key) return config::line_of(item.first);
  }
  return line_;
}

void Fields::mistake(const std::string& key, const std::string& what) const {
  // What the environment says is not to be found in the file.
  const std::string variable = document_.env_prefix + capitals(full(key));
  if (std::getenv(variable.c_str()) != nullptr) {
    document_.mistakes->push_back("environment variable " + variable + ": " + full(key) + " " + what);
  } else {
    document_.mistake(line_of(key), full(key) + " " + what);
  }
}

YAML::Node Fields::lookup(const std::string& key) {
  known_.push_back(key);
  if (document_.asked != nullptr) document_.asked->insert({document_.kind, full_generic(key)});
  if (!has(key)) return YAML::Node(YAML::NodeType::Undefined);
  return node_[key];
}

std::optional<std::string> Fields::scalar(const std::string& key, bool required) {
  const YAML::Node node = lookup(key);
  const std::string variable = document_.env_prefix + capitals(full(key));
  if (document_.variables != nullptr) document_.variables->insert(variable);
  const auto checked = [&](std::string value) -> std::optional<std::string> {   // an escape can write half a surrogate pair
    if (is_utf8(value)) return value;
    mistake(key, "is not UTF-8");
    return std::nullopt;
  };
  if (const char* value = std::getenv(variable.c_str()); value != nullptr) return checked(value);
  if (!node.IsDefined() || node.IsNull()) {
    if (required) document_.mistake(line_, (path_.empty() ? "" : path_ + ": ") + "'" + key + "' is missing");
    // A template that filled in nothing must not take a limit, a credit line or a client_ca away.
    if (!required && node.IsDefined()) mistake(key, "has no value; leave it out, or say what is meant");
    return std::nullopt;
  }
  if (!node.IsScalar()) {
    mistake(key, "must be a single value");
    return std::nullopt;
  }
  return checked(node.Scalar());
}

void Fields::text(const std::string& key, std::string& into, bool required) {
  if (auto value = scalar(key, required)) {
    if (required && value->empty()) mistake(key, "is empty");
    into = *value;
  }
}

void Fields::texts(const std::string& key, std::vector<std::string>& into) {
  const YAML::Node node = has(key) ? node_[key] : YAML::Node(YAML::NodeType::Undefined);
  const std::string variable = document_.env_prefix + capitals(full(key));
  if (document_.variables != nullptr) document_.variables->insert(variable);
  // One value, or the environment's comma-separated list, which replaces whatever list stands here.
  if (!node.IsDefined() || node.IsScalar() || node.IsNull() || std::getenv(variable.c_str()) != nullptr) {
    if (auto value = scalar(key, false)) {
      into.clear();
      std::size_t from = 0;
      while (from <= value->size()) {
        const std::size_t to = std::min(value->find(',', from), value->size());
        if (to > from) into.push_back(value->substr(from, to - from));
        from = to + 1;
      }
    }
    return;
  }
  lookup(key);
  if (!node.IsSequence()) return mistake(key, "must be a list");
  into.clear();
  for (const YAML::Node& item : node) {
    if (!item.IsScalar()) {
      document_.mistake(config::line_of(item), full(key) + " must be a list of plain values");
    } else if (!is_utf8(item.Scalar())) {
      document_.mistake(config::line_of(item), full(key) + " is not UTF-8");
    } else {
      into.push_back(item.Scalar());
    }
  }
}

void Fields::integer(const std::string& key, std::int64_t& into, std::int64_t least, std::int64_t most) {
  const auto value = scalar(key, false);
  if (!value) return;
  const auto number = number_and_unit(*value);
  if (!number || !number->second.empty() || number->first < least || number->first > most) {
    return mistake(key, "is '" + *value + "'; a whole number from " + std::to_string(least) + " to " +
                            std::to_string(most) + " is needed");
  }
  into = number->first;
}

void Fields::integers(const std::string& key, std::vector<std::int64_t>& into, std::int64_t least, std::int64_t most) {
  std::vector<std::string> words;
  texts(key, words);
  for (const std::string& word : words) {
    const auto number = number_and_unit(word);
    if (!number || !number->second.empty() || number->first < least || number->first > most) {
      mistake(key, "holds '" + word + "'; whole numbers from " + std::to_string(least) + " to " + std::to_string(most) +
                       " are needed");
    } else {
      into.push_back(number->first);
    }
  }
}

void Fields::duration(const std::string& key, std::int64_t& into_ns, std::int64_t least_ns) {
  const auto value = scalar(key, false);
  if (!value) return;
  static const std::pair<const char*, std::int64_t> kUnits[] = {
      {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}, {"d", 86'400'000'000'000}};
  const auto number = number_and_unit(*value);
  for (const auto& [unit, ns] : kUnits) {
    std::int64_t total = 0;
    if (number && number->second == unit && !__builtin_mul_overflow(number->first, ns, &total) && total >= least_ns) {
      into_ns = total;
      return;
    }
  }
  mistake(key, "is '" + *value + "'; a duration such as 25ms, 30s, 5m, 1h or 30d" +
                   (least_ns > 0 ? " of at least " + std::to_string(least_ns / 1'000'000) + "ms" : "") + " is needed");
}

void Fields::size(const std::string& key, std::int64_t& into, std::int64_t least) {
  const auto value = scalar(key, false);
  if (!value) return;
  static const std::pair<const char*, std::int64_t> kUnits[] = {
      {"", 1},          {"B", 1},           {"KiB", 1 << 10},    {"MiB", 1 << 20},
      {"GiB", 1 << 30}, {"kB", 1000},       {"MB", 1'000'000},   {"GB", 1'000'000'000}};
  const auto number = number_and_unit(*value);
  for (const auto& [unit, bytes] : kUnits) {
    std::int64_t total = 0;
    if (number && number->second == unit && !__builtin_mul_overflow(number->first, bytes, &total) && total >= least) {
      into = total;
      return;
    }
  }
  mistake(key, "is '" + *value + "'; a size such as 64KiB, 512MiB or 2GiB" +
                   (least > 0 ? " of at least " + std::to_string(least) + " bytes" : "") + " is needed");
}

void Fields::decimal(const std::string& key, std::int64_t& into, int places, bool required) {
  const auto value = scalar(key, required);
  if (!value) return;
  const auto parsed = parse_decimal(*value, places);
  if (!parsed) return mistake(key, "= " + parsed.error().message);
  if (*parsed < 0) return mistake(key, "is '" + *value + "'; it must not be negative");
  into = *parsed;
}

void Fields::word(const std::string& key, std::string& into, const std::vector<std::string>& known) {
  const auto value = scalar(key, false);
  if (!value) return;
  if (std::find(known.begin(), known.end(), *value) == known.end()) {
    std::string all;
    for (const std::string& k : known) all += (all.empty() ? "" : ", ") + k;
    const auto near = nearest(*value, known);
    return mistake(key, "is '" + *value + "'; known are " + all + (near ? "; did you mean '" + *near + "'?" : ""));
  }
  into = *value;
}

void Fields::mapping(const std::string& key, const std::function<void(Fields&)>& read) {
  const YAML::Node node = lookup(key);
  if (!node.IsDefined() || node.IsNull()) {
    // An absent block can still be given by the environment.
    Fields inner(document_, YAML::Node(YAML::NodeType::Map), full(key), full_generic(key));
    inner.line_ = line_;
    read(inner);
    return;
  }
  if (!node.IsMap()) return mistake(key, "must be a mapping (key: value)");
  Fields inner(document_, node, full(key), full_generic(key));
  read(inner);
  inner.done();
}

void Fields::list(const std::string& key, const std::function<void(Fields&)>& read, const std::string& documented) {
  const YAML::Node node = lookup(key);
  const std::string generic = documented.empty() ? full_generic(key) + "[]" : documented;
  if (!node.IsDefined() || node.IsNull()) {
    if (document_.asked == nullptr) return;
    Fields inner(document_, YAML::Node(YAML::NodeType::Map), full(key), generic);   // to list its keys
    return read(inner);
  }
  if (!node.IsSequence()) return mistake(key, "must be a list (- ...)");
  int index = 0;
  for (const YAML::Node& item : node) {
    const std::string path = full(key) + "[" + std::to_string(index++) + "]";
    if (!item.IsMap()) {
      document_.mistake(config::line_of(item), path + " must be a mapping (key: value)");
      continue;
    }
    Fields inner(document_, item, path, generic);
    read(inner);
    inner.done();
  }
}

void Fields::named(const std::string& key, const std::function<void(const std::string&, Fields&)>& read,
                   const std::string& documented) {
  const YAML::Node node = lookup(key);
  const std::string generic = documented.empty() ? full_generic(key) + ".<name>" : documented;
  if (!node.IsDefined() || node.IsNull()) return;
  if (!node.IsMap()) return mistake(key, "must be a mapping of names");
  std::set<std::string> seen;
  for (const auto& item : node) {
    const std::string name = item.first.IsScalar() ? item.first.Scalar() : "";
    const int line = config::line_of(item.first);
    if (!seen.insert(name).second) {
      document_.mistake(line, full(key) + ": '" + name + "' stands twice");
      continue;
    }
    const YAML::Node value = item.second.IsNull() ? YAML::Node(YAML::NodeType::Map) : item.second;
    if (!value.IsMap()) {
      document_.mistake(line, full(key) + "." + name + " must be a mapping (key: value)");
      continue;
    }
    Fields inner(document_, value, full(key) + "." + name, generic);
    inner.line_ = line;
    read(name, inner);
    inner.done();
  }
}

void Fields::pairs(const std::string& key, std::vector<std::pair<std::string, std::string>>& into) {
  const YAML::Node node = lookup(key);
  if (document_.asked != nullptr) document_.asked->insert({document_.kind, full_generic(key) + ".<name>"});
  if (!node.IsDefined() || node.IsNull()) return;
  if (!node.IsMap()) return mistake(key, "must be a mapping (name: value)");
  for (const auto& item : node) {
    if (!item.first.IsScalar() || !item.second.IsScalar()) {
      document_.mistake(config::line_of(item.first), full(key) + " must hold plain names and values");
      continue;
    }
    into.emplace_back(item.first.Scalar(), item.second.Scalar());
  }
}

void Fields::done() {
  if (!node_.IsMap()) return;
  std::set<std::string> seen;
  for (const auto& item : node_) {
    const std::string key = item.first.IsScalar() ? item.first.Scalar() : "?";
    const int line = config::line_of(item.first);
    if (!seen.insert(key).second) document_.mistake(line, full(key) + " stands twice");
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const auto near = nearest(key, known_);
    document_.mistake(line, "unknown key '" + full(key) + "'" + (near ? "; did you mean '" + *near + "'?" : ""));
  }
}

}  // namespace tokenworks::config
