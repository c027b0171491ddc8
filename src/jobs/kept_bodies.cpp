#include "kept_bodies.hpp"

namespace tokenworks::jobs {

void KeptBodies::keep(const Place& place, std::int64_t bytes) {
  drop(place);
  if (bytes <= 0) return;
  Keeper& keeper = keepers_[place.first];
  keeper.bodies[place.second] = {next_, bytes};
  keeper.by_age[next_++] = place.second;
  change(place.first, keeper, bytes);
}

void KeptBodies::drop(const Place& place) {
  const auto found = keepers_.find(place.first);
  if (found == keepers_.end()) return;
  Keeper& keeper = found->second;
  const auto body = keeper.bodies.find(place.second);
  if (body == keeper.bodies.end()) return;
  const std::int64_t bytes = body->second.bytes;
  keeper.by_age.erase(body->second.number);
  keeper.bodies.erase(body);
  change(place.first, keeper, -bytes);
  if (keeper.bodies.empty()) keepers_.erase(found);
}

void KeptBodies::change(const std::string& organization, Keeper& keeper, std::int64_t bytes) {
  by_bytes_.erase({keeper.bytes, organization});
  keeper.bytes += bytes;
  bytes_ += bytes;
  if (keeper.bytes > 0) by_bytes_.emplace(keeper.bytes, organization);
}

std::optional<KeptBodies::Place> KeptBodies::too_many() const {
  if (by_bytes_.empty()) return std::nullopt;
  const auto& [most, organization] = *by_bytes_.rbegin();
  if (most <= bounds_.bytes_per_organization && bytes_ <= bounds_.bytes) return std::nullopt;
  return Place{organization, keepers_.at(organization).by_age.begin()->second};
}

}  // namespace tokenworks::jobs
