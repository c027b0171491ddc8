#pragma once
// Fields: reads one YAML mapping key by key and remembers what it was asked for, so that `done` can name every key nobody
// asked for with the nearest one that exists. Every mistake goes into the shared list and reading goes on: an operator
// sees all of them at once. Environment variables override scalars by their path (TOKENWORKS_LEDGER_PROGRESS).
// Private to src/config; yaml-cpp does not leave this room.
#include <yaml-cpp/yaml.h>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// One file being read.
struct Document {
  std::string file;                                  // as messages name it
  std::string kind;                                  // "tokenworks.yaml", "prices.yaml", "tenants.yaml": for the reference
  std::string env_prefix;                            // "TOKENWORKS_", "TOKENWORKS_PRICES_", ...
  std::set<std::string>* variables = nullptr;        // the environment's names for the keys that were asked for
  std::vector<std::string>* mistakes = nullptr;
  std::set<std::pair<std::string, std::string>>* asked = nullptr;   // (kind, generic path), when a test wants to know

  void mistake(int line, const std::string& what) const;
};

class Fields {
 public:
  // `generic` is the path with lists as [] and free names as <name>, as the reference writes it.
  Fields(const Document& document, const YAML::Node& node, std::string path, std::string generic);

  bool has(const std::string& key) const;
  int line() const { return line_; }
  int line_of(const std::string& key) const;
  Where where() const { return {document_.file, line_}; }
  const std::string& path() const { return path_; }
  void document_as(const std::string& generic) { generic_ = generic; }   // what is read from now on
  const Document& document() const { return document_; }

  void text(const std::string& key, std::string& into, bool required = false);
  void texts(const std::string& key, std::vector<std::string>& into);              // a list, or one scalar
  void integer(const std::string& key, std::int64_t& into, std::int64_t least, std::int64_t most);
  void duration(const std::string& key, std::int64_t& into_ns, std::int64_t least_ns);   // "25ms", "30s", "5m", "1h", "30d"
  void size(const std::string& key, std::int64_t& into, std::int64_t least);       // "512MiB", "10MB", "4096"
  // Exact decimal text as an integer count of 10^-places, not negative.
  void decimal(const std::string& key, std::int64_t& into, int places, bool required = false);
  // One of a fixed set of words.
  void word(const std::string& key, std::string& into, const std::vector<std::string>& known);

  void mapping(const std::string& key, const std::function<void(Fields&)>& read);
  // Lists of mappings, and mappings with free names. `documented`: the generic path of an item when the reference describes
  // it elsewhere.
  void list(const std::string& key, const std::function<void(Fields&)>& read, const std::string& documented = {});
  void named(const std::string& key, const std::function<void(const std::string& name, Fields&)>& read,
             const std::string& documented = {});
  void integers(const std::string& key, std::vector<std::int64_t>& into, std::int64_t least, std::int64_t most);

  void pairs(const std::string& key, std::vector<std::pair<std::string, std::string>>& into);          // free keys, plain values

  // Reports unknown and repeated keys. Call last.
  void done();
  void mistake(const std::string& key, const std::string& what) const;

 private:
  YAML::Node lookup(const std::string& key);
  std::optional<std::string> scalar(const std::string& key, bool required);
  std::string full(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  std::string full_generic(const std::string& key) const { return generic_.empty() ? key : generic_ + "." + key; }

  const Document& document_;
  YAML::Node node_;
  std::string path_, generic_;
  int line_;
  std::vector<std::string> known_;
};

int line_of(const YAML::Node& node);
// An ISO 3166 code as written: two capitals, and a part of the country behind a hyphen ("DE", "US-CA"). Residency compares
// these as text, so another spelling would silently match nothing.
bool good_country(const std::string& text);
inline constexpr const char* kCountryWanted = "'; a country is its two-letter code in capitals, such as DE or US-CA (ISO 3166)";
// "listen", "models[0].kv_cache" -> "LISTEN", "MODELS_0_KV_CACHE".
std::string capitals(const std::string& path);

}  // namespace tokenworks::config
