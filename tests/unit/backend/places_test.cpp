// Where `models[].backend` puts a model.
#include "tokenworks/backend/places.hpp"

#include <gtest/gtest.h>

namespace tokenworks::backend {
namespace {

TEST(Places, OneBackendForAKindAndOneARankForNumbers) {
  for (const auto& [text, ranks] : {std::pair{"cpu", 1u}, {"cpu:0", 1u}, {"cpu:0+1", 2u}, {"cpu:3+1+2", 3u}}) {
    const auto made = make_backends({.backend = text, .threads = 1});
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->size(), ranks) << text;
    for (const auto& b : *made) EXPECT_EQ(b->info().name, "cpu");
  }
}

TEST(Places, WhatIsNoPlaceIsRefusedWithTheWordsThereAre) {
  for (const char* text : {"cpu:", "cpu:0+", "cpu:+1", "cpu:x", "cpu:0,1", "auto:1", "gpu:0", "cuda:1x", ":0"}) {
    const auto made = make_backends({.backend = text, .threads = 1});
    ASSERT_FALSE(made) << text;
    EXPECT_EQ(made.error().code, Errc::bad_config);
    EXPECT_NE(made.error().message.find("cuda:0+1"), std::string::npos) << made.error().message;
  }
}

TEST(Places, ACardThatIsNotThereIsRefusedByItsReason) {
  const auto made = make_backends({.backend = "cuda:62+63"});
  ASSERT_FALSE(made);                                // no machine has so many
  EXPECT_EQ(made.error().code, Errc::bad_config);
  EXPECT_NE(made.error().message.find("cuda cannot be had"), std::string::npos) << made.error().message;
}

}  // namespace
}  // namespace tokenworks::backend
