// Every planted bug is found: by a fault of the emulator or by a wrong number, whatever order the threads ran in.
#include <cstdio>

#include "checks.hpp"

namespace tokenworks::emulator {
namespace {

using kernels::cuda::Element;

struct Plant {
  int number;
  const char* what;
  std::string (*check)();
  const char* caught_as;                             // part of the words; "": a wrong number is enough
};

const Plant kPlants[] = {
    {1, "no barrier after the warps wrote their sums", [] { return check_norm(Element::bf16, 2, 300); }, "shared memory"},
    {2, "norm writes one column past the row", [] { return check_norm(Element::bf16, 2, 96); }, ""},
    {3, "gate reads one column past the row", [] { return check_gate(Element::bf16, false, 1, 65); }, "out of bounds"},
    {4, "every thread writes the row's scale", [] { return check_quantize(Element::bf16, 1, 64); }, "race in global memory"},
    {5, "no bound on a token's id", [] { return check_embed(Element::bf16, 5, 96); }, "out of bounds"},
    {6, "gather copies one column too many", [] { return check_gather(3, 255); }, ""},
    {7, "rotation with the wrong partner", [] { return check_rope({}); }, ""},
    {8, "a tile loads one row too many", [] { return check_linear({.rows = 33, .n = 8, .k = 64}); }, "out of bounds"},
    {9, "a stage is used before its copies were waited for", [] { return check_linear({.rows = 8, .n = 8, .k = 320}); }, "in flight"},
    {10, "no barrier between copies and their use", [] { return check_linear({.rows = 8, .n = 8, .k = 320}); }, "shared memory"},
    {11, "no barrier before the warps' sums are added", [] { return check_linear({.rows = 2, .n = 9, .k = 640, .small = true}); }, "shared memory"},
    {12, "bias of the next column", [] { return check_linear({.rows = 2, .n = 16, .k = 64, .bias = true, .small = true}); }, "out of bounds"},
    {13, "a query sees the next position", [] { return check_attend_plain({.sequences = {{3, 40}}}); }, ""},
    {14, "a key is stored one token too far", [] { return check_rope({}); }, ""},
    {15, "a reduction with half the warp in its mask", [] { return check_norm(Element::fp8, 1, 64); }, "mask"},
    {16, "a reduction over half the warp", [] { return check_norm(Element::bf16, 1, 64); }, ""},
    {17, "a barrier that one warp alone reaches", [] { return check_norm(Element::bf16, 1, 64); }, ""},
    {18, "the weight of the next lane", [] { return check_attend_plain({.sequences = {{1, 20}}}); }, ""},
    {19, "copies into the stage that is being read", [] { return check_linear({.rows = 8, .n = 8, .k = 640}); }, ""},
    {20, "accumulation forgotten", [] { return check_linear({.rows = 8, .n = 8, .k = 64, .accumulate = true}); }, ""},
    {21, "zeroing goes on past the block", [] { return check_zero_blocks(3072, 2); }, ""},
    {23, "one changed word too many", [] { return check_scatter(8); }, "out of bounds"},
    {22, "a window one position too wide", [] { return check_attend_plain({.window = 4, .sequences = {{1, 20}}}); }, ""},
};

TEST(EmulatorPlanted, EveryBugIsFoundInEveryOrderOfThreads) {
  int found = 0;
  for (const Plant& p : kPlants) {
    SCOPED_TRACE(p.what);
    EXPECT_EQ(p.check(), "") << "without the bug";
    bool always = true;
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Planted planted(p.number, seed);
      const std::string words = p.check();
      if (seed == 1) std::printf("[ planted %2d ] %s: %s\n", p.number, p.what, words.c_str());
      EXPECT_NE(words, "") << "seed " << seed;
      EXPECT_NE(words.find(p.caught_as), std::string::npos) << words;
      always = always && !words.empty();
    }
    found += always;
  }
  EXPECT_GE(found, 20);
}

}  // namespace
}  // namespace tokenworks::emulator
