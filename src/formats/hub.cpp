#include "formats/hub.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "formats/download.hpp"
#include "formats/json.hpp"
#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kListingBytesMax = 64 << 20;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool all_of(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}
constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
constexpr std::string_view kHexDigits = "0123456789abcdef";

bool is_commit(std::string_view text) { return text.size() == 40 && all_of(text, kHexDigits); }

std::string unquoted(std::string tag) {
  if (tag.starts_with("W/")) tag.erase(0, 2);
  if (tag.size() >= 2 && tag.front() == '"' && tag.back() == '"') tag = tag.substr(1, tag.size() - 2);
  return tag;
}

std::string encoded_path(const std::string& path) {
  std::string out;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    out += (at == 0 ? "" : "/") + url_encode(std::string_view(path).substr(at, slash - at));
    at = slash + 1;
  }
  return out;
}

}  // namespace

HubEnvironment HubEnvironment::from_environment() {
  HubEnvironment e;
  if (const std::string v = variable("HF_ENDPOINT"); !v.empty()) e.endpoint = v;
  while (e.endpoint.ends_with('/')) e.endpoint.pop_back();
  const std::string cache_home =
      variable("XDG_CACHE_HOME").empty() ? variable("HOME") + "/.cache" : variable("XDG_CACHE_HOME");
  const std::string home = variable("HF_HOME").empty() ? cache_home + "/huggingface" : variable("HF_HOME");
  e.cache = variable("HF_HUB_CACHE").empty() ? home + "/hub" : variable("HF_HUB_CACHE");
  e.downloads =
      (variable("TOKENWORKS_CACHE").empty() ? cache_home + "/tokenworks" : variable("TOKENWORKS_CACHE")) + "/models";
  e.token = variable("HF_TOKEN");
  if (e.token.empty()) {
    std::ifstream in(variable("HF_TOKEN_PATH").empty() ? home + "/token" : variable("HF_TOKEN_PATH"));
    std::getline(in, e.token);
  }
  std::erase_if(e.token, [](char c) { return c == '\r' || c == '\n' || c == ' ' || c == '\t'; });
  std::string offline = variable("HF_HUB_OFFLINE");
  std::ranges::transform(offline, offline.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  e.offline = offline == "1" || offline == "TRUE" || offline == "YES" || offline == "ON";
  return e;
}

Result<HubSource> parse_hub_source(const std::string& text) {
  const auto refuse = [&](const std::string& why) {
    return error(Errc::invalid_request,
                 shown(text) + " " + why + "; write hf:org/repo, hf:org/repo@revision or hf:org/repo:file.gguf");
  };
  std::string rest = text.starts_with("hf:") ? text.substr(3) : text;
  HubSource source;
  if (const std::size_t colon = rest.find(':'); colon != std::string::npos) {
    source.file = rest.substr(colon + 1);
    rest.resize(colon);
    if (!is_plain_path(source.file)) return refuse("names no file behind the colon");
  }
  if (const std::size_t at = rest.find('@'); at != std::string::npos) {
    source.revision = rest.substr(at + 1);
    rest.resize(at);
    if (!is_plain_path(source.revision)) return refuse("names no revision behind the @");
  }
  source.repository = rest;
  const std::size_t slash = rest.find('/');
  const std::string first = rest.substr(0, slash), second = slash == std::string::npos ? first : rest.substr(slash + 1);
  const auto is_name = [](const std::string& s) {
    return all_of(s, kNameCharacters) && !s.starts_with('.') && s.size() <= 96 && s.find("--") == std::string::npos &&
           s.find("..") == std::string::npos;
  };
  if (!is_name(first) || !is_name(second)) return refuse("is not a repository of the Hub");
  return source;
}

bool is_plain_path(const std::string& path) {
  if (path.empty() || path.size() > 1024) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\') return false;
  }
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = std::string_view(path).substr(at, slash - at);
    if (part.empty() || part == "." || part == "..") return false;
    at = slash + 1;
  }
  return true;
}

Error Hub::refused(const HubSource& source, const HttpAnswer& answer) const {
  Error e = refusal(answer, !environment_.token.empty());
  if (e.code == Errc::not_found) {
    e.message += " (" + source.repository + " at revision " + source.revision +
                 (source.file.empty() ? ")" : ", file " + source.file + ")");
  }
  return e;
}

Result<Hub::Listing> Hub::list(const HubSource& source) {
  const std::string url = environment_.endpoint + "/api/models/" + encoded_path(source.repository) + "/revision/" +
                          url_encode(source.revision);
  auto answer = fetcher_.text(url, kListingBytesMax);
  if (!answer) return answer.error();
  if (answer->status != 200) return refused(source, *answer);
  auto json = parse_json(answer->body, url);
  if (!json) return error(Errc::io, json.error().message);
  const Json& j = **json;
  Listing out;
  const auto sha = j.is_object() ? j.find("sha") : j.end();
  const auto siblings = j.is_object() ? j.find("siblings") : j.end();
  if (sha == j.end() || siblings == j.end() || !sha->is_string() || !siblings->is_array() ||
      !is_commit(sha->get<std::string>())) {
    return error(Errc::io, url + ": the answer is not a Hub listing (is HF_ENDPOINT right?)");
  }
  out.commit = sha->get<std::string>();
  for (const Json& file : *siblings) {
    const auto name = file.is_object() ? file.value("rfilename", Json()) : Json();
    if (name.is_string() && is_plain_path(name.get<std::string>())) out.files.push_back(name.get<std::string>());
  }
  return out;
}

Result<HubFile> Hub::look_up(const HubSource& source, const std::string& revision, const std::string& file) {
  HubFile out;
  out.url = environment_.endpoint + "/" + encoded_path(source.repository) + "/resolve/" + url_encode(revision) + "/" +
            encoded_path(file);
  auto answer = fetcher_.head(out.url);
  if (!answer) return answer.error();
  if (answer->status / 100 != 2 && answer->status / 100 != 3) {
    HubSource named = source;
    named.file = file;
    return refused(named, *answer);
  }
  out.commit = answer->header("x-repo-commit");
  const std::string linked = answer->header("x-linked-etag"), size = answer->header("x-linked-size");
  out.etag = unquoted(linked.empty() ? answer->header("etag") : linked);
  const std::string length = !size.empty()                                 ? size
                             : linked.empty() && answer->status / 100 == 2 ? answer->header("content-length")
                                                                           : "";
  if (all_of(length, "0123456789") && length.size() < 19) out.size = std::stoull(length);
  if (!is_commit(out.commit) || !all_of(out.etag, kNameCharacters) || out.etag.starts_with('.') ||
      out.etag.size() > 128) {
    return error(Errc::io,
                 out.url + ": the answer has no X-Repo-Commit and ETag as the Hub sends them (is HF_ENDPOINT right?)");
  }
  return out;
}

Result<std::vector<std::string>> model_files(const HubSource& source, const std::vector<std::string>& listing) {
  const auto has = [&](std::string_view name) { return std::ranges::find(listing, name) != listing.end(); };
  const auto ending = [&](std::string_view end, bool top_only) {
    std::vector<std::string> out;
    for (const std::string& f : listing) {
      if (f.ends_with(end) && (!top_only || f.find('/') == std::string::npos)) out.push_back(f);
    }
    return out;
  };
  const std::string where = "hf:" + source.repository + ": ";
  if (has("config.json") && !ending(".safetensors", true).empty()) {
    std::vector<std::string> files = {"config.json"};
    for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                             "special_tokens_map.json", "chat_template.jinja"}) {
      if (has(name)) files.push_back(name);
    }
    if (has("model.safetensors.index.json")) {
      files.push_back("model.safetensors.index.json");             // its shards follow once it is here
    } else if (has("model.safetensors")) {
      files.push_back("model.safetensors");
    } else if (const auto weights = ending(".safetensors", true); weights.size() == 1) {
      files.push_back(weights.front());
    } else {
      return error(Errc::invalid_request, where + "has several safetensors files and no model.safetensors.index.json");
    }
    return files;
  }
  const auto ggufs = ending(".gguf", false);
  if (ggufs.size() == 1) return ggufs;
  if (ggufs.empty()) {
    return error(Errc::invalid_request, where + "has neither a GGUF file nor config.json with safetensors");
  }
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(ggufs.size(), 40); ++i) {
    names += "\n  hf:" + source.repository + ":" + ggufs[i];
  }
  return error(Errc::invalid_request, where + "has several GGUF files; name one of them:" + names);
}

HubCache::HubCache(const std::string& root, const std::string& repository) {
  std::string name = repository;
  if (const std::size_t slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
  base_ = root + "/models--" + name;
}

Result<> HubCache::link(const std::string& commit, const std::string& file, const std::string& etag) const {
  const std::string path = snapshot(commit) + "/" + file;
  std::string target = "../../blobs/" + etag;
  for (const char c : file) target = (c == '/' ? "../" : "") + target;
  std::error_code ec;
  if (fs::read_symlink(path, ec) == target) return {};
  if (auto ok = make_folders(fs::path(path).parent_path().string()); !ok) return ok;
  const std::string temporary = path + ".link";
  fs::remove(temporary, ec);
  fs::create_symlink(target, temporary, ec);
  if (!ec) fs::rename(temporary, path, ec);
  if (ec) return error(Errc::io, path + ": cannot link: " + ec.message());
  return {};
}

Result<> HubCache::write_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit || read_ref(revision) == commit) return {};
  const std::string path = base_ + "/refs/" + revision, temporary = path + ".new";
  if (auto ok = make_folders(fs::path(path).parent_path().string()); !ok) return ok;
  std::ofstream(temporary, std::ios::binary) << commit;
  std::error_code ec;
  fs::rename(temporary, path, ec);
  if (ec) return error(Errc::io, path + ": cannot write: " + ec.message());
  return {};
}

std::optional<std::string> HubCache::read_ref(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  std::ifstream in(base_ + "/refs/" + revision, std::ios::binary);
  std::string commit;
  std::getline(in, commit);
  return is_commit(commit) ? std::optional(commit) : std::nullopt;
}

}  // namespace tokenworks::formats
