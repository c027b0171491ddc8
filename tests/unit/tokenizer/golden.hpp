#pragma once
// Reads what tests/golden/tokenizer_families.py wrote.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/paths.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::tokenizer::test {

inline std::string read_golden(const std::string& name) {
  const std::string path = tokenworks::test::golden_path("tokenizer_families") + "/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " is missing: run tests/golden/tokenizer_families.py (tests/run does)");
  std::stringstream all;
  all << file.rdbuf();
  return all.str();
}

class Reader {
 public:
  explicit Reader(std::string data) : data_(std::move(data)) {}
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::uint32_t count() { return number<std::uint32_t>(); }
  std::string bytes() {
    const std::uint32_t n = count();
    return {take(n), n};
  }
  std::vector<TokenId> ids() {
    std::vector<TokenId> ids(count());
    for (TokenId& id : ids) id = number<std::uint16_t>();
    return ids;
  }

 private:
  const char* take(std::size_t n) {
    if (data_.size() - at_ < n) throw std::runtime_error("a golden file is too short");
    at_ += n;
    return data_.data() + at_ - n;
  }
  std::string data_;
  std::size_t at_ = 0;
};

struct Family {
  struct Case {
    std::size_t string = 0;  // index into strings()
    std::vector<TokenId> ids;
    std::string text;  // what the ids decode to
  };
  struct Block {
    std::uint32_t first;
    std::uint64_t hash;
  };
  std::vector<formats::TokenizerData> variants;  // the same tokenizer as GGUF metadata and as tokenizer.json
  std::vector<Case> plain, trusted, random;      // random: ids only, decoded
  std::vector<Block> blocks;
};

inline formats::TokenizerData data_from(const nlohmann::json& j) {
  formats::TokenizerData d;
  const std::string kind = j.at("kind");
  using Kind = formats::TokenizerData::Kind;
  d.kind = kind == "byte_bpe"            ? Kind::byte_bpe
           : kind == "sentencepiece_bpe" ? Kind::sentencepiece_bpe
                                         : Kind::tokenizer_json;
  if (j.contains("json")) d.json = j.at("json");
  if (j.contains("pre")) d.pre = j.at("pre");
  if (j.contains("tokens")) d.tokens = j.at("tokens").get<std::vector<std::string>>();
  if (j.contains("types")) d.types = j.at("types").get<std::vector<std::int32_t>>();
  if (j.contains("scores")) d.scores = j.at("scores").get<std::vector<float>>();
  if (j.contains("merges")) d.merges = j.at("merges").get<std::vector<std::string>>();
  if (j.contains("bos")) d.bos = j.at("bos").get<TokenId>();
  if (j.contains("eos")) d.eos = j.at("eos").get<TokenId>();
  if (j.contains("unknown")) d.unknown = j.at("unknown").get<TokenId>();
  if (j.contains("add_bos")) d.add_bos = j.at("add_bos").get<bool>();
  if (j.contains("add_space_prefix")) d.add_space_prefix = j.at("add_space_prefix").get<bool>();
  return d;
}

inline const std::vector<std::string>& strings() {
  static const std::vector<std::string> kAll = [] {
    Reader reader(read_golden("strings.bin"));
    std::vector<std::string> all(reader.count());
    for (std::string& s : all) s = reader.bytes();
    return all;
  }();
  return kAll;
}

inline Family family(const std::string& name) {
  Family f;
  for (const auto& variant : nlohmann::json::parse(read_golden(name + ".json")))
    f.variants.push_back(data_from(variant));
  Reader reader(read_golden(name + ".ids"));
  f.plain.resize(reader.count());
  for (std::size_t i = 0; i < f.plain.size(); ++i) f.plain[i] = {i, reader.ids(), reader.bytes()};
  f.trusted.resize(reader.count());
  for (Family::Case& c : f.trusted) {
    c.string = reader.count();
    c.ids = reader.ids();
    c.text = reader.bytes();
  }
  f.random.resize(reader.count());
  for (Family::Case& c : f.random) {
    c.ids = reader.ids();
    c.text = reader.bytes();
  }
  f.blocks.resize(reader.count());
  for (Family::Block& b : f.blocks) {
    b.first = reader.count();
    b.hash = reader.number<std::uint64_t>();
  }
  return f;
}

inline std::shared_ptr<const Tokenizer> make(const formats::TokenizerData& data) {
  auto made = Tokenizer::make(data);
  if (!made) throw std::runtime_error(made.error().message);
  return *made;
}

// FNV-1a, over ids or bytes, as the script computes it.
template <class Range>
std::uint64_t fnv(const Range& values) {
  std::uint64_t h = 0xCBF29CE484222325ull;
  for (const auto v : values) {
    if constexpr (sizeof v == 1) {
      h = (h ^ static_cast<unsigned char>(v)) * 0x100000001B3ull;
    } else {
      h = (h ^ static_cast<std::uint64_t>(v)) * 0x100000001B3ull;
    }
  }
  return h;
}

}  // namespace tokenworks::tokenizer::test
