#pragma once
// The arithmetic behind /v1/organization/*: which buckets a page shows, and how ledger rows fall into them. Pure; `now` is
// an argument. The shapes are OpenAI's (page > bucket > results).
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headers.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::http {

// By which dimensions results are split; also the dimensions a filter needs.
struct Dimensions {
  bool project = false, model = false, tier = false, key = false, organization = false;
};

struct PageQuery {
  std::int64_t start_s = 0, end_s = 0;               // whole buckets: start inclusive, end exclusive
  std::int64_t width_s = 86400;
  std::int64_t limit = 7;                            // buckets of this page
  Dimensions group;
  std::vector<std::string> projects, models, keys;   // filters; empty: all
};

// Reads start_time, end_time, bucket_width, limit, page, group_by and the filters. `costs`: only days, and line_item.
Result<PageQuery> read_page_query(const Query& query, bool costs, std::int64_t now_s);
// What to ask the ledger for this page.
ledger::UsageQuery ledger_query(const PageQuery& page, const std::string& organization);
// The answer's body.
Result<std::string> usage_page(const PageQuery& page, const std::vector<ledger::UsageRow>& rows);
Result<std::string> costs_page(const PageQuery& page, const std::vector<ledger::UsageRow>& rows);

}  // namespace tokenworks::http
