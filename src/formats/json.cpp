#include "formats/json.hpp"

#include <filesystem>
#include <set>
#include <vector>

#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

constexpr int kDepthMax = 64;

// Builds the value while watching what nlohmann's own builder lets pass: repeated keys and endless nesting.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view skip) : skip_(skip) {}

  Json root;
  std::string problem;

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (skipped_depth_ > 0) return true;
    if (stack_.back()->contains(name)) {
      problem = "key " + shown(name) + " is there twice";
      return false;
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    problem = "is not JSON (byte " + std::to_string(position) + ")";
    return false;
  }

 private:
  bool skipping() const { return skipped_depth_ > 0 || (stack_.size() == 1 && !skip_.empty() && key_ == skip_); }

  Json* place(Json&& value) {
    if (stack_.empty()) return &(root = std::move(value));
    Json& top = *stack_.back();
    if (top.is_array()) return &top.emplace_back(std::move(value));
    return &(top[key_] = std::move(value));
  }
  bool put(Json value) {
    if (!skipping()) place(std::move(value));
    return true;
  }
  bool open(Json empty) {
    if (skipping()) {
      ++skipped_depth_;
    } else {
      stack_.push_back(place(std::move(empty)));
    }
    if (stack_.size() + static_cast<std::size_t>(skipped_depth_) > kDepthMax) {
      problem = "is nested deeper than " + std::to_string(kDepthMax) + " levels";
      return false;
    }
    return true;
  }
  bool close() {
    if (skipped_depth_ > 0) {
      --skipped_depth_;
    } else {
      stack_.pop_back();
    }
    return true;
  }

  std::string_view skip_;
  std::vector<Json*> stack_;  // open containers; a container's address is stable while it is the last of its parent
  std::string key_;
  int skipped_depth_ = 0;
};

}  // namespace

Result<std::unique_ptr<Json>> parse_json(std::string_view text, const std::string& what, std::string_view skip) {
  Builder builder(skip);
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return std::make_unique<Json>(std::move(builder.root));
  return error(Errc::bad_file, what + ": " + (builder.problem.empty() ? "is not JSON" : builder.problem));
}

Result<std::optional<std::string>> read_text_file(const std::string& path, std::uint64_t bytes_max) {
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return std::optional<std::string>{};
  auto file = map_file(path);
  if (!file) return file.error();
  if ((*file)->size() > bytes_max) {
    return error(Errc::bad_file, path + ": " + std::to_string((*file)->size()) +
                                     " bytes are more than such a file can need (" + std::to_string(bytes_max) + ")");
  }
  return std::optional(std::string(reinterpret_cast<const char*>((*file)->data()), (*file)->size()));
}

}  // namespace tokenworks::formats
