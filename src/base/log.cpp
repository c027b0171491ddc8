#include "tokenworks/base/log.hpp"

#include "tokenworks/base/log_level.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cmath>

namespace tokenworks::log {
namespace {

std::atomic<Level> g_least{Level::info};
std::atomic<bool> g_json{true};

spdlog::logger& sink() {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>("tokenworks", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

constexpr const char* kNames[] = {"debug", "info", "warn", "error"};

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void append_value(std::string& out, const Field& field, bool json) {
  if (const auto* i = std::get_if<std::int64_t>(&field.value)) out += std::to_string(*i);
  if (const auto* b = std::get_if<bool>(&field.value)) out += *b ? "true" : "false";
  if (const auto* d = std::get_if<double>(&field.value)) out += std::isfinite(*d) ? fmt::format("{:.6g}", *d) : "null";
  if (const auto* s = std::get_if<std::string>(&field.value)) {
    if (json || s->find_first_of(" \"\n\t=") != std::string::npos) {
      append_json_string(out, *s);
    } else {
      out += *s;
    }
  }
}

}  // namespace

void configure(Level least, bool json) {
  g_least = least;
  g_json = json;
}

bool writes(Level level) { return level >= g_least.load(std::memory_order_relaxed); }

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (!writes(level)) return;
  const bool json = g_json.load(std::memory_order_relaxed);
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  const std::string time = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                                       utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms);
  std::string line;
  if (json) {
    line = fmt::format(R"({{"time":"{}","level":"{}","event":)", time, kNames[static_cast<int>(level)]);
    append_json_string(line, event);
    for (const Field& field : fields) {
      line += ',';
      append_json_string(line, field.key);
      line += ':';
      append_value(line, field, true);
    }
    line += '}';
  } else {
    line = fmt::format("{} {:5} {}", time, kNames[static_cast<int>(level)], event);
    for (const Field& field : fields) {
      line += ' ';
      line += field.key;
      line += '=';
      append_value(line, field, false);
    }
  }
  sink().log(spdlog::level::info, "{}", line);
  sink().flush();
}

}  // namespace tokenworks::log
