#include "yaml_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <yaml-cpp/eventhandler.h>

namespace tokenworks::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBytesMax = 256u << 20;        // a million organizations; a device that never ends is not read for ever

// Length of the character `text` begins with (Unicode 15.0, table 3-7), 0 when there is none.
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto within = [&](std::size_t i, unsigned least, unsigned most) { return byte(i) >= least && byte(i) <= most; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return within(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second = within(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF);
    return second && within(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = within(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF);
    return second && within(2, 0x80, 0xBF) && within(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

std::size_t utf8_until(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = character(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

std::string why_no_file(const std::string& path) {
  std::error_code failed;
  if (fs::is_directory(path, failed)) {
    const std::string inside = (fs::path(path) / "tokenworks.yaml").lexically_normal().string();
    return "it is a directory; name a file in it" + (fs::is_regular_file(inside, failed) ? ", such as " + inside : "");
  }
  if (!fs::exists(path, failed)) return failed ? failed.message() : "there is no such file";
  return {};
}

// Where documents begin and whether they hold anything; content is not kept. (YAML::LoadAll of yaml-cpp 0.7 never ends, and eats all
// memory, on some broken files: its parser finds an empty document at the same place again and again.)
class Documents final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { begin = mark, content = YAML::Mark::null_mark(); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { seen(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string&) override { seen(mark); }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override { seen(mark); }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override { seen(mark); }
  void OnMapEnd() override {}

  YAML::Mark begin, content = YAML::Mark::null_mark();   // of the last document; content is null where it is empty

 private:
  void seen(const YAML::Mark& mark) {
    if (content.is_null()) content = mark;
  }
};

// The line (from 0) on which a document after the first says anything; -1: none does. Throws what the parser throws.
int second_document(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  Documents documents;
  if (!parser.HandleNextDocument(documents)) return -1;
  for (int last = documents.begin.pos; parser.HandleNextDocument(documents) && documents.begin.pos > last; last = documents.begin.pos) {
    if (!documents.content.is_null()) return documents.content.line;
  }
  return -1;
}

}  // namespace

bool is_utf8(std::string_view text) { return utf8_until(text) == text.size(); }

std::optional<YAML::Node> parse_yaml(const std::string& path, std::vector<std::string>& mistakes) {
  const auto refuse = [&](int line, const std::string& why) {
    mistakes.push_back(path + ":" + std::to_string(std::max(0, line) + 1) + ": " + why);
    return std::nullopt;
  };
  if (const std::string why = why_no_file(path); !why.empty()) return refuse(0, "cannot be read: " + why);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return refuse(0, std::string("cannot be read: ") + std::strerror(errno));
  std::string text;
  std::vector<char> piece(1 << 16);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())), file.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    if (text.size() > kBytesMax) return refuse(0, "cannot be read: it is longer than 256 MiB");
  }
  if (const std::size_t good = utf8_until(text); good < text.size()) {
    const auto lines = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(good), '\n');
    return refuse(static_cast<int>(lines), "is not UTF-8 from here on; save the file as UTF-8");
  }
  try {
    YAML::Node root = YAML::Load(text);
    if (const int line = second_document(text); line >= 0) {
      return refuse(line, "begins a second document (---), which would not be read; make one of them");
    }
    if (!root.IsDefined() || root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
    if (!root.IsMap()) return refuse(0, "must be a mapping (key: value)");
    return root;
  } catch (const YAML::ParserException& e) {
    return refuse(e.mark.line, "is not valid YAML: " + e.msg);
  } catch (const YAML::Exception& e) {
    return refuse(0, std::string("cannot be read: ") + e.what());
  }
}

}  // namespace tokenworks::config
