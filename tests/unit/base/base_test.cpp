#include <gtest/gtest.h>

#include <algorithm>

#include <thread>

#include "tokenworks/base/byte_source.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/mailbox.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/snapshot.hpp"

namespace tokenworks {
namespace {

TEST(RequestId, CarriesTimeVersionAndVariantOfRfc9562) {
  // The example of RFC 9562 appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F.
  const RequestId id = RequestId::make(0x017F22E279B0, {0x0C, 0xC3, 0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F});
  EXPECT_EQ(id.to_string(), "req_017f22e279b07cc398c4dc0c0c07398f");
  EXPECT_EQ(RequestId::parse(id.to_string()), id);
  EXPECT_FALSE(RequestId::parse("req_017f22e279b07cc398c4dc0c0c0739"));
  EXPECT_FALSE(RequestId::parse("017f22e279b07cc398c4dc0c0c07398f"));
}

TEST(RequestId, ThoseMadeLaterSortLater) {
  RequestId last = RequestId::make_now();
  for (int i = 0; i < 10000; ++i) {
    const RequestId next = RequestId::make_now();
    ASSERT_LT(last, next);
    last = next;
  }
}

// FIPS 180-2 appendix B.1 and RFC 4231 test case 2.
TEST(Crypto, AgreesWithPublishedVectors) {
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  Sha256 pieces;
  pieces.update("a");
  pieces.update("bc");
  EXPECT_EQ(pieces.finish(), sha256("abc"));
}

TEST(Mailbox, RefusesWhenFullOrClosedAndLosesNothing) {
  Mailbox<int> box(2);
  EXPECT_TRUE(box.push(1));
  EXPECT_TRUE(box.push(2));
  EXPECT_FALSE(box.push(3));
  box.close();
  EXPECT_FALSE(box.push(4));
  std::vector<int> got;
  box.drain(got);
  EXPECT_EQ(got, (std::vector<int>{1, 2}));
}

TEST(Mailbox, EveryMessageArrivesOnceFromManyThreads) {
  Mailbox<int> box(1'000'000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&box, t] {
      for (int i = 0; i < 10000; ++i) box.push(t * 10000 + i);
    });
  }
  std::vector<int> got;
  while (got.size() < 40000) box.wait_drain(got, std::chrono::seconds(10));
  for (auto& t : threads) t.join();
  std::sort(got.begin(), got.end());
  for (int i = 0; i < 40000; ++i) ASSERT_EQ(got[static_cast<std::size_t>(i)], i);
}

TEST(ByteSource, NamesWhatIsOutsideAndWhatDoesNotExist) {
  const auto source = memory_source("header", "12345");
  std::byte into[4];
  EXPECT_TRUE(source->read(1, into));
  const auto bad = source->read(2, into);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("header"), std::string::npos);
  const auto missing = map_file("/nonexistent/file");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::io);
  EXPECT_NE(missing.error().message.find("/nonexistent/file"), std::string::npos);
}

TEST(Snapshot, AReaderKeepsWhatItGot) {
  Snapshot<int> snapshot(std::make_shared<int>(1));
  const auto kept = snapshot.get();
  snapshot.set(std::make_shared<int>(2));
  EXPECT_EQ(*kept, 1);
  EXPECT_EQ(*snapshot.get(), 2);
}

}  // namespace
}  // namespace tokenworks
