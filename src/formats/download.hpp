#pragma once
// One file onto this disk: resumes what an earlier run left, retries a broken connection, verifies, and only then gives
// the file its name. Beside the target lives NAME.part (the bytes so far, locked while a download runs) and, when the
// server named one, NAME.part.tag (the validator that says whether the rest still belongs to it).
#include <cstdint>
#include <string>

#include "formats/fetch.hpp"
#include "tokenworks/formats/pull.hpp"

namespace tokenworks::formats {

struct Download {
  std::string url, target, shown;                    // `shown`: the name in progress and messages
  std::uint64_t size = 0;                            // expected; 0: whatever the server says
  std::string sha256;                                // expected, lower-case hex; "": not checked
  std::string git_sha1;                              // expected hash of a git blob; "": not checked
  bool immutable = false;                            // the target's name is its content: any part of it can be resumed
  std::size_t index = 0, count = 1;
  int attempts = 5, retry_delay_ms = 500;
};

// Bytes fetched over the network. Errors as `pull`.
Result<std::uint64_t> download_file(Fetcher& fetcher, const Download& what, const OnProgress& on_progress);

Result<std::string> sha256_of_file(const std::string& path);
Result<std::string> git_sha1_of_file(const std::string& path);
Result<> make_folders(const std::string& path);

// What an HTTP status of a download means to the user.
Error refusal(const HttpAnswer& answer, bool had_token);

}  // namespace tokenworks::formats
