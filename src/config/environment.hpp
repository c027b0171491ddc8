#pragma once
// The environment's part: names that begin with TOKENWORKS_ and are no key's are mistakes, as unknown keys are in a file.
// Private to src/config.
#include <set>
#include <string>
#include <vector>

namespace tokenworks::config {

// `known`: the names of the keys that were asked for. Names that begin with one of `unread` belong to a file that could not
// be read and are left alone.
void check_environment(const std::set<std::string>& known, const std::vector<std::string>& unread, std::vector<std::string>& mistakes);

}  // namespace tokenworks::config
