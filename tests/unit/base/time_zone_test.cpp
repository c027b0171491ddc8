#include "tokenworks/base/time_zone.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "support/paths.hpp"

namespace tokenworks {
namespace {

// Lines "zone,a,b" that tests/golden/zones.py wrote.
template <class Check>
int each_line(const std::string& file, const Check& check) {
  std::ifstream in(test::golden_path("zones") + "/" + file);
  EXPECT_TRUE(in.good()) << "no " << file << " in " << test::golden_path("zones") << ": run tests/run, or tests/golden/zones.py";
  int lines = 0;
  std::string zone, a, b;
  while (std::getline(in, zone, ',') && std::getline(in, a, ',') && std::getline(in, b)) {
    auto found = TimeZone::find(zone);
    if (!found) {
      ADD_FAILURE() << found.error().message;
      return lines;
    }
    check(**found, std::stoll(a), std::stoll(b));
    ++lines;
  }
  return lines;
}

TEST(TimeZone, OffsetsAreThoseOfPythonsZoneinfo) {
  const int lines = each_line("offsets.csv", [](const TimeZone& zone, std::int64_t at, std::int64_t offset) {
    EXPECT_EQ(zone.offset_s(at), offset) << zone.name() << " at " << at;
  });
  EXPECT_GT(lines, 10'000);
}

TEST(TimeZone, TheFirstInstantOfALocalTimeIsFoundAcrossGapsFoldsAndSkippedDays) {
  const int lines = each_line("first.csv", [](const TimeZone& zone, std::int64_t local, std::int64_t unix_s) {
    EXPECT_EQ(zone.to_unix(local), unix_s) << zone.name() << " local " << local;
  });
  EXPECT_GT(lines, 3'000);
}

TEST(TimeZone, NamesThatAreNoZoneAreRefusedWithAHint) {
  for (const char* bad : {"", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "Europe/", "Europe", "a b", "zone.tab"}) {
    auto zone = TimeZone::find(bad);
    ASSERT_FALSE(zone) << bad;
    EXPECT_EQ(zone.error().code, Errc::bad_config) << bad;
    EXPECT_NE(zone.error().message.find("zone"), std::string::npos);
  }
}

TEST(TimeZone, AnInstantIsWrittenWithItsOffset) {
  EXPECT_EQ((*TimeZone::find("Europe/Berlin"))->format(1'774'746'000), "2026-03-29T03:00:00+02:00");
  EXPECT_EQ((*TimeZone::find("America/St_Johns"))->format(0), "1969-12-31T20:30:00-03:30");
  EXPECT_EQ((*TimeZone::find("UTC"))->format(1'798'761'599), "2026-12-31T23:59:59+00:00");
}

TEST(TimeZone, ADamagedFileIsRefusedOrHarmlessNeverACrash) {
  std::ifstream file("/usr/share/zoneinfo/Europe/Dublin", std::ios::binary);
  std::stringstream all;
  ASSERT_TRUE(file && all << file.rdbuf()) << "the package tzdata is missing";
  const std::string good = all.str();
  ASSERT_TRUE(TimeZone::parse("good", good));
  for (std::size_t n = 0; n + 1 < good.size(); ++n) EXPECT_FALSE(TimeZone::parse("cut", good.substr(0, n))) << n;
  std::mt19937_64 random(7);
  for (int i = 0; i < 5000; ++i) {
    std::string bad = good;
    for (int k = 0; k < 3; ++k) bad[random() % bad.size()] = static_cast<char>(random());
    if (auto zone = TimeZone::parse("bad", bad)) {
      for (const std::int64_t at : {INT64_MIN, std::int64_t{-1}, std::int64_t{1'800'000'000}, INT64_MAX}) zone->offset_s(at);
      zone->to_unix(1'800'000'000);
      zone->format(1'800'000'000);
    }
  }
}

}  // namespace
}  // namespace tokenworks
