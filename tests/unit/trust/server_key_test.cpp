#include "tokenworks/trust/server_key.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "support/paths.hpp"

namespace tokenworks::trust {
namespace {

TEST(ServerKey, IsMadeOnceWithOwnerOnlyRightsAndDerivesByPurpose) {
  test::ScratchDir dir;
  const std::string path = dir.path() + "/server.key";
  const auto first = ServerKey::open(path);
  ASSERT_TRUE(first) << first.error().message;
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const auto again = ServerKey::open(path);
  ASSERT_TRUE(again);
  EXPECT_EQ(first->derive("prefix-cache"), again->derive("prefix-cache"));
  EXPECT_NE(first->derive("prefix-cache"), first->derive("side-table"));
}

// RFC 4231 test case 1 has a 20-byte key; with ours, 32 known bytes, OpenSSL's command line gave the expectation:
// printf %s purpose | openssl dgst -sha256 -mac HMAC -macopt hexkey:00..00
TEST(ServerKey, DerivesByHmacSha256) {
  test::ScratchDir dir;
  const std::string path = dir.path() + "/server.key";
  std::ofstream(path) << std::string(64, '0') << "\n";
  chmod(path.c_str(), 0600);
  const auto key = ServerKey::open(path);
  ASSERT_TRUE(key) << key.error().message;
  const std::string derived = key->derive("purpose");
  EXPECT_EQ(hex(std::span(reinterpret_cast<const std::uint8_t*>(derived.data()), derived.size())),
            "7387751ee955660902e428001e7102cbdc2e20c1625d74d606c2a3e514f5a094");
}

TEST(ServerKey, RefusesAFileOthersMayReadOrThatIsNoKey) {
  test::ScratchDir dir;
  const std::string path = dir.path() + "/server.key";
  ASSERT_TRUE(ServerKey::open(path));
  chmod(path.c_str(), 0644);
  const auto open_to_all = ServerKey::open(path);
  ASSERT_FALSE(open_to_all);
  EXPECT_NE(open_to_all.error().message.find("chmod 600"), std::string::npos);
  std::ofstream(path) << "not a key\n";
  chmod(path.c_str(), 0600);
  EXPECT_FALSE(ServerKey::open(path));
}

}  // namespace
}  // namespace tokenworks::trust
