#pragma once
// shown: a name from an untrusted file, fit for a message: in single quotes, control characters and what is not ASCII
// escaped, cut when long.
#include <string>
#include <string_view>

namespace tokenworks::formats {

std::string shown(std::string_view text);

}  // namespace tokenworks::formats
