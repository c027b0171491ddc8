#include "tokenworks/tenancy/directory.hpp"

#include <algorithm>

#include "key_text.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::tenancy {
namespace {

struct ByText {                                      // strings found by views
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

class Snapshot final : public Directory {
 public:
  struct Key {
    Digest secret_hash{};
    Principal principal;
  };

  Result<const Principal*> find(std::string_view key_text, std::int64_t unix_ns) const override;

  Result<Principal> member(std::string_view organization, std::string_view project, std::string_view key) const override;

  const config::OrganizationSpec* organization(std::string_view name) const override {
    const auto it = organizations_by_name_.find(name);
    return it == organizations_by_name_.end() ? nullptr : &organizations_[it->second];
  }
  const std::vector<config::OrganizationSpec>& organizations() const override { return organizations_; }

  Result<> read(const config::Tenants& tenants, std::map<std::string, std::uint32_t>& tenant_numbers);
  // What is wrong with a row, or "" when its key is now in the directory.
  std::string add(const ledger::KeyRow& row, const std::map<std::string, std::uint32_t>& tenant_numbers);

 private:
  const config::PlanSpec* plan(std::string_view name) const {
    const auto it = std::ranges::find(plans_, name, &config::PlanSpec::name);
    return it == plans_.end() ? nullptr : &*it;
  }

  // "" or what is wrong with the place; fills in everything that follows from it.
  std::string settle_in(Principal& who, std::uint32_t tenant) const;

  std::vector<config::PlanSpec> plans_;              // principals point into these: never changed after read()
  std::vector<config::OrganizationSpec> organizations_;
  std::unordered_map<std::string, std::size_t, ByText, std::equal_to<>> organizations_by_name_;
  std::unordered_map<std::string, std::uint32_t, ByText, std::equal_to<>> numbers_;
  std::unordered_map<std::string, Key, ByText, std::equal_to<>> keys_;   // by id
};

Error invalid(const std::string& why) { return error(Errc::invalid_api_key, why); }

Result<const Principal*> Snapshot::find(std::string_view key_text, std::int64_t unix_ns) const {
  const auto id = id_of_key(key_text);
  if (!id) return invalid("This is not an API key of this plant; send 'Authorization: Bearer sk-tw-...'");
  const auto it = keys_.find(*id);
  // The same work for an id that does not exist: ids cannot be told apart by time.
  static const Key kNobody;
  const Key& key = it == keys_.end() ? kNobody : it->second;
  const bool right = equal_constant_time(sha256(key_text), key.secret_hash);
  if (it == keys_.end() || !right) return invalid("This API key is not known here; check that it was copied whole, or make a new one");
  const Principal& who = key.principal;
  const std::string shown = "The API key " + std::string(*id);
  if (who.revoked_unix_ns != 0 && unix_ns >= who.revoked_unix_ns) return invalid(shown + " was revoked; use its successor or make a new one");
  if (who.expires_unix_ns != 0 && unix_ns >= who.expires_unix_ns) return invalid(shown + " has expired; make a new one");
  return &who;
}

Result<> Snapshot::read(const config::Tenants& tenants, std::map<std::string, std::uint32_t>& tenant_numbers) {
  plans_ = tenants.plans;
  organizations_ = tenants.organizations;
  std::string mistakes;
  for (std::size_t i = 0; i < organizations_.size(); ++i) {
    const config::OrganizationSpec& o = organizations_[i];
    const auto mistake = [&](const std::string& what) {
      mistakes += (mistakes.empty() ? "" : "\n") + o.where.file + ":" + std::to_string(o.where.line) + ": organization " + o.name + ": " + what;
    };
    if (!organizations_by_name_.emplace(o.name, i).second) mistake("is there twice");
    if (plan(o.plan) == nullptr) mistake("has no plan named '" + o.plan + "'");
    for (const config::AccessRule& rule : o.access) {
      if (auto zone = TimeZone::find(rule.timezone); !zone) mistake("access: " + zone.error().message);
      if (rule.from_minute < 0 || rule.from_minute > 1440 || rule.to_minute < 0 || rule.to_minute > 1440) {
        mistake("access: from and to must be between 00:00 and 24:00");
      }
      if (std::ranges::any_of(rule.days, [](int d) { return d < 0 || d > 6; })) mistake("access: days are mon to sun");
    }
  }
  if (!mistakes.empty()) return error(Errc::bad_config, mistakes);
  for (const config::OrganizationSpec& o : organizations_) {
    numbers_[o.name] = tenant_numbers.try_emplace(o.name, static_cast<std::uint32_t>(tenant_numbers.size())).first->second;
  }
  return {};
}

std::string Snapshot::settle_in(Principal& who, std::uint32_t tenant) const {
  who.organization_spec = organization(who.organization.value);
  if (who.organization_spec == nullptr) return "its organization " + who.organization.value + " is not configured";
  const std::string prefix = who.organization.value + "/";
  const auto& projects = who.organization_spec->projects;
  const auto project = std::ranges::find_if(projects, [&](const config::ProjectSpec& p) { return prefix + p.name == who.project.value; });
  if (project == projects.end()) return "its project " + who.project.value + " is not configured";
  who.project_spec = &*project;
  who.plan = plan(who.organization_spec->plan);
  who.tenant = tenant;
  return "";
}

Result<Principal> Snapshot::member(std::string_view organization, std::string_view project, std::string_view key) const {
  Principal who;
  who.key = {std::string(key)};
  who.organization = {std::string(organization)};
  who.project = {std::string(project)};
  who.principal = "user:" + std::string(key);
  const auto number = numbers_.find(organization);
  const std::string why = settle_in(who, number == numbers_.end() ? 0 : number->second);
  if (!why.empty()) return error(Errc::insufficient_permissions, "This bearer token cannot be used here: " + why);
  return who;
}

std::string Snapshot::add(const ledger::KeyRow& row, const std::map<std::string, std::uint32_t>& tenant_numbers) {
  const auto role = role_of(row.role);
  if (!role) return "its role '" + row.role + "' is unknown";
  Principal who;
  who.key = row.id;
  who.organization = row.organization;
  who.project = row.project;
  who.role = *role;
  who.principal = row.principal;
  who.key_models = row.models;
  who.expires_unix_ns = row.expires_unix_ns;
  who.revoked_unix_ns = row.revoked_unix_ns;
  if (!row.limits.empty()) {
    const auto limits = parse_limits(row.limits);
    if (!limits) return "its limits cannot be read: " + limits.error().message;
    who.limits = *limits;
  }
  if (row.organization.value.empty()) {
    if (!plant_role(*role)) return "it belongs to no organization and its role is not one of the plant";
  } else {
    const auto number = tenant_numbers.find(row.organization.value);
    const std::string why = settle_in(who, number == tenant_numbers.end() ? 0 : number->second);
    if (!why.empty()) return why;
  }
  keys_.insert_or_assign(row.id.value, Key{row.secret_hash, std::move(who)});
  return "";
}

}  // namespace

Result<std::shared_ptr<const Directory>> Directory::build(const config::Tenants& tenants, const std::vector<ledger::KeyRow>& keys,
                                                          std::map<std::string, std::uint32_t>& tenant_numbers) {
  auto directory = std::make_shared<Snapshot>();
  if (auto read = directory->read(tenants, tenant_numbers); !read) return read.error();
  for (const ledger::KeyRow& row : keys) {
    // A key nobody can use is no reason not to serve the others.
    if (const std::string why = directory->add(row, tenant_numbers); !why.empty()) {
      log::warn("key_ignored", {{"key", row.id.value}, {"why", why}});
    }
  }
  return std::shared_ptr<const Directory>(std::move(directory));
}

}  // namespace tokenworks::tenancy
