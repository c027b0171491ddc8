#pragma once
// What a benchmark found, one line of JSON a measurement, written and flushed as it is made: whatever ends the program, the
// numbers before it are there. tests/gpu/run makes the table. One thread.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace tokenworks::gpu {

class Report {
 public:
  explicit Report(const char* path) : file_(std::fopen(path, "a")) {}
  ~Report() {
    if (file_ != nullptr) std::fclose(file_);
  }
  bool open() const { return file_ != nullptr; }

  using Numbers = std::vector<std::pair<std::string, double>>;
  void add(const std::string& section, const std::string& name, const Numbers& numbers) {
    std::string line = "{\"section\": \"" + section + "\", \"name\": \"" + name + "\"";
    for (const auto& [key, value] : numbers) {
      char text[64];
      std::snprintf(text, sizeof text, ", \"%s\": %.6g", key.c_str(), value);
      line += text;
    }
    write(line + "}\n");
  }
  void failed(const std::string& section, const std::string& name, const std::string& why) {
    std::string clean;
    for (const char c : why) clean += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32 ? ' ' : c;
    write("{\"section\": \"" + section + "\", \"name\": \"" + name + "\", \"failed\": \"" + clean + "\"}\n");
  }

 private:
  void write(const std::string& line) {
    std::fputs(line.c_str(), file_);
    std::fflush(file_);
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  }
  std::FILE* file_;
};

}  // namespace tokenworks::gpu
