#pragma once
// The subcommands of the one binary. Each `add_*` declares its flags on the CLI11 app and, when parsed, leaves its action
// in `action`; run() calls it and returns its exit code. stdout is for output, stderr for messages.
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "tokenworks/app/plant.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::cli {

using Action = std::function<int()>;

void add_serve(CLI::App& app, Action& action);       // serve, check
void add_keys(CLI::App& app, Action& action);
void add_money(CLI::App& app, Action& action);       // credit, budget
void add_usage(CLI::App& app, Action& action);
void add_price(CLI::App& app, Action& action);
void add_ledger(CLI::App& app, Action& action);
void add_models(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);      // doctor, version

// Prints "tokenworks: <message>" and returns the exit code that fits the error.
int fail(const Error& e);
// Loads the configuration or prints its mistakes and sets `exit_code`.
bool load_config(const std::string& path, config::Config& into, int& exit_code);
// True, and said, when there are no books at `store`: those of a plant that has never run, or that are not ours to see.
bool no_books(const std::string& store);

}  // namespace tokenworks::cli
