#pragma once
// A fault planted into a model's steps, for end-to-end tests of what a plant does when a device fails: such machines are not to
// be had on demand. TOKENWORKS_TEST_FAULT says which and when; without it a runner stays what it is. Engine thread, as Runner.
#include <memory>

#include "tokenworks/model/runner.hpp"

namespace tokenworks::app {

// "lost:N"    the device is gone from the Nth step that samples on (counted from 1)
// "memory:N"  that step cannot have the memory it asks for; so cannot the ones after it
// "nan:N"     the rows of that step alone have no numbers
// "nans:N"    all rows have none from that step on
// bad_config for anything else.
Result<std::unique_ptr<model::Runner>> with_planted_fault(std::unique_ptr<model::Runner> runner);

}  // namespace tokenworks::app
