#include "tokenworks/formats/pull.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "formats/download.hpp"
#include "formats/fetch.hpp"
#include "formats/hub.hpp"
#include "formats/json.hpp"
#include "formats/text.hpp"
#include "tokenworks/formats/inspect.hpp"

namespace tokenworks::formats {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code ec;
  return fs::exists(path, ec);
}

Result<> check_hash(const std::string& path, const std::string& sha256) {
  auto got = sha256_of_file(path);
  if (!got) return got.error();
  if (*got == sha256) return {};
  return error(Errc::bad_file, path + ": its sha256 is " + *got + ", expected was " + sha256);
}

Result<Pulled> pull_path(const PullRequest& request) {
  if (!exists(request.source)) {
    return error(Errc::not_found,
                 request.source + ": no such file or folder (a Hub model is written hf:org/repo[:file])");
  }
  std::error_code ec;
  if (!request.sha256.empty()) {
    if (fs::is_directory(request.source, ec)) {
      return error(Errc::invalid_request, request.source + ": a folder has no single sha256");
    }
    if (auto ok = check_hash(request.source, request.sha256); !ok) return ok.error();
  }
  return Pulled{.path = request.source, .files = {request.source}};
}

Result<Pulled> pull_url(const PullRequest& request, const HubEnvironment& environment, Fetcher& fetcher,
                        const OnProgress& on_progress) {
  std::error_code ec;
  const std::string name = last_path_segment(request.source);
  std::string target = request.output.empty() ? environment.downloads : request.output;
  if (request.output.empty() || request.output.ends_with('/') || fs::is_directory(request.output, ec)) {
    if (!is_plain_path(name)) {
      return error(Errc::invalid_request, shown(request.source) + " names no file; give the file to write as well");
    }
    target += "/" + name;
  }
  const bool here = exists(target);
  if (environment.offline) {
    if (!here) return error(Errc::io, target + ": is not here, and HF_HUB_OFFLINE forbids to fetch it");
    if (!request.sha256.empty()) {
      if (auto ok = check_hash(target, request.sha256); !ok) return ok.error();
    }
    return Pulled{.path = target, .files = {target}};
  }
  if (here && !request.sha256.empty() && check_hash(target, request.sha256)) {
    return Pulled{.path = target, .files = {target}};
  }
  if (here && request.sha256.empty()) {              // the same length: taken as the same file
    const auto head = fetcher.head(request.source);
    if (head && head->status == 200 && head->header("content-length") == std::to_string(fs::file_size(target, ec))) {
      return Pulled{.path = target, .files = {target}};
    }
  }
  const Download what{.url = request.source,
                      .target = target,
                      .shown = name.empty() ? target : name,
                      .sha256 = request.sha256,
                      .attempts = request.attempts,
                      .retry_delay_ms = request.retry_delay_ms};
  auto fetched = download_file(fetcher, what, on_progress);
  if (!fetched) return fetched.error();
  return Pulled{.path = target, .files = {target}, .bytes_fetched = *fetched};
}

class HubPull {
 public:
  HubPull(const PullRequest& request, const HubEnvironment& environment, HubSource source, Fetcher& fetcher,
          const OnProgress& on_progress)
      : request_(request),
        environment_(environment),
        source_(std::move(source)),
        fetcher_(fetcher),
        on_progress_(on_progress),
        hub_(environment, fetcher),
        cache_(environment.cache, source_.repository) {}

  Result<Pulled> run() {
    if (environment_.offline) return cached();
    return source_.file.empty() ? whole() : single();
  }

 private:
  Result<Pulled> single() {
    auto commit = fetch(source_.revision, source_.file, 0, 1);
    if (!commit) return commit.error();
    if (auto ok = cache_.write_ref(source_.revision, *commit); !ok) return ok.error();
    out_.revision = *commit;
    out_.path = out_.files.front();
    return out_;
  }

  Result<Pulled> whole() {
    auto listing = hub_.list(source_);
    if (!listing) return listing.error();
    auto files = model_files(source_, listing->files);
    if (!files) return files.error();
    if (!request_.sha256.empty() && files->size() > 1) {
      return error(Errc::invalid_request,
                   "hf:" + source_.repository + " is several files; a single sha256 fits only one named file");
    }
    for (std::size_t i = 0; i < files->size(); ++i) {
      const std::string name = (*files)[i];
      if (auto ok = fetch(listing->commit, name, i, files->size()); !ok) return ok.error();
      if (name == "model.safetensors.index.json") {
        auto shards = shards_of(out_.files.back());
        if (!shards) return shards.error();
        files->insert(files->end(), shards->begin(), shards->end());
      }
    }
    if (auto ok = cache_.write_ref(source_.revision, listing->commit); !ok) return ok.error();
    out_.revision = listing->commit;
    out_.path = files->size() == 1 ? out_.files.front() : cache_.snapshot(listing->commit);
    return out_;
  }

  static Result<std::set<std::string>> shards_of(const std::string& index) {
    auto text = read_text_file(index, 64 << 20);
    if (!text) return text.error();
    auto json = parse_json(text->value_or(""), index);
    if (!json) return json.error();
    std::set<std::string> shards;
    const auto map = (*json)->is_object() ? (*json)->value("weight_map", Json()) : Json();
    for (const auto& [tensor, file] : map.items()) {
      if (!file.is_string() || !is_plain_path(file.get<std::string>())) {
        return error(Errc::bad_file, index + ": tensor " + shown(tensor) + " is in no file");
      }
      shards.insert(file.get<std::string>());
    }
    if (shards.empty()) return error(Errc::bad_file, index + ": has no weight_map");
    return shards;
  }

  // Brings one file into the cache and notes its path; returns the commit it belongs to.
  Result<std::string> fetch(const std::string& revision, const std::string& name, std::size_t index,
                            std::size_t count) {
    auto file = hub_.look_up(source_, revision, name);
    if (!file) return file.error();
    const std::string blob = cache_.blob(file->etag);
    Download what{.url = file->url,
                  .target = blob,
                  .shown = name,
                  .size = file->size,
                  .immutable = true,
                  .index = index,
                  .count = count,
                  .attempts = request_.attempts,
                  .retry_delay_ms = request_.retry_delay_ms};
    if (file->etag.size() == 64) what.sha256 = file->etag;         // LFS: the tag is the hash
    if (file->etag.size() == 40) what.git_sha1 = file->etag;
    if (!request_.sha256.empty()) {
      if (!what.sha256.empty() && what.sha256 != request_.sha256) {
        return error(Errc::bad_file,
                     name + ": the Hub has sha256 " + what.sha256 + ", expected was " + request_.sha256);
      }
      what.sha256 = request_.sha256;
    }
    if (!exists(blob)) {
      auto fetched = download_file(fetcher_, what, on_progress_);
      if (!fetched) return fetched.error();
      out_.bytes_fetched += *fetched;
    } else if (!request_.sha256.empty()) {
      if (auto ok = check_hash(blob, request_.sha256); !ok) return ok.error();
    }
    if (auto ok = cache_.link(file->commit, name, file->etag); !ok) return ok.error();
    out_.files.push_back(cache_.snapshot(file->commit) + "/" + name);
    return file->commit;
  }

  Result<Pulled> cached() {
    const auto missing = [&] {
      return error(Errc::not_found,
                   request_.source + ": is not in " + environment_.cache + ", and HF_HUB_OFFLINE forbids to fetch it");
    };
    const auto commit = cache_.read_ref(source_.revision);
    if (!commit) return missing();
    out_.revision = *commit;
    out_.path = cache_.snapshot(*commit);
    std::vector<std::string> ggufs;
    if (!source_.file.empty()) {
      out_.path += "/" + source_.file;
    } else if (!exists(out_.path + "/config.json")) {              // a snapshot of one GGUF file
      std::error_code ec;
      for (auto it = fs::recursive_directory_iterator(out_.path, ec); !ec && it != fs::recursive_directory_iterator();
           it.increment(ec)) {
        if (it->path().extension() == ".gguf") ggufs.push_back(it->path().string());
      }
      if (ggufs.size() != 1) return missing();
      out_.path = ggufs.front();
    }
    if (!exists(out_.path)) return missing();
    if (!request_.sha256.empty()) {
      if (auto ok = check_hash(out_.path, request_.sha256); !ok) return ok.error();
    }
    out_.files = {out_.path};
    return out_;
  }

  const PullRequest& request_;
  const HubEnvironment& environment_;
  const HubSource source_;
  Fetcher& fetcher_;
  const OnProgress& on_progress_;
  Hub hub_;
  HubCache cache_;
  Pulled out_;
};

}  // namespace

Result<Pulled> pull(const PullRequest& wanted, const HubEnvironment& environment, const OnProgress& on_progress) {
  PullRequest request = wanted;
  std::ranges::transform(request.sha256, request.sha256.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!request.sha256.empty() &&
      (request.sha256.size() != 64 || request.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)) {
    return error(Errc::invalid_request, shown(request.sha256) + " is not a sha256 of 64 hex digits");
  }
  const bool hub = request.source.starts_with("hf:"), url = !hub && request.source.find("://") != std::string::npos;
  if (!url && !request.output.empty()) {             // else a file would be missing that somebody counts on
    return error(Errc::invalid_request,
                 std::string(hub ? "a model of the Hub goes into the Hub's cache" : "a path is used where it is") +
                     "; --output is for URLs",
                 "output");
  }
  Fetcher fetcher(environment.endpoint, environment.token);
  if (hub) {
    auto source = parse_hub_source(request.source);
    if (!source) return source.error();
    return HubPull(request, environment, std::move(*source), fetcher, on_progress).run();
  }
  if (url) return pull_url(request, environment, fetcher, on_progress);
  return pull_path(request);
}

std::string format_progress(const PullProgress& p) {
  std::string out = p.count > 1 ? fmt::format("[{}/{}] {}", p.index + 1, p.count, p.file) : p.file;
  out += "  " + format_bytes(p.bytes);
  if (p.total > 0) {
    out +=
        fmt::format(" of {}  {:.0f} %", format_bytes(p.total),
                    std::min(100.0, std::floor(100.0 * static_cast<double>(p.bytes) / static_cast<double>(p.total))));
  }
  if (p.bytes_per_second > 0) {
    out += fmt::format("  {}/s", format_bytes(static_cast<std::uint64_t>(p.bytes_per_second)));
  }
  if (p.total > p.bytes && p.seconds_left >= 0) {
    const auto left = static_cast<std::int64_t>(std::min(p.seconds_left + 0.5, 359999.0));
    if (left >= 3600) {
      out += fmt::format("  {} h {} min left", left / 3600, left / 60 % 60);
    } else if (left >= 60) {
      out += fmt::format("  {} min {} s left", left / 60, left % 60);
    } else {
      out += fmt::format("  {} s left", left);
    }
  }
  return out;
}

}  // namespace tokenworks::formats
