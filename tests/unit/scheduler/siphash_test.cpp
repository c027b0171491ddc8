#include "scheduler/siphash.hpp"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include <cstring>
#include <random>
#include <vector>

namespace tokenworks::scheduler {
namespace {

Hash128 openssl_siphash128(const Hash128& key, const std::vector<std::uint64_t>& words) {
  EVP_MAC* mac = EVP_MAC_fetch(nullptr, "SIPHASH", nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac);
  std::size_t size = 16;
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
  Hash128 hash;
  EXPECT_EQ(EVP_MAC_init(context, reinterpret_cast<const unsigned char*>(&key), 16, parameters), 1);
  EXPECT_EQ(EVP_MAC_update(context, reinterpret_cast<const unsigned char*>(words.data()), words.size() * 8), 1);
  std::size_t written = 0;
  EXPECT_EQ(EVP_MAC_final(context, reinterpret_cast<unsigned char*>(&hash), &written, 16), 1);
  EXPECT_EQ(written, 16u);
  EVP_MAC_CTX_free(context);
  EVP_MAC_free(mac);
  return hash;
}

TEST(SipHash, EqualsOpenSslOnRandomKeysAndLengths) {
  std::mt19937_64 random(20261101);
  for (int i = 0; i < 500; ++i) {
    const Hash128 key{random(), random()};
    std::vector<std::uint64_t> words(1 + random() % 20);
    for (auto& word : words) word = random();
    EXPECT_EQ(siphash128(key, words), openssl_siphash128(key, words));
  }
}

}  // namespace
}  // namespace tokenworks::scheduler
