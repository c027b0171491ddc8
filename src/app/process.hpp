#pragma once
// What the daemon asks of its process: signals, memory nobody else reads, descriptors.
#include <csignal>
#include <cstdint>

namespace tokenworks::app {

// SIGTERM, SIGINT, SIGHUP: blocked in every thread and taken by the main one alone.
sigset_t handled_signals();

// Prompts never reach disk: no core dumps, no other process may read our memory. The descriptor limit goes to its hard value.
void harden_process();

// How many of the connections asked for the system's descriptors allow beside the plant's own; a warning in the log when it is
// fewer. After harden_process().
std::int64_t connections_that_fit(std::int64_t asked);

}  // namespace tokenworks::app
