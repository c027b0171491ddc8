#pragma once
// Whether a line of this level is written at all: for callers whose fields cost something to gather. Any thread.
#include "tokenworks/base/log.hpp"

namespace tokenworks::log {

bool writes(Level level);

}  // namespace tokenworks::log
