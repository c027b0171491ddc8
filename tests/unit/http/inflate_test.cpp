// What inflating costs: the work is in proportion to what arrives and what comes out, whatever the members are.
#include "http/inflate.hpp"

#include <gtest/gtest.h>

#include <ctime>

#include "gzip.hpp"

namespace tokenworks::http::test {
namespace {

TEST(Inflate, AMemberWithoutContentCostsNoMoreBehindALongText) {
  const std::string plain(3 << 20, ' '), empty = gzip("");
  std::string compressed = gzip(plain);
  while (compressed.size() < (10 << 20)) compressed += empty;
  const std::clock_t began = std::clock();
  const auto out = gunzip(compressed, 10 << 20);
  const double seconds = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(*out, plain);
  EXPECT_LT(seconds, 2) << "half a million members";
}

TEST(Inflate, WhatFillsItsRoomExactlyIsWholeAndOneByteMoreThanAllowedIsNot) {
  for (const std::size_t size : {std::size_t{16 << 10}, std::size_t{32 << 10}, std::size_t{1 << 20}}) {
    const std::string plain(size, 'x');
    EXPECT_EQ(gunzip(gzip(plain), size).value(), plain);
    EXPECT_EQ(gunzip(gzip(plain) + gzip("y"), size + 1).value(), plain + "y");
    EXPECT_EQ(gunzip(gzip(plain) + gzip("y"), size).error().code, Errc::body_too_large);
    EXPECT_EQ(gunzip(gzip(plain).substr(0, 30), size).error().code, Errc::invalid_request);
  }
}

}  // namespace
}  // namespace tokenworks::http::test
