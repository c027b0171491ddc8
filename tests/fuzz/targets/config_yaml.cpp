// The three files of an operator: "tokenworks.yaml ===== prices.yaml ===== tenants.yaml". They are read from a folder of
// this process, in memory where the machine has /dev/shm.
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include "fuzz/targets.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::fuzz {
namespace {

class Folder {
 public:
  Folder() {
    std::error_code ignored;
    const auto base = std::filesystem::is_directory("/dev/shm", ignored) ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path();
    std::string pattern = (base / "tokenworks-fuzz-XXXXXX").string();
    must(mkdtemp(pattern.data()) != nullptr, "no folder for the files");
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string write(const char* name, std::string_view text) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
    return path;
  }

 private:
  std::string path_;
};

}  // namespace

void config_yaml(std::string_view input) {
  static const Folder folder;
  std::string_view rest = input;
  const std::string path = folder.write("tokenworks.yaml", next_part(rest));
  folder.write("prices.yaml", next_part(rest));
  folder.write("tenants.yaml", next_part(rest));
  const auto loaded = config::load(path);
  if (!loaded) must(loaded.error().code == Errc::bad_config && !loaded.error().message.empty(), "a refusal that says nothing");
}

}  // namespace tokenworks::fuzz
