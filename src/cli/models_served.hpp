#pragma once
// The part of `tokenworks models` that speaks to a running daemon.
#include "commands.hpp"

namespace tokenworks::cli {

void add_models_served(CLI::App& group, Action& action);

}  // namespace tokenworks::cli
