// What cards the kernels of a binary run on: machine code of the same major capability, of no higher minor one, or of that alone.
#include "backend/cuda/built_for.hpp"

#include <gtest/gtest.h>

#include "tokenworks/backend/backend.hpp"
#include "tokenworks/backend/places.hpp"

namespace tokenworks::backend::cuda {
namespace {

TEST(BuiltFor, CodeRunsOnItsOwnMajorCapabilityAndNoLowerMinorOne) {
  const BuiltFor all{{"80", "90a", "100"}, 13000};
  EXPECT_EQ(all.names(), "sm_80, sm_90a, sm_100");
  for (const auto& [major, minor] : {std::pair{8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {10, 3}}) EXPECT_TRUE(all.runs_on(major, minor)) << major << minor;
  for (const auto& [major, minor] : {std::pair{7, 5}, {9, 1}, {11, 0}, {12, 0}, {12, 1}}) EXPECT_FALSE(all.runs_on(major, minor)) << major << minor;
  const BuiltFor hopper{{"90a"}, 13000};
  EXPECT_TRUE(hopper.runs_on(9, 0));
  EXPECT_FALSE(hopper.runs_on(8, 0)) << "a kit for one card says so on another";
  EXPECT_FALSE(BuiltFor{}.runs_on(9, 0));
}

TEST(BuiltFor, ADriverMustBeOfTheRuntimesMajorVersionOrLater) {
  const BuiltFor b{{"90a"}, 13010};
  EXPECT_TRUE(b.runs_with(13000));                   // minor versions of one major one are compatible
  EXPECT_TRUE(b.runs_with(14000));
  EXPECT_FALSE(b.runs_with(12080));
}

TEST(BuiltFor, WhatDoctorSaysIsWhatThisBinaryHas) {
  EXPECT_EQ(built_in_kernels(), built_for().names());
  EXPECT_EQ(gpu_report().built_in, !built_for().architectures.empty());
}

}  // namespace
}  // namespace tokenworks::backend::cuda
