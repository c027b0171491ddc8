#pragma once
// Where tests find what scripts made: the demo model, reference expectations, a scratch folder. The variables are set by
// tests/run; the defaults are the same places, so that a test binary also runs by hand.
#include <cstdlib>
#include <filesystem>
#include <string>

namespace tokenworks::test {

inline std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

inline std::string cache_dir() {
  const std::string home = environment("HOME", "/root");
  return environment("TOKENWORKS_CACHE", environment("XDG_CACHE_HOME", home + "/.cache") + "/tokenworks");
}

inline std::string demo_model_path() {
  return environment("TOKENWORKS_DEMO_MODEL", cache_dir() + "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
}

// The folder that tests/golden/<name>.py wrote.
inline std::string golden_path(const std::string& name) {
  std::string root = environment("TOKENWORKS_GOLDEN", "");
  if (root.empty()) {                                // run by hand: <repository>/build/golden
    std::filesystem::path here = __FILE__;
    root = (here.parent_path().parent_path().parent_path() / "build" / "golden").string();
  }
  return root + "/" + name;
}

inline bool long_run() { return environment("TOKENWORKS_LONG", "") == "1"; }

// A fresh, empty folder of the calling test, removed with the object.
class ScratchDir {
 public:
  ScratchDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tokenworks-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tokenworks::test
