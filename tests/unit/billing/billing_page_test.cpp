// The worked examples of docs/billing.md: every price list on the page is loaded, every command under it is asked of the same
// book and rating that charge requests, and what it prints must stand below it, character by character. With
// TOKENWORKS_BILLING_PAGE=FILE the page is written as it should be.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "support/paths.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/billing/quote.hpp"

namespace tokenworks::billing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlant = R"(data_dir: data
prices: prices.yaml
tenants: tenants.yaml
models: [{id: small, path: model.gguf}, {id: large, path: model.gguf}]
)";
constexpr const char* kTenants = R"(plans: {starter: {}}
organizations: {acme: {plan: starter}, beta: {plan: starter}}
)";

class Shop {
 public:
  Shop() {
    write("tokenworks.yaml", kPlant);
    write("tenants.yaml", kTenants);
    write("model.gguf", "GGUF");
  }
  void load(const std::string& prices) {
    write("prices.yaml", prices);
    const auto loaded = config::load(folder_.path() + "/tokenworks.yaml");
    ASSERT_TRUE(loaded) << loaded.error().message;
    auto book = PriceBook::make(loaded->prices);
    ASSERT_TRUE(book) << book.error().message;
    book_ = *book;
  }
  // What `tokenworks price ...` prints.
  std::string run(const std::string& command) const {
    std::map<std::string, std::string> flags;
    std::istringstream words(command);
    for (std::string flag, value; words >> flag;) {
      if (flag.starts_with("--") && words >> value) flags[flag.substr(2)] = value;
    }
    const auto number = [&](const char* flag) { return flags.contains(flag) ? std::stoll(flags[flag]) : 0LL; };
    PriceQuestion asked;
    asked.model = flags["model"];
    asked.organization = flags["organization"];
    if (!flags["organization"].empty()) asked.plan = "starter";
    if (flags["tier"] == "priority") asked.tier = Tier::priority;
    asked.prompt_tokens = std::max(number("input"), number("embedding"));
    asked.unix_ns = parse_instant(flags["at"]).value();
    const std::int64_t cached = number("cached"), written = number("cache-write"), reasoning = number("reasoning");
    const auto q = quote(*book_, asked, {number("input") - cached - written, cached, written, number("output") - reasoning, reasoning, number("embedding")});
    if (!q) return q.error().message;
    std::string text = "model      " + flags["model"] + "\n" + to_text(*q, asked);
    const std::string folder = folder_.path() + "/";
    for (std::size_t at; (at = text.find(folder)) != std::string::npos;) text.erase(at, folder.size());
    return text;
  }

 private:
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder_.path() + "/" + name) << text; }

  test::ScratchDir folder_;
  std::shared_ptr<const PriceBook> book_;
};

TEST(BillingPage, EveryWorkedExampleIsWhatTheProgramComputes) {
  const fs::path path = fs::path(__FILE__).parent_path() / "../../../docs/billing.md";
  std::ifstream in(path);
  ASSERT_TRUE(in.good());
  Shop shop;
  std::string block, page, right;                    // the page as it is, and as it should be
  enum class Inside : std::uint8_t { prose, prices, console } inside = Inside::prose;
  int lists = 0, commands = 0;
  for (std::string line; std::getline(in, line);) {
    page += line + "\n";
    if (inside == Inside::prose) {
      inside = line == "```yaml" ? Inside::prices : line == "```console" ? Inside::console : Inside::prose;
      block.clear();
    } else if (line == "```") {
      if (inside == Inside::prices) {
        ASSERT_NO_FATAL_FAILURE(shop.load(block)) << block;
        ++lists;
      }
      inside = Inside::prose;
    } else if (inside == Inside::prices) {
      block += line + "\n";
    } else if (line.starts_with("$ tokenworks price ")) {
      right += line + "\n" + shop.run(line.substr(2));
      ++commands;
      continue;
    } else {
      continue;                                      // what a command prints: written anew
    }
    right += line + "\n";
  }
  EXPECT_EQ(right, page);
  EXPECT_EQ(lists, 5);
  EXPECT_EQ(commands, 13);
  if (const std::string out = test::environment("TOKENWORKS_BILLING_PAGE", ""); !out.empty()) std::ofstream(out) << right;
}

}  // namespace
}  // namespace tokenworks::billing
