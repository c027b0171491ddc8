#pragma once
// Request bodies that arrive compressed. Bounded while inflating: a small body that would grow past the limit is refused
// before it does. Any thread.
#include <cstddef>
#include <string>
#include <string_view>

#include "tokenworks/base/result.hpp"

namespace tokenworks::http {

// body_too_large past `most`, invalid_request when the data is damaged or goes on after its end.
Result<std::string> gunzip(std::string_view compressed, std::size_t most);

}  // namespace tokenworks::http
