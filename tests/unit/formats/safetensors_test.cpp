#include "formats/safetensors.hpp"

#include <random>

#include "support.hpp"

namespace tokenworks::formats {
namespace {

std::string with_header(const std::string& header, std::size_t data_bytes) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> 8 * i);
  return out + header + std::string(data_bytes, '\1');
}

std::string verdict(const std::string& bytes) {
  const auto tensors = read_safetensors("w.safetensors", std::as_bytes(std::span(bytes)));
  if (tensors) return "opened";
  EXPECT_TRUE(tensors.error().message.starts_with("w.safetensors: ")) << tensors.error().message;
  return tensors.error().message;
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

const std::string kA = R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";
const std::string kB = R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]})";

TEST(Safetensors, WhatTheFormatAllowsOpens) {
  EXPECT_EQ(verdict(with_header("{" + kA + "," + kB + "}", 32)), "opened");
  EXPECT_EQ(verdict(with_header("{" + kB + "," + kA + "}    ", 32)), "opened");         // any order, padded with spaces
  EXPECT_EQ(verdict(with_header(R"({"__metadata__":{"format":"pt"},)" + kA + "}", 24)), "opened");
  EXPECT_EQ(verdict(with_header("{}", 0)), "opened");
  EXPECT_EQ(verdict(with_header(R"({"empty":{"dtype":"F16","shape":[0,7],"data_offsets":[0,0]},)" + kA + "}", 24)),
            "opened");
  EXPECT_EQ(verdict(with_header(R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4)), "opened");
}

TEST(Safetensors, EveryLieIsNamed) {
  EXPECT_SAYS(verdict(""), "shorter than the 8 bytes");
  EXPECT_SAYS(verdict(std::string(8, '\xff')), "claims a header of 18446744073709551615 bytes");
  EXPECT_SAYS(verdict(with_header("{" + kA + "}", 24).substr(0, 30)), "truncated");
  EXPECT_SAYS(verdict(with_header(" {}", 0)), "does not start with {");
  EXPECT_SAYS(verdict(with_header("{", 0)), "is not JSON");
  EXPECT_SAYS(verdict(with_header("{}x", 0)), "is not JSON");
  EXPECT_SAYS(verdict(with_header("{" + kA + "," + kA + "}", 24)), "key 'a' is there twice");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4)),
              "there twice");
  EXPECT_SAYS(verdict(with_header("{" + kA + "}", 23)), "tensor 'a' ends at byte 24 of 23");
  EXPECT_SAYS(verdict(with_header("{" + kA + "}", 25)), "24 bytes of tensors and 25 behind its header");
  EXPECT_SAYS(verdict(with_header("{" + kB + "}", 32)), "there is a hole");
  EXPECT_SAYS(verdict(with_header("{" + kA + R"(,"c":{"dtype":"F32","shape":[2],"data_offsets":[20,28]}})", 28)),
              "they overlap");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", 8)),
              "tensor 'a' has type 'C64'");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4)), "no dtype");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4)), "mean 8 bytes");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4)),
              "not a whole number");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4)),
              "63 bits");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}})", 0)),
              "63 bits");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4)),
              "claims bytes 4 to 0");
  EXPECT_SAYS(verdict(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4)), "data_offsets");
  EXPECT_SAYS(verdict(with_header(R"({"a":7})", 0)), "not described by an object");
  EXPECT_SAYS(verdict(with_header(R"({"__metadata__":{"n":1}})", 0)), "__metadata__");
  EXPECT_SAYS(verdict(with_header(R"({"a":)" + std::string(100, '[') + "}", 0)), "nested deeper");
}

TEST(Safetensors, CutOrFlippedItIsRefusedOrHarmless) {
  const std::string whole = with_header(R"({"__metadata__":{"format":"pt"},)" + kA + "," + kB + "}  ", 32);
  for (std::size_t keep = 0; keep < whole.size(); ++keep) ASSERT_NE(verdict(whole.substr(0, keep)), "opened") << keep;
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    std::mt19937_64 random(seed);
    std::string broken = whole;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
      broken[random() % (whole.size() - 32)] ^= static_cast<char>(1 << random() % 8);
    }
    const auto tensors = read_safetensors("w.safetensors", std::as_bytes(std::span(broken)));
    if (!tensors) {
      ASSERT_TRUE(tensors.error().message.starts_with("w.safetensors: ")) << tensors.error().message;
      continue;
    }
    for (const auto& [name, tensor] : *tensors) {
      std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
      dequantize(tensor.type, tensor.bytes, out);
    }
  }
}

}  // namespace
}  // namespace tokenworks::formats
