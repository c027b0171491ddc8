#include "tokenworks/formats/model_file.hpp"

#include <filesystem>

#include "formats/model_data.hpp"

namespace tokenworks::formats {
namespace {

class Model final : public ModelFile {
 public:
  explicit Model(ModelData data) : data_(std::move(data)) {}
  const std::string& path() const override { return data_.path; }
  const std::string& format() const override { return data_.format; }
  const ModelConfig& config() const override { return data_.config; }
  const TokenizerData& tokenizer() const override { return data_.tokenizer; }
  const std::map<std::string, TensorView>& tensors() const override { return data_.tensors; }
  const std::vector<std::shared_ptr<const ByteSource>>& sources() const override { return data_.sources; }

 private:
  const ModelData data_;
};

}  // namespace

std::shared_ptr<const ModelFile> make_model_file(ModelData data) { return std::make_shared<Model>(std::move(data)); }

Result<std::span<const std::byte>> resident(const ByteSource& source, std::vector<std::string>& copies) {
  if (source.data() != nullptr || source.size() == 0) return std::span<const std::byte>(source.data(), source.size());
  std::string& copy = copies.emplace_back(source.size(), '\0');
  const auto bytes = std::as_writable_bytes(std::span(copy.data(), copy.size()));
  if (auto ok = source.read(0, bytes); !ok) return ok.error();
  return std::span<const std::byte>(bytes);
}

const TensorView* ModelFile::find(std::string_view name) const {
  const auto it = tensors().find(std::string(name));
  return it == tensors().end() ? nullptr : &it->second;
}

Result<std::shared_ptr<const ModelFile>> ModelFile::open(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const fs::file_status status = fs::status(path, ec);
  if (status.type() == fs::file_type::not_found) return error(Errc::io, path + ": no such file or folder");
  if (ec) return error(Errc::io, path + ": " + ec.message());
  Result<ModelData> data = error(Errc::io, path + ": is neither a file nor a folder");
  if (status.type() == fs::file_type::directory) {
    data = read_hugging_face(path);
  } else if (path.ends_with(".safetensors")) {
    return error(Errc::bad_file, path + ": name the folder that holds this file and its config.json");
  } else {
    auto source = map_file(path);
    if (!source) return source.error();
    data = read_gguf(std::move(*source));
  }
  if (!data) return data.error();
  return make_model_file(std::move(*data));
}

}  // namespace tokenworks::formats
