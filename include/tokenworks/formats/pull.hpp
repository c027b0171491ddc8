#pragma once
// pull: brings a model from the Hugging Face Hub, a URL or a path to this disk, whole and verified. Downloads resume by
// Range, live under a temporary name until their hash is right, and land in the Hub's own cache layout
// (models--org--name/{blobs,refs,snapshots}), so other tools find them. The access token goes to the endpoint's host
// and to no other, also across redirects. Blocking; call it from a CLI or a worker thread, one pull per object.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::formats {

// What huggingface_hub reads from the environment: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH,
// HF_HUB_OFFLINE. Proxies (https_proxy, ...) are libcurl's own business.
struct HubEnvironment {
  std::string endpoint = "https://huggingface.co";
  std::string cache;                                 // .../hub
  std::string token;                                 // "" when there is none
  std::string downloads;                             // where URL sources go: $XDG_CACHE_HOME/tokenworks/models
  bool offline = false;
  static HubEnvironment from_environment();
};

struct PullRequest {
  std::string source;                                // hf:org/repo[@revision][:file], http(s)://..., or a local path
  std::string sha256;  // expected hash, 64 hex digits, of the one file pulled; "" for none
  std::string output;                                // URL only: file or folder to write; "": HubEnvironment::downloads
  int attempts = 5;                                  // per file; a retry goes on where the last attempt stopped
  int retry_delay_ms = 500;                          // doubled after each failed attempt
};

struct PullProgress {
  std::string file;                                  // the file being fetched
  std::uint64_t bytes = 0, total = 0;                // of this file; total 0: the server did not say
  double bytes_per_second = 0;                       // over what this run fetched, not what a resume found
  double seconds_left = -1;                          // -1: unknown
  std::size_t index = 0, count = 1;                  // file `index` of `count`
};
// Called at most ten times a second and at the end of each file. Returning false stops the pull (Errc::cancelled); what
// was fetched stays for the next run to resume.
using OnProgress = std::function<bool(const PullProgress&)>;

struct Pulled {
  std::string path;                                  // what ModelFile::open takes: a .gguf file or a folder
  std::vector<std::string> files;                    // every file, as a path
  std::uint64_t bytes_fetched = 0;                   // 0: everything was here already
  std::string revision;                              // the commit, for a Hub source
};

// Errors: invalid_request (a source that is none, a repository with several GGUF files and none named, plain http to
// another machine), not_found (404), insufficient_permissions (401, 403), bad_file (hash mismatch), io (network, disk).
Result<Pulled> pull(const PullRequest& request, const HubEnvironment& environment, const OnProgress& on_progress = {});

// "model.gguf  45.2 MB of 98.4 MB  46 %  12.3 MB/s  4 s left", for a terminal line.
std::string format_progress(const PullProgress& progress);

}  // namespace tokenworks::formats
