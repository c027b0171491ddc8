#pragma once
// ModelSet: the models that are served at one instant, with the names they go by. Immutable and replaced whole, so a
// request finds either the old picture or the new one; it holds its model, which lives on until the last request of it has
// ended, whatever the set says meanwhile. Who makes the sets (src/app/model_house) also destroys the engines.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/gateway/plant.hpp"

namespace tokenworks::gateway {

struct ModelSet {
  struct Entry {
    std::shared_ptr<const ServedModel> model;
    std::vector<std::string> aliases, data_classes;  // may change while the engine stays
    ModelCard card() const {
      ModelCard card = model->card;
      card.aliases = aliases;
      return card;
    }
  };
  std::vector<Entry> entries;

  // By id or alias; null: nothing goes by that name.
  const Entry* find(std::string_view name) const {
    for (const Entry& e : entries) {
      if (e.model->card.id == name) return &e;
      for (const std::string& alias : e.aliases) {
        if (alias == name) return &e;
      }
    }
    return nullptr;
  }
};

}  // namespace tokenworks::gateway
