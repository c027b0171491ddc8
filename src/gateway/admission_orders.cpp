#include <algorithm>
#include <nlohmann/json.hpp>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/gateway/orders.hpp"

namespace tokenworks::gateway {
namespace {

using Json = nlohmann::ordered_json;
using Per = config::BudgetSpec::Per;

constexpr std::int64_t kMostMoney = std::int64_t{1} << 60;   // what the books can count
constexpr const char* kPers[] = {"day", "week", "month", "total"};

Error refuse(const std::string& field, const std::string& what) {
  return error(Errc::invalid_request, "'" + field + "' " + what, field);
}

std::string shown(const std::string& text) { return "'" + text.substr(0, 40) + (text.size() > 40 ? "..." : "") + "'"; }

// The members of one object, each asked for once; what nobody asked for is a mistake.
class Members {
 public:
  Members(std::string_view body, std::string_view currency, std::string known) : currency_(currency), known_(std::move(known)) {
    // A repeated member would be read by one and seen by another: refused.
    std::vector<std::string> seen;
    bool twice = false;
    json_ = Json::parse(
        body.empty() ? "{}" : body,
        [&](int depth, Json::parse_event_t event, Json& value) {
          if (depth == 1 && event == Json::parse_event_t::key) {
            const std::string name = value.get<std::string>();
            twice = twice || std::ranges::find(seen, name) != seen.end();
            seen.push_back(name);
          }
          return true;
        },
        false);
    if (json_.is_discarded()) {
      fail(error(Errc::invalid_request, "the body is not valid JSON"));
      json_ = Json::object();
    } else if (!json_.is_object()) {
      fail(error(Errc::invalid_request, "the body must be a JSON object"));
      json_ = Json::object();
    } else if (twice) {
      fail(error(Errc::invalid_request, "a member of the body stands twice"));
    }
  }

  std::string text(const char* name, bool required = false) {
    const Json* value = find(name);
    if (value == nullptr) {
      if (required) fail(refuse(name, "is missing"));
      return {};
    }
    if (value->is_string() && value->get_ref<const std::string&>().empty()) {
      fail(refuse(name, "is empty; leave it out, or say what is meant"));   // never all there is, for the want of a value
      return {};
    }
    if (!value->is_string()) {
      fail(refuse(name, std::string("must be a string") + (value->is_number() ? ", written exactly: \"" + value->dump().substr(0, 40) + "\"" : "")));
      return {};
    }
    return value->get<std::string>();
  }

  Money money(const char* name, bool below_zero = false) {
    const std::string text_value = text(name, true);
    if (mistake_) return {};
    const auto money = parse_money(text_value, currency_);
    if (!money) {
      fail(refuse(name, "= " + money.error().message));
    } else if (money->nano > kMostMoney || money->nano < -kMostMoney) {
      fail(refuse(name, "is " + shown(text_value) + ", more than the books can count"));
    } else if (money->nano < 0 && !below_zero) {
      fail(refuse(name, "is " + shown(text_value) + "; it must not be negative"));
    }
    return money ? *money : Money{};
  }

  std::vector<std::int64_t> percents(const char* name) {
    std::vector<std::int64_t> list;
    const Json* value = find(name);
    if (value == nullptr) return list;
    if (!value->is_array() || value->size() > 32) {
      fail(refuse(name, "must be a list of whole percentages"));
      return list;
    }
    for (const Json& item : *value) {
      if (!item.is_number_integer() || item.get<std::int64_t>() < 1 || item.get<std::int64_t>() > 1000) {
        fail(refuse(name, "holds " + item.dump().substr(0, 40) + "; whole percentages from 1 to 1000 are needed"));
        return list;
      }
      list.push_back(item.get<std::int64_t>());
    }
    return list;
  }

  bool truth(const char* name) {
    const Json* value = find(name);
    if (value == nullptr) return false;
    if (!value->is_boolean()) fail(refuse(name, "must be true or false"));
    return value->is_boolean() && value->get<bool>();
  }

  void fail(Error mistake) {
    if (!mistake_) mistake_ = std::move(mistake);
  }
  // The first mistake, also an unknown member.
  std::optional<Error> done() {
    for (const auto& [name, value] : json_.items()) {
      if (std::ranges::find(asked_, name) == asked_.end()) fail(error(Errc::invalid_request, "unknown field " + shown(name) + "; known are " + known_, name.substr(0, 64)));
    }
    return mistake_;
  }

 private:
  const Json* find(const char* name) {
    asked_.emplace_back(name);
    const auto at = json_.find(name);
    return at == json_.end() || at->is_null() ? nullptr : &*at;
  }

  Json json_;
  std::string_view currency_;
  std::string known_;
  std::vector<std::string> asked_;
  std::optional<Error> mistake_;
};

// "30d", "12h", or an instant in UTC. Whether that has passed is asked where it is booked: the same order may come again later.
Result<std::int64_t> expiry(const std::string& text, std::int64_t now) {
  const auto no_time = [&] {
    return refuse("expires", "is " + shown(text) + "; a duration such as 30d or 12h, or an instant such as 2027-01-01T00:00:00Z, is needed");
  };
  std::int64_t number = 0, ns = 0;
  std::size_t at = 0;
  for (; at < text.size() && at < 9 && text[at] >= '0' && text[at] <= '9'; ++at) number = number * 10 + (text[at] - '0');
  if (at > 0 && at + 1 == text.size()) {
    const std::int64_t unit = text[at] == 's' ? 1 : text[at] == 'm' ? 60 : text[at] == 'h' ? 3600 : text[at] == 'd' ? 86400 : 0;
    if (unit == 0 || number == 0 || __builtin_mul_overflow(number, unit * 1'000'000'000, &ns) || __builtin_add_overflow(ns, now, &ns)) return no_time();
    return ns;
  }
  const auto instant = text.size() == 20 && text.back() == 'Z' ? parse_instant(text) : std::nullopt;
  if (!instant || *instant < 0) return no_time();    // also 31 February: no day that the payer did not write
  ns = *instant;
  if (ns == 0) return refuse("expires", "is " + shown(text) + ", which is in the past");   // 0 stands for never
  return ns;
}

bool good_id(const std::string& id, std::size_t most) {
  return !id.empty() && id.size() <= most && std::ranges::all_of(id, [](char c) { return c > 0x20 && c < 0x7f && c != '/' && c != '"' && c != '\\'; });
}

}  // namespace

const char* per_name(Per per) { return kPers[static_cast<int>(per)]; }

Result<CreditOrder> credit_from_json(std::string_view body, std::int64_t now_unix_ns, std::string_view currency) {
  Members members(body, currency, "id, amount, expires, correction");
  CreditOrder order;
  order.id = members.text("id", true);
  order.correction = members.truth("correction");
  order.amount = members.money("amount", order.correction);
  if (order.amount.nano == 0) members.fail(refuse("amount", "is zero: nothing would be booked"));
  if (!good_id(order.id, 128)) members.fail(refuse("id", "must be 1 to 128 printable characters without spaces, / \" and \\; the same id is booked once"));
  const std::string expires = members.text("expires");
  if (!expires.empty()) {
    const auto when = expiry(expires, now_unix_ns);
    if (!when) {
      members.fail(when.error());
    } else {
      order.expires_unix_ns = *when;
      if (expires.back() != 'Z') order.lasts_ns = *when - now_unix_ns;
    }
    if (order.correction) members.fail(refuse("expires", "belongs to a top-up; a correction has none"));
  }
  if (const auto mistake = members.done()) return *mistake;
  return order;
}

RequestId operation_id(std::string_view organization, std::string_view id) {
  const Digest digest = sha256("tokenworks credit\n" + std::string(organization) + "\n" + std::string(id));
  std::array<std::uint8_t, 10> random{};
  std::copy_n(digest.begin(), 10, random.begin());
  return RequestId::make(0, random);
}

Result<BudgetOrder> budget_from_json(std::string_view body, std::string_view currency) {
  Members members(body, currency, "id, amount, per, mode, warn_at, timezone, project, model, key, tag");
  BudgetOrder order;
  config::BudgetSpec& spec = order.spec;
  order.id = members.text("id", true);
  if (!good_id(order.id, 64)) members.fail(refuse("id", "must be 1 to 64 printable characters without spaces, / \" and \\"));
  spec.amount = members.money("amount");
  const std::string per = members.text("per"), mode = members.text("mode"), zone = members.text("timezone");
  if (!per.empty()) {
    const auto at = std::ranges::find(kPers, per);
    if (at == std::end(kPers)) {
      members.fail(refuse("per", "is " + shown(per) + "; known are day, week, month, total"));
    } else {
      spec.per = static_cast<Per>(at - std::begin(kPers));
    }
  }
  if (!mode.empty() && mode != "hard" && mode != "soft") members.fail(refuse("mode", "is " + shown(mode) + "; known are hard, soft"));
  spec.hard = mode != "soft";
  spec.warn_at = members.percents("warn_at");
  if (!zone.empty()) {
    if (auto known = TimeZone::find(zone); !known) {
      members.fail(refuse("timezone", "is " + shown(zone) + ", which is no time zone of this machine (such as Europe/Berlin)"));
    } else {
      spec.timezone = zone;
    }
  }
  order.project = members.text("project");
  spec.model = members.text("model");
  spec.key = members.text("key");
  spec.tag = members.text("tag");
  const std::size_t equals = spec.tag.find('=');
  if (!spec.tag.empty() && (equals == 0 || equals == std::string::npos || equals + 1 == spec.tag.size() || spec.tag.size() > 600)) {
    members.fail(refuse("tag", "is " + shown(spec.tag) + "; a name and its value such as team=search are needed"));
  }
  if (!spec.tag.empty() && (!spec.model.empty() || !spec.key.empty() || !order.project.empty())) {
    members.fail(refuse("tag", "counts the whole organization's spend with it; leave out model, key and project"));
  }
  if (const auto mistake = members.done()) return *mistake;
  spec.where = {"budget " + order.id, 1};
  return order;
}

std::string budget_json(const BudgetOrder& order, std::string_view currency) {
  Json j;
  j["id"] = order.id;
  j["amount"] = to_string(order.spec.amount, currency);
  j["per"] = per_name(order.spec.per);
  j["mode"] = order.spec.hard ? "hard" : "soft";
  j["warn_at"] = order.spec.warn_at;
  j["timezone"] = order.spec.timezone;
  const auto named = [&](const char* name, const std::string& value) {
    if (!value.empty()) j[name] = value;
  };
  named("project", order.project);
  named("model", order.spec.model);
  named("key", order.spec.key);
  named("tag", order.spec.tag);
  return j.dump();
}

}  // namespace tokenworks::gateway
