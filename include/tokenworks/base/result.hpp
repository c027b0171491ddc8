#pragma once
// Result<T>: a value or an Error. `auto x = f(); if (!x) return x.error();`, no macro, no exception on the way.
#include <boost/system/result.hpp>
#include <stdexcept>

#include "tokenworks/base/error.hpp"

namespace tokenworks {

// What `result.value()` throws on an error; only start-up and tests call value() unchecked.
struct ErrorException : std::runtime_error {
  explicit ErrorException(const Error& e) : std::runtime_error(std::string(name(e.code)) + ": " + e.message), error(e) {}
  Error error;
};

[[noreturn]] inline void throw_exception_from_error(const Error& e, const boost::source_location&) {
  throw ErrorException(e);
}

template <class T = void>
using Result = boost::system::result<T, Error>;

}  // namespace tokenworks
