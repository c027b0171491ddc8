#include "formats/hub.hpp"

#include "http_server.hpp"
#include "support.hpp"

namespace tokenworks::formats {
namespace {

const std::string kCommit(40, 'c');

std::string sha(const std::string& bytes) { return hex(sha256(bytes)); }

// The Hub as pull meets it: small files answered directly with a git blob hash, large ones (*.safetensors, *.gguf) by a
// redirect to a content server on another origin.
class FakeHub {
 public:
  std::map<std::string, std::string> files;
  std::string token_needed;
  HttpServer content{[this](const HttpRequest& r) {
    for (const auto& [name, bytes] : files) {
      if (r.target == "/" + sha(bytes)) return serve(r, bytes, sha(bytes));
    }
    return http("404 Not Found");
  }};
  HttpServer api{[this](const HttpRequest& r) { return answer(r); }};

 private:
  std::string answer(const HttpRequest& r) {
    if (!token_needed.empty() && r.header("authorization") != "Bearer " + token_needed) return http("401 Unauthorized");
    for (const std::string rev : {"main", "v1.0", "refs%2Fpr%2F1", kCommit.c_str()}) {
      if (r.target == "/api/models/org/model/revision/" + rev) {
        nlohmann::json listing = {{"sha", kCommit}, {"siblings", nlohmann::json::array()}};
        for (const auto& [name, bytes] : files) listing["siblings"].push_back({{"rfilename", name}});
        listing["siblings"].push_back({{"rfilename", "../../../evil.gguf"}});
        return http("200 OK", {"Content-Type: application/json"}, listing.dump());
      }
      for (const auto& [name, bytes] : files) {
        if (r.target != "/org/model/resolve/" + rev + "/" + name) continue;
        const std::string commit = "X-Repo-Commit: " + kCommit;
        if (name.ends_with(".gguf") || name.ends_with(".safetensors")) {
          return http("302 Found",
                      {commit, "X-Linked-Etag: \"" + sha(bytes) + "\"",
                       "X-Linked-Size: " + std::to_string(bytes.size()), "Location: " + content.url("/" + sha(bytes))});
        }
        std::string out =
            serve(r, bytes, git_hashes.contains(name) ? git_hashes[name] : "tag-" + sha(bytes).substr(0, 12));
        return out.replace(out.find("\r\n"), 2, "\r\n" + commit + "\r\n");
      }
    }
    return http("404 Not Found", {"X-Error-Code: EntryNotFound"});
  }

 public:
  std::map<std::string, std::string> git_hashes;
};

class HubPulls : public testing::Test {
 protected:
  HubPulls() {
    for (const char* name : {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}) unsetenv(name);
    environment_.endpoint = hub_.api.url();
    environment_.cache = scratch_.path() + "/hub";
  }
  Result<Pulled> get(const std::string& source, const std::string& sha256 = "") {
    return pull({.source = source, .sha256 = sha256, .attempts = 2, .retry_delay_ms = 1}, environment_);
  }
  std::string base() const { return environment_.cache + "/models--org--model"; }

  test::ScratchDir scratch_;
  FakeHub hub_;
  HubEnvironment environment_;
};

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(HubPulls, AFileLandsInTheCacheAsHuggingfaceHubLaysItOut) {
  hub_.files["sub/m.gguf"] = "weights";
  const auto got = get("hf:org/model@v1.0:sub/m.gguf");
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->path, base() + "/snapshots/" + kCommit + "/sub/m.gguf");
  EXPECT_EQ(got->revision, kCommit);
  EXPECT_EQ(read_file(got->path), "weights");
  EXPECT_EQ(std::filesystem::read_symlink(got->path), "../../../blobs/" + sha("weights"));
  EXPECT_EQ(read_file(base() + "/blobs/" + sha("weights")), "weights");
  EXPECT_EQ(read_file(base() + "/refs/v1.0"), kCommit);
  EXPECT_EQ(get("hf:org/model@v1.0:sub/m.gguf")->bytes_fetched, 0u);
  environment_.offline = true;
  EXPECT_EQ(get("hf:org/model@v1.0:sub/m.gguf")->path, got->path);
  EXPECT_EQ(get("hf:org/model@v1.0")->path, got->path);
  EXPECT_SAYS(get("hf:org/model@v2.0:sub/m.gguf").error().message, "HF_HUB_OFFLINE");
  EXPECT_SAYS(get("hf:org/model@v1.0:other.gguf").error().message, "HF_HUB_OFFLINE");
}

TEST_F(HubPulls, AModelFolderComesWithItsShardsAndNothingElse) {
  for (const auto& entry : std::filesystem::directory_iterator(tiny("mistral/hf"))) {
    hub_.files[entry.path().filename().string()] = read_file(entry.path().string());
  }
  hub_.files["README.md"] = "about";
  hub_.files["consolidated.safetensors"] = "the same weights in another order";
  hub_.files["original/params.json"] = "{}";
  const auto got = get("hf:org/model");
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->path, base() + "/snapshots/" + kCommit);
  EXPECT_FALSE(std::filesystem::exists(got->path + "/README.md"));
  EXPECT_FALSE(std::filesystem::exists(got->path + "/consolidated.safetensors"));
  const auto model = open_model(got->path), original = open_model(tiny("mistral/hf"));
  ASSERT_TRUE(model && original);
  EXPECT_EQ(model_digest(*model), model_digest(*original));
  EXPECT_EQ(get("hf:org/model@refs/pr/1")->bytes_fetched, 0u);     // the same commit under another name
}

TEST_F(HubPulls, SeveralGgufFilesAreAskedFor) {
  hub_.files["q4.gguf"] = "4";
  EXPECT_EQ(read_file(get("hf:org/model")->path), "4");
  hub_.files["q8.gguf"] = "8";
  const auto several = get("hf:org/model");
  EXPECT_EQ(several.error().code, Errc::invalid_request);
  EXPECT_SAYS(several.error().message, "hf:org/model:q4.gguf\n  hf:org/model:q8.gguf");
  EXPECT_EQ(several.error().message.find("evil"), std::string::npos);
  hub_.files = {{"pytorch_model.bin", "pickle"}};
  EXPECT_SAYS(get("hf:org/model").error().message, "neither a GGUF file nor config.json with safetensors");
}

TEST_F(HubPulls, TheTokenGoesToTheEndpointAndNowhereElse) {
  hub_.files["m.gguf"] = std::string(100000, 'w');
  hub_.token_needed = environment_.token = "hf_secret";
  ASSERT_TRUE(get("hf:org/model:m.gguf"));
  int with_token = 0;
  for (const auto& r : hub_.api.requests()) with_token += r.header("authorization") == "Bearer hf_secret";
  EXPECT_EQ(with_token, static_cast<int>(hub_.api.requests().size()));
  ASSERT_FALSE(hub_.content.requests().empty());
  for (const auto& r : hub_.content.requests()) EXPECT_EQ(r.head.find("hf_secret"), std::string::npos) << r.head;
  hub_.content.forget();
  environment_.downloads = scratch_.path() + "/downloads";
  ASSERT_TRUE(get(hub_.content.url("/" + sha(hub_.files["m.gguf"]))));        // a URL elsewhere
  for (const auto& r : hub_.content.requests()) EXPECT_EQ(r.head.find("hf_secret"), std::string::npos) << r.head;
}

TEST_F(HubPulls, WhatTheHubRefusesIsExplained) {
  hub_.files["m.gguf"] = "w";
  EXPECT_EQ(get("hf:org/model:none.gguf").error().code, Errc::not_found);
  EXPECT_SAYS(get("hf:org/model@nope").error().message, "org/model at revision nope");
  hub_.token_needed = "hf_right";
  EXPECT_SAYS(get("hf:org/model").error().message, "set HF_TOKEN");
  environment_.token = "hf_wrong";
  const auto refused = get("hf:org/model");
  EXPECT_EQ(refused.error().code, Errc::insufficient_permissions);
  EXPECT_SAYS(refused.error().message, "the token has no access");
}

TEST_F(HubPulls, ABlobMustBeWhatItsNameSays) {
  hub_.files["m.gguf"] = "right";
  EXPECT_SAYS(get("hf:org/model:m.gguf", sha("other")).error().message, "the Hub has sha256");
  ASSERT_TRUE(get("hf:org/model:m.gguf", sha("right")));
  hub_.files["config.json"] = "{}";
  hub_.git_hashes["config.json"] = "9e26dfeeb6e641a33dae4961196235bdb965b21b";        // git hash-object of "{}"
  EXPECT_TRUE(get("hf:org/model:config.json"));
  hub_.files["tokenizer.json"] = "{ }";
  hub_.git_hashes["tokenizer.json"] = "9e26dfeeb6e641a33dae4961196235bdb965b21c";
  EXPECT_SAYS(get("hf:org/model:tokenizer.json").error().message, "git blob hash");
}

TEST_F(HubPulls, SourcesThatAreNoneSayHowToWriteOne) {
  for (const char* source :
       {"hf:", "hf:org/model/deeper", "hf:../x", "hf:org/..", "hf:org/model:../../etc/passwd",
        "hf:org/model:", "hf:org/model@", "hf:org/model@../..", "hf:org/mo del", "hf:org/model:/abs"}) {
    const auto got = get(source);
    ASSERT_FALSE(got) << source;
    EXPECT_EQ(got.error().code, Errc::invalid_request) << source;
    EXPECT_SAYS(got.error().message, "write hf:org/repo");
  }
  EXPECT_TRUE(hub_.api.requests().empty());
  const auto parsed = parse_hub_source("hf:gpt2@refs/pr/7:onnx/a.gguf");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->repository, "gpt2");
  EXPECT_EQ(parsed->revision, "refs/pr/7");
  EXPECT_EQ(parsed->file, "onnx/a.gguf");
}

}  // namespace
}  // namespace tokenworks::formats
