#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "commands.hpp"
#include "control.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, url, key_file, authorities, model = "default", message;
  std::int64_t max_tokens = 256;
  std::optional<double> temperature;
  bool json = false;
} flags;

// Splits a body that arrives in pieces into its SSE data lines.
class Events {
 public:
  explicit Events(std::function<void(const std::string&)> on_data) : on_data_(std::move(on_data)) {}
  void push(std::string_view piece) {
    held_ += piece;
    for (std::size_t end; (end = held_.find('\n')) != std::string::npos; held_.erase(0, end + 1)) {
      if (held_.starts_with("data: ")) on_data_(held_.substr(6, end - 6));
    }
  }

 private:
  std::function<void(const std::string&)> on_data_;
  std::string held_;
};

std::string find_url() {
  if (!flags.url.empty()) return flags.url;
  config::Config c;
  int code = app::kOk;
  if (flags.config.empty() || !load_config(flags.config, c, code)) return {};
  std::ifstream file(c.plant.data_dir + "/endpoints.json");
  const auto j = nlohmann::json::parse(file, nullptr, false);
  if (!j.is_object() || !j.contains("api") || j["api"].empty()) return {};
  return j["api"][0].get<std::string>();
}

// Secrets come from a file or the environment, never from a flag: flags show in the process list.
std::string find_key() {
  if (!flags.key_file.empty()) {
    std::ifstream file(flags.key_file);
    std::string key;
    file >> key;
    return key;
  }
  const char* key = std::getenv("TOKENWORKS_API_KEY");
  if (key == nullptr) key = std::getenv("OPENAI_API_KEY");
  return key == nullptr ? "" : key;
}

int chat() {
  const std::string url = find_url();
  if (url.empty()) {
    std::fprintf(stderr, "tokenworks: no running daemon found; give --url http://host:port or --config FILE of a running plant\n");
    return app::kUnreachable;
  }
  const std::string key = find_key();
  if (key.empty()) {
    if (flags.key_file.empty()) {
      std::fprintf(stderr, "tokenworks: no API key; give --key-file FILE or set TOKENWORKS_API_KEY\n");
    } else {
      std::fprintf(stderr, "tokenworks: %s cannot be read, or holds no API key\n", flags.key_file.c_str());
    }
    return app::kBadUsage;
  }
  std::string message = flags.message;
  if (message == "-" || message.empty()) {
    std::stringstream all;
    if (FILE* in = stdin) {
      char buffer[4096];
      for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, in)) > 0;) all.write(buffer, static_cast<std::streamsize>(got));
    }
    message = all.str();
  }
  if (message.empty()) {                             // an empty pipe is a script's mistake, and the answer would cost something
    std::fprintf(stderr, "tokenworks: nothing to say: the message is empty\n");
    return app::kBadUsage;
  }
  nlohmann::json body{{"model", flags.model}, {"stream", true}, {"stream_options", {{"include_usage", true}}},
                      {"max_tokens", flags.max_tokens}, {"messages", {{{"role", "user"}, {"content", message}}}}};
  if (flags.temperature) body["temperature"] = *flags.temperature;   // the daemon says what it refuses
  std::string usage, failure;
  Events events([&](const std::string& data) {
    const auto j = nlohmann::json::parse(data, nullptr, false);
    if (!j.is_object()) return;
    if (j.contains("error")) failure = j["error"].value("message", "the answer broke off");
    if (j.contains("usage") && j["usage"].is_object()) usage = data;
    if (flags.json || !j.contains("choices")) return;
    for (const auto& choice : j["choices"]) {
      const auto& delta = choice.at("delta");
      if (delta.contains("content") && delta["content"].is_string()) {
        std::fputs(delta["content"].get<std::string>().c_str(), stdout);
        std::fflush(stdout);
      }
    }
  });
  auto reply = http_request("POST", url + "/v1/chat/completions", body.dump(), {}, key,
                            [&](std::string_view piece) { events.push(piece); }, flags.authorities);
  if (!reply) {
    fail(reply.error());
    return app::kUnreachable;
  }
  if (reply->status >= 400) {
    const auto j = nlohmann::json::parse(reply->body, nullptr, false);
    const bool told = j.is_object() && j.contains("error") && j["error"].contains("message");
    std::fprintf(stderr, "tokenworks: %d: %s\n", reply->status, told ? j["error"]["message"].get<std::string>().c_str() : "request refused");
    return app::kCheckFailed;
  }
  if (!failure.empty()) {
    std::fprintf(stderr, "\ntokenworks: %s\n", failure.c_str());
    return app::kCheckFailed;
  }
  std::printf("\n");
  if (flags.json) {
    std::printf("%s\n", usage.c_str());
    return app::kOk;
  }
  const auto j = nlohmann::json::parse(usage, nullptr, false);
  if (j.is_object()) {
    // The cost is cut from the text, so that no digit passes through a double.
    const std::size_t at = usage.find("\"cost\":");
    std::size_t from = at == std::string::npos ? std::string::npos : usage.find_first_not_of(" ", at + 7);
    const std::string cost = from == std::string::npos ? "?" : usage.substr(from, usage.find_first_of(",}", from) - from);
    std::fprintf(stderr, "[%lld tokens in, %lld out, cost %s, %s]\n", j["usage"].value("prompt_tokens", 0LL),
                 j["usage"].value("completion_tokens", 0LL), cost.c_str(),
                 j["usage"].contains("tokenworks") ? j["usage"]["tokenworks"].value("request_id", "").c_str()
                 : j.contains("tokenworks") ? j["tokenworks"].value("request_id", "").c_str() : "");
  }
  return app::kOk;
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("chat", "Ask a running plant one question and stream the answer");
  sub->add_option("message", flags.message, "What to say; - or nothing reads standard input");
  sub->add_option("--config", flags.config, "tokenworks.yaml of a plant running here");
  sub->add_option("--url", flags.url, "http://host:port of a plant anywhere");
  sub->add_option("--key-file", flags.key_file, "File that holds the API key (else TOKENWORKS_API_KEY, OPENAI_API_KEY)");
  sub->add_option("--cacert", flags.authorities, "PEM file of the authority that signed the server's certificate (else SSL_CERT_FILE)");
  sub->add_option("--model", flags.model, "Model or alias");
  sub->add_option("--max-tokens", flags.max_tokens, "Longest answer");
  sub->add_option("--temperature", flags.temperature, "0 takes the likeliest token each time (else the daemon's default, 1)");
  sub->add_flag("--json", flags.json, "Print the final chunk instead of the text");
  sub->callback([&action] { action = chat; });
}

}  // namespace tokenworks::cli
