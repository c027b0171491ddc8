#include "support.hpp"

namespace tokenworks::formats {
namespace {

// Only what the digest asks for: the sources. `mapped` false hides the mapping, as a sealed container would.
class Sources final : public ModelFile {
 public:
  std::string nothing;
  ModelConfig no_config;
  TokenizerData no_tokenizer;
  std::map<std::string, TensorView> no_tensors;
  std::vector<std::shared_ptr<const ByteSource>> files;

  const std::string& path() const override { return nothing; }
  const std::string& format() const override { return nothing; }
  const ModelConfig& config() const override { return no_config; }
  const TokenizerData& tokenizer() const override { return no_tokenizer; }
  const std::map<std::string, TensorView>& tensors() const override { return no_tensors; }
  const std::vector<std::shared_ptr<const ByteSource>>& sources() const override { return files; }
};

class Unmapped final : public ByteSource {
 public:
  explicit Unmapped(std::shared_ptr<const ByteSource> inner) : inner_(std::move(inner)) {}
  const std::string& name() const override { return inner_->name(); }
  std::uint64_t size() const override { return inner_->size(); }
  Result<> read(std::uint64_t offset, std::span<std::byte> into) const override { return inner_->read(offset, into); }

 private:
  std::shared_ptr<const ByteSource> inner_;
};

TEST(ModelDigest, IsTheMerkleRootAnIndependentProgramComputesFromTheDocument) {
  const auto index = read_json(test::golden_path("model_digest/index.json"));
  ASSERT_TRUE(index.is_object());
  ASSERT_GE(index["cases"].size(), 8u);
  for (const auto& item : index["cases"]) {
    Sources mapped, unmapped;
    for (const auto& file : item["files"]) {
      auto source = map_file(test::golden_path("model_digest/" + file.get<std::string>()));
      ASSERT_TRUE(source);
      mapped.files.push_back(*source);
      unmapped.files.push_back(std::make_shared<Unmapped>(*source));
    }
    for (const int threads : {1, 2, 7, 0}) {
      EXPECT_EQ(hex(model_digest(mapped, threads)), item["digest"].get<std::string>()) << item["files"] << threads;
      EXPECT_EQ(hex(model_digest(unmapped, threads)), item["digest"].get<std::string>()) << item["files"] << threads;
    }
  }
}

TEST(ModelDigest, EveryFileOfAFolderCountsAndNothingElseDoes) {
  const test::ScratchDir scratch;
  const std::string folder = copy_folder(tiny("llama/hf"), scratch.path() + "/model");
  const Digest before = model_digest(*open_model(folder));
  write_file(folder + "/README.md", "not part of the model");
  EXPECT_EQ(model_digest(*open_model(folder)), before);
  for (const std::string name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    const std::string bytes = read_file(folder + "/" + name);
    write_file(folder + "/" + name, bytes + "\n");
    EXPECT_NE(model_digest(*open_model(folder)), before) << name;
    write_file(folder + "/" + name, bytes);
  }
  EXPECT_EQ(model_digest(*open_model(folder)), before);
}

}  // namespace
}  // namespace tokenworks::formats
