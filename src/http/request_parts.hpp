#pragma once
// What all billable routes have in common around their codecs: limits as headers, headers that belong to the request, and
// what the account of an exchange learns. Connection's thread.
#include <string>

#include "exchange.hpp"

namespace tokenworks::http {

// Limits as SDKs read them; a limit that does not exist is not mentioned (a -1 has broken clients).
void add_rate_headers(const gateway::RateState& rates, Headers& headers);

struct RequestHeaders {
  std::int64_t timeout_ns = 0;                       // x-request-timeout
  std::int32_t retry_count = 0;                      // x-stainless-retry-count
  std::string data_class;                            // x-tokenworks-data-class
};
Result<RequestHeaders> read_request_headers(const Headers& headers);

// What its entry in the ledger says, however the request ended.
void note_outcome(Account& account, const gateway::Outcome& outcome);
// The metrics know models by id; a request that was refused has only named one.
void note_refused(Exchange& exchange, const std::string& named);

}  // namespace tokenworks::http
