#pragma once
// Roles of an ApiKey, and what each may do. An enum, checked on every admin route.
#include <cstdint>
#include <optional>
#include <string_view>

namespace tokenworks::tenancy {

enum class Role : std::uint8_t { member, org_admin, billing, auditor, model_owner, security_officer, operator_ };

inline constexpr std::string_view kRoleNames[] = {"member",      "org_admin",        "billing", "auditor",
                                                  "model_owner", "security_officer", "operator"};
inline std::string_view name(Role role) { return kRoleNames[static_cast<int>(role)]; }
inline std::optional<Role> role_of(std::string_view text) {
  for (int i = 0; i < 7; ++i) {
    if (kRoleNames[i] == text) return static_cast<Role>(i);
  }
  return std::nullopt;
}
// Keys of the plant itself belong to no organization.
inline bool plant_role(Role role) {
  return role == Role::operator_ || role == Role::security_officer || role == Role::auditor;
}
// Who may spend tokens. The others look at books, keys or weights and have no business with a model.
inline bool may_use_models(Role role) { return role == Role::member || role == Role::org_admin; }

}  // namespace tokenworks::tenancy
