#pragma once
// Directory: who may do what. Built from the tenants' configuration and the key rows of the ledger, immutable, swapped as
// a snapshot. Looking a key up is a hash, a map and a constant-time compare: no SQL, no lock.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/ledger/rows.hpp"
#include "tokenworks/tenancy/roles.hpp"

namespace tokenworks::tenancy {

// The owner of a valid key, with everything about it resolved. Lives in the directory; hold the snapshot meanwhile.
struct Principal {
  KeyId key;
  OrganizationId organization;                       // empty: a key of the plant
  ProjectId project;                                 // "acme/default"
  Role role = Role::member;
  std::string principal;                             // "service:default"
  std::vector<std::string> key_models;               // narrowing by the key; empty: none
  std::int64_t expires_unix_ns = 0, revoked_unix_ns = 0;
  std::optional<config::LimitSpec> limits;           // of the key itself
  const config::OrganizationSpec* organization_spec = nullptr;
  const config::ProjectSpec* project_spec = nullptr;
  const config::PlanSpec* plan = nullptr;
  std::uint32_t tenant = 0;                          // dense number of the organization, stable across reloads
};

class Directory {
 public:
  virtual ~Directory() = default;
  // `tenant_numbers` maps organization names to dense numbers and outlives reloads; new names are added.
  static Result<std::shared_ptr<const Directory>> build(const config::Tenants& tenants, const std::vector<ledger::KeyRow>& keys,
                                                        std::map<std::string, std::uint32_t>& tenant_numbers);
  // The principal of a bearer text, or invalid_api_key (unknown, expired, revoked: the message says which, never the key).
  virtual Result<const Principal*> find(std::string_view key_text, std::int64_t unix_ns) const = 0;
  // A member of the project who came without a key: insufficient_permissions when there is no such project. Points into the
  // directory; `key` stands where a key's id does.
  virtual Result<Principal> member(std::string_view organization, std::string_view project, std::string_view key) const = 0;
  virtual const config::OrganizationSpec* organization(std::string_view name) const = 0;
  virtual const std::vector<config::OrganizationSpec>& organizations() const = 0;
};

// Whether `who` may use `model` (its id) now, here, for data of this class: model_not_allowed, model_not_allowed_now (with
// the rule's next opening in the message), residency_violation.
struct UseCase {
  std::string_view model;
  const std::vector<std::string>* model_data_classes = nullptr;
  std::string_view data_class;
  std::string_view jurisdiction;                     // of this plant
  std::int64_t unix_ns = 0;
};
Result<> may_use(const Principal& who, const UseCase& use);
// The data class of a request: what it named, else its project's, else the model's first.
std::string data_class_of(const Principal& who, const std::string& named, const std::vector<std::string>& model_data_classes);
// Whether `who` is allowed the model at some time: model_not_allowed says which list lacks it.
Result<> may_see(const Principal& who, std::string_view model);

// A new key: the text shown once and the row to store. Id and secret from `random` (at least 48 bytes).
struct NewKey {
  std::string text;                                  // "sk-tw-<8>-<40>"
  ledger::KeyRow row;
};
struct KeyOrder {
  std::string organization, project = "default", role = "member", principal, principal_default = "service:default";
  std::vector<std::string> models;
  std::int64_t expires_unix_ns = 0;
  config::LimitSpec limits;                          // narrow what organization and project have
};
// Checks the order against the tenants (unknown organization, project, model; roles of the plant take none).
Result<NewKey> make_key(const KeyOrder& order, const config::Tenants& tenants, const std::vector<std::string>& model_ids,
                        std::int64_t unix_ns);

// A key with the same rights as `old`, and what becomes of `old`: it works for `grace_ns` more, or until it would have
// ended anyway. invalid_request when `old` has ended already.
struct Rotation {
  NewKey fresh;
  ledger::KeyRow old;
};
Result<Rotation> rotate_key(const ledger::KeyRow& old, std::int64_t grace_ns, std::int64_t unix_ns);

}  // namespace tokenworks::tenancy
