// The JSON-Schema-Test-Suite (tests/golden/schema_suite.py): whatever is compiled refuses every invalid instance; what is
// not compiled is refused by name; how much of the rest is covered stands in docs/structured_output.md, which must say
// exactly what came out here.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "unit/grammar/vocabulary.hpp"

namespace tokenworks::grammar {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  int schemas = 0, compiled = 0, valid = 0, taken = 0, invalid = 0, refused = 0;
};

bool takes(const Grammar& grammar, const std::string& text) {
  const auto matcher = grammar.matcher();
  return matcher->accept_bytes(text) && matcher->may_end();
}

Json suite() {
  const std::string path = tokenworks::test::golden_path("schema_suite") + "/suite.json";
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + " is missing: run tests/golden/schema_suite.py (tests/run does)");
  return Json::parse(file);
}

// Refusals that are right whatever a schema compiler supports.
bool names_a_keyword(const std::string& message) {
  return message.find("schema keyword '") != std::string::npos || message.find("the pattern at #") != std::string::npos ||
         message.find("nothing can satisfy it") != std::string::npos || message.find("refers to itself") != std::string::npos ||
         message.find("too many alternatives") != std::string::npos;
}

std::string table_of(const std::map<std::string, Row>& rows) {
  std::string out = "| file of the suite | schemas compiled | valid instances taken | invalid ones refused |\n|---|---|---|---|\n";
  for (const auto& [file, r] : rows) {
    const auto of = [](int some, int all) { return std::to_string(some) + " of " + std::to_string(all); };
    out += "| " + file + " | " + of(r.compiled, r.schemas) + " | " + of(r.taken, r.valid) + " | " + of(r.refused, r.invalid) + " |\n";
  }
  return out;
}

TEST(SchemaSuite, NoInvalidInstanceIsEverTakenAndTheDocumentSaysWhatIsCovered) {
  std::map<std::string, Row> rows;
  std::string gaps;
  for (const auto& entry : suite()) {
    Row& row = rows[entry.at("file").get<std::string>()];
    ++row.schemas;
    const std::string schema = entry.at("schema").get<std::string>(), what = entry.at("file").get<std::string>() + ": " + entry.at("description").get<std::string>();
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    if (!grammar) {
      EXPECT_EQ(grammar.error().code, Errc::invalid_request) << what;
      EXPECT_TRUE(names_a_keyword(grammar.error().message)) << what << "\n" << schema << "\n" << grammar.error().message;
      gaps += what + " -- " + grammar.error().message + "\n";
      if (grammar.error().message.find("nothing can satisfy") != std::string::npos) {
        for (const auto& t : entry.at("tests")) EXPECT_FALSE(t.at("valid").get<bool>()) << what << ": " << t.at("description");
      }
      continue;
    }
    ++row.compiled;
    for (const auto& t : entry.at("tests")) {
      std::string took;
      for (const auto& text : t.at("texts")) {
        if (took.empty() && takes(**grammar, text.get<std::string>())) took = text.get<std::string>();
      }
      if (t.at("valid").get<bool>()) {
        ++row.valid;
        row.taken += !took.empty();
        if (took.empty()) gaps += what + ", " + t.at("description").get<std::string>() + " -- not written: " + t.at("texts")[0].get<std::string>() + "\n";
      } else {
        ++row.invalid;
        row.refused += took.empty();
        EXPECT_EQ(took, "") << what << ", " << t.at("description") << "\n" << schema;
      }
    }
  }
  if (tokenworks::test::environment("TOKENWORKS_TEST_SHOW_GAPS", "") == "1") std::printf("%s", gaps.c_str());
  const std::filesystem::path here = __FILE__;
  std::ifstream file(here.parent_path() / "../../../docs/structured_output.md");
  const std::string document{std::istreambuf_iterator<char>(file), {}};
  const std::string table = table_of(rows);
  EXPECT_NE(document.find(table), std::string::npos) << "docs/structured_output.md should hold this table:\n" << table;
}

}  // namespace
}  // namespace tokenworks::grammar
