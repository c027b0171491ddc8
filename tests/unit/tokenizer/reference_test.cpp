// Ids and text against the reference packages, family by family: see tests/golden/tokenizer_families.py for what they ran.
#include <gtest/gtest.h>

#include "tokenizer/unicode.hpp"
#include "unit/tokenizer/golden.hpp"

namespace tokenworks::tokenizer {
namespace {

using test::Family;

std::string shown(const std::string& s) {
  static const char* kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : s) {
    const auto b = static_cast<unsigned char>(c);
    if (b >= 0x20 && b < 0x7F) {
      out += c;
    } else {
      out += "\\x";
      out += kDigits[b >> 4];
      out += kDigits[b & 15];
    }
  }
  return out.substr(0, 600);
}

std::string streamed(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<TokenId>& ids) {
  StreamingDetokenizer detokenizer(tokenizer);
  std::string text;
  for (const TokenId id : ids) {
    const std::string piece = detokenizer.push(id);
    EXPECT_TRUE(valid_utf8(piece)) << shown(piece);
    text += piece;
  }
  return text + detokenizer.finish();
}

class Reference : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    family_ = test::family(GetParam());
    for (const auto& data : family_.variants) tokenizers_.push_back(test::make(data));
    ASSERT_FALSE(tokenizers_.empty());
  }
  Family family_;
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers_;
};

TEST_P(Reference, EncodesAndDecodesEveryStringAsTheReferenceDoes) {
  ASSERT_GT(family_.plain.size(), 10'000u);
  for (std::size_t v = 0; v < tokenizers_.size(); ++v) {
    int bad = 0;
    for (const Family::Case& c : family_.plain) {
      const std::string& text = test::strings()[c.string];
      const auto ids = tokenizers_[v]->encode(text);
      if (ids != c.ids && ++bad < 5) {
        EXPECT_EQ(ids, c.ids) << "variant " << v << " string " << c.string << ": " << shown(text);
      }
      const std::string decoded = tokenizers_[v]->decode(c.ids);
      if (decoded != c.text && ++bad < 5) {
        EXPECT_EQ(shown(decoded), shown(c.text)) << "variant " << v << " string " << c.string;
      }
    }
    EXPECT_EQ(bad, 0) << "of " << family_.plain.size();
  }
}

TEST_P(Reference, ParsesSpecialTokensInTrustedTextAsTheReferenceDoes) {
  for (std::size_t v = 0; v < tokenizers_.size(); ++v) {
    int bad = 0;
    for (const Family::Case& c : family_.trusted) {
      const std::string& text = test::strings()[c.string];
      const auto ids = tokenizers_[v]->encode_trusted(text);
      if (ids != c.ids && ++bad < 5) {
        EXPECT_EQ(ids, c.ids) << "variant " << v << " string " << c.string << ": " << shown(text);
      }
      EXPECT_EQ(tokenizers_[v]->encode_parts({{text, true}}), ids);
      if (tokenizers_[v]->decode(ids) != c.text && ++bad < 5) {
        EXPECT_EQ(shown(tokenizers_[v]->decode(ids)), shown(c.text));
      }
    }
    EXPECT_EQ(bad, 0) << "of " << family_.trusted.size();
  }
}

TEST_P(Reference, DecodesRandomIdsAsTheReferenceDoesWholeAndStreamed) {
  ASSERT_EQ(family_.random.size(), 1500u);
  for (std::size_t v = 0; v < tokenizers_.size(); ++v) {
    int bad = 0;
    for (const Family::Case& c : family_.random) {
      const std::string decoded = tokenizers_[v]->decode(c.ids);
      if (decoded != c.text && ++bad < 5) {
        EXPECT_EQ(shown(decoded), shown(c.text)) << "variant " << v;
      }
      if (streamed(tokenizers_[v], c.ids) != decoded && ++bad < 5) {
        EXPECT_EQ(shown(streamed(tokenizers_[v], c.ids)), shown(decoded));
      }
    }
    EXPECT_EQ(bad, 0);
  }
}

// Every code point of every block that holds letters, digits, spaces, marks or symbols, in four surroundings.
TEST_P(Reference, ClassifiesEveryCodePointAsTheReferenceDoes) {
  for (std::size_t v = 0; v < tokenizers_.size(); ++v) {
    int bad = 0;
    for (const Family::Block& block : family_.blocks) {
      std::string text;
      for (char32_t c = block.first; c < block.first + 64; ++c) {
        std::string s;
        utf8_append(s, c);
        text += "a" + s + "b " + s + " 1" + s + "'" + s + "\n";
      }
      if (test::fnv(tokenizers_[v]->encode(text)) != block.hash && ++bad < 8)
        ADD_FAILURE() << "block U+" << std::hex << block.first;
    }
    EXPECT_EQ(bad, 0) << "of " << family_.blocks.size() << " blocks, variant " << v;
  }
}

TEST_P(Reference, TokenBytesPutTogetherAreTheText) {
  const auto& tokenizer = tokenizers_.front();
  for (std::size_t i = 0; i < 500; ++i) {
    const Family::Case& c = family_.plain[i];
    std::string bytes;
    for (const TokenId id : c.ids) bytes += tokenizer->token_bytes(id);
    std::string text = replace_invalid(bytes);
    if (text != c.text && text.starts_with(' ')) text.erase(0, 1);  // SentencePiece's first space
    EXPECT_EQ(shown(text), shown(c.text));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Reference,
                         ::testing::Values("smollm2", "gpt2", "llama3", "qwen2", "sentencepiece", "llama2_json",
                                           "mistral_json", "quirks", "wordpiece", "wordpiece_cased",
                                           "minilm"),
                         [](const auto& info) { return std::string(info.param); });

TEST(NormalForms, AreThoseOfTheReference) {
  const auto golden = nlohmann::json::parse(test::read_golden("normal_forms.json"));
  const NormalForm forms[] = {NormalForm::nfc, NormalForm::nfd, NormalForm::nfkc, NormalForm::nfkd};
  for (const auto& entry : golden.at("sequences")) {
    for (std::size_t f = 0; f < 4; ++f) {
      std::string out;
      normalize(entry[0].get<std::string>(), forms[f], out);
      ASSERT_EQ(shown(out), shown(entry[f + 1].get<std::string>()))
          << shown(entry[0].get<std::string>()) << " form " << f;
    }
  }
  int bad = 0;
  for (const auto& entry : golden.at("blocks")) {
    for (std::size_t f = 0; f < 4; ++f) {
      std::string out;
      const char32_t first = entry[0].get<std::uint32_t>();
      for (char32_t c = first; c < first + 64; ++c) {
        std::string s;
        utf8_append(s, c);
        normalize(s, forms[f], out);
        out += '|';
      }
      if (test::fnv(out) != entry[f + 1].get<std::uint64_t>() && ++bad < 10) {
        ADD_FAILURE() << "block U+" << std::hex << static_cast<std::uint32_t>(first) << " form " << f;
      }
    }
  }
  EXPECT_EQ(bad, 0);
}

}  // namespace
}  // namespace tokenworks::tokenizer
