#pragma once
// The Hugging Face Hub as `pull` sees it: how a source is written, what a repository holds, and the cache layout
// models--org--name/{blobs,refs,snapshots} that huggingface_hub shares (its docs: "Understand caching").
#include <optional>
#include <string>
#include <vector>

#include "formats/fetch.hpp"
#include "tokenworks/formats/pull.hpp"

namespace tokenworks::formats {

struct HubSource {
  std::string repository;                            // "org/name" or "name"
  std::string revision = "main";
  std::string file;                                  // "": the whole model
};
// "hf:org/repo[@revision][:file]".
Result<HubSource> parse_hub_source(const std::string& text);

// A relative path without empty, "." or ".." parts: what a server may name as a file.
bool is_plain_path(const std::string& path);

// What the Hub says about one file.
struct HubFile {
  std::string commit, etag, url;
  std::uint64_t size = 0;
};

class Hub {
 public:
  Hub(const HubEnvironment& environment, Fetcher& fetcher) : environment_(environment), fetcher_(fetcher) {}

  struct Listing {
    std::string commit;
    std::vector<std::string> files;
  };
  Result<Listing> list(const HubSource& source);
  Result<HubFile> look_up(const HubSource& source, const std::string& revision, const std::string& file);

 private:
  Error refused(const HubSource& source, const HttpAnswer& answer) const;

  const HubEnvironment& environment_;
  Fetcher& fetcher_;
};

// Which files of a listing make up the model: config.json, weights (an index's shards are read later), tokenizer and
// template; or the only GGUF file. An error names the choices.
Result<std::vector<std::string>> model_files(const HubSource& source, const std::vector<std::string>& listing);

// Paths inside the cache, and the links that make a blob a file of a snapshot.
class HubCache {
 public:
  HubCache(const std::string& root, const std::string& repository);
  std::string blob(const std::string& etag) const { return base_ + "/blobs/" + etag; }
  std::string snapshot(const std::string& commit) const { return base_ + "/snapshots/" + commit; }
  Result<> link(const std::string& commit, const std::string& file, const std::string& etag) const;
  Result<> write_ref(const std::string& revision, const std::string& commit) const;
  std::optional<std::string> read_ref(const std::string& revision) const;   // a full commit stands for itself

 private:
  std::string base_;
};

}  // namespace tokenworks::formats
