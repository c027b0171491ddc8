// Makes every FakeRunner of this program one that overlaps steps.
#include "support/fake_runner.hpp"

namespace tokenworks::test {
namespace {

[[maybe_unused]] const bool chosen = overlap_by_default = true;

}  // namespace
}  // namespace tokenworks::test
