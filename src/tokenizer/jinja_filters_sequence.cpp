// Filters that go over lists, dicts and other things to iterate.
#include <algorithm>
#include <unordered_set>

#include "tokenizer/jinja_filters.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

using Kind = Sequence::Kind;
using Items = std::vector<Value>;

Value do_join(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "join", a, {"d", "attribute"});
  const Text separator = p.has(0) ? text_of(m, p.value(0)) : Text();
  const auto items = m.iterate(v);
  Text out;
  for (std::size_t i = 0; i < items->size() && !m.failed(); ++i) {
    if (i > 0) out.append(separator);
    out.append(text_of(m, p.has(1) ? m.get_path((*items)[i], p.value(1)) : (*items)[i]));
    if (out.size() > Machine::kTextBytesMax) return m.fail("join makes too long a text");
  }
  return m.text(std::move(out));
}

Value do_first(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "first", a, {});
  const auto items = m.iterate(v);
  return items->empty() ? m.undefined("there is no first item: the sequence is empty") : items->front();
}

Value do_last(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "last", a, {});
  if (const Sequence* s = v.sequence(); s != nullptr && s->kind == Kind::generator) {
    return m.fail("the last item of a generator is not known");
  }
  const auto items = m.iterate(v);
  return items->empty() ? m.undefined("there is no last item: the sequence is empty") : items->back();
}

Value do_list(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "list", a, {});
  return m.list(*m.iterate(v));
}

Value do_reverse(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "reverse", a, {});
  if (const Text* t = v.text()) return m.text(reverse(*t));
  Items items = *m.iterate(v);
  std::ranges::reverse(items);
  return m.list(std::move(items), Kind::generator);
}

Value do_items(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "items", a, {});
  Items out;
  if (!v.is_undefined() && v.dict() == nullptr) return m.fail(std::string("items of a ") + v.type_name());
  if (const Dict* d = v.dict()) {
    for (const auto& [key, value] : d->entries) out.push_back(m.list({key, value}, Kind::tuple));
  }
  return m.list(std::move(out), Kind::generator);
}

// A stable sort by keys that Python could order; the machine fails when it could not. Keys of several parts (`tuple`)
// compare like lists: by the first part that is not equal.
Items sorted(Machine& m, Items items, std::vector<Items> keys, bool reversed, bool tuple = false) {
  std::vector<std::size_t> places(items.size());
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = i;
  const auto before = [&](std::size_t i, std::size_t j) {
    for (std::size_t k = 0; k < keys[i].size() && !m.failed(); ++k) {
      if (tuple && m.same(keys[i][k], keys[j][k])) continue;
      return m.order(keys[i][k], keys[j][k]).value_or(0) < 0;
    }
    return false;
  };
  // Merge sort by hand: std::stable_sort may misbehave when `before` stops being an order after a failure.
  std::vector<std::size_t> other(places.size());
  for (std::size_t width = 1; width < places.size() && !m.failed(); width *= 2) {
    for (std::size_t begin = 0; begin < places.size(); begin += 2 * width) {
      const std::size_t middle = std::min(begin + width, places.size()),
                        end = std::min(begin + 2 * width, places.size());
      std::size_t left = begin, right = middle, to = begin;
      while (left < middle || right < end) {
        const bool take_right =
            left == middle ||
            (right < end && (reversed ? before(places[left], places[right]) : before(places[right], places[left])));
        other[to++] = take_right ? places[right++] : places[left++];
      }
    }
    places.swap(other);
  }
  Items out;
  for (const std::size_t place : places) out.push_back(items[place]);
  return out;
}

Value do_sort(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "sort", a, {"reverse", "case_sensitive", "attribute"});
  const auto items = m.iterate(v);
  std::vector<Value> paths = {p.value(2, None{})};
  if (const Text* names = paths.front().text()) {    // "age,name"
    paths.clear();
    const std::string comma = ",";
    for (const Text& name : split(*names, &comma, -1, false)) paths.push_back(m.text(name));
  }
  std::vector<Items> keys;
  for (const Value& item : *items) {
    Items key;
    for (const Value& path : paths) key.push_back(without_case(m, m.get_path(item, path), p.truth(1, false)));
    keys.push_back(std::move(key));
    if (m.failed()) return {};
  }
  return m.list(sorted(m, *items, std::move(keys), p.truth(0, false), true));
}

Value do_dictsort(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "dictsort", a, {"case_sensitive", "by", "reverse"});
  const Text* by = p.text(1);
  const bool by_value = by != nullptr && by->bytes() == "value";
  if (by != nullptr && !by_value && by->bytes() != "key") return m.fail("dictsort sorts by 'key' or 'value'");
  if (v.dict() == nullptr) {
    return v.is_undefined() ? m.fail_undefined(v) : m.fail(std::string("dictsort of a ") + v.type_name());
  }
  Items items;
  std::vector<Items> keys;
  for (const auto& [key, value] : v.dict()->entries) {
    items.push_back(m.list({key, value}, Kind::tuple));
    keys.push_back({without_case(m, by_value ? value : key, p.truth(0, false))});
  }
  return m.list(sorted(m, std::move(items), std::move(keys), p.truth(2, false)));
}

Value do_unique(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "unique", a, {"case_sensitive", "attribute"});
  std::unordered_set<std::string> seen;
  Items out;
  for (const auto items = m.iterate(v); const Value& item : *items) {
    const auto key = key_of(without_case(m, m.get_path(item, p.value(1, None{})), p.truth(0, false)));
    if (!key) return m.fail(std::string("unique: unhashable type '") + item.type_name() + "'");
    if (seen.insert(*key).second) out.push_back(item);
  }
  return m.list(std::move(out), Kind::generator);
}

Value extreme(Machine& m, const Value& v, Arguments& a, const char* name, int sign) {
  Parameters p(m, name, a, {"case_sensitive", "attribute"});
  const auto items = m.iterate(v);
  if (items->empty()) return m.undefined("there is no aggregated item: the sequence is empty");
  const auto key = [&](const Value& item) {
    return without_case(m, m.get_path(item, p.value(1, None{})), p.truth(0, false));
  };
  Value best = items->front(), best_key = key(best);
  for (std::size_t i = 1; i < items->size() && !m.failed(); ++i) {
    Value k = key((*items)[i]);
    if (m.order(k, best_key).value_or(0) * sign > 0) best = (*items)[i], best_key = std::move(k);
  }
  return best;
}
Value do_min(Machine& m, const Value& v, Arguments& a) { return extreme(m, v, a, "min", -1); }
Value do_max(Machine& m, const Value& v, Arguments& a) { return extreme(m, v, a, "max", 1); }

Value do_sum(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "sum", a, {"attribute", "start"});
  Value total = p.value(1, std::int64_t{0});
  if (total.text() != nullptr) return m.fail("sum does not add texts");
  for (const auto items = m.iterate(v); const Value& item : *items) {
    total = m.binary("+", total, m.get_path(item, p.value(0, None{})));
    if (m.failed()) break;
  }
  return total;
}

Value do_map(Machine& m, const Value& v, Arguments& a) {
  Items out;
  if (!truth(v)) return m.list({}, Kind::generator);
  const auto items = m.iterate(v);
  if (a.items.empty()) {
    Parameters p(m, "map", a, {"attribute", "default"}, 1);
    for (const Value& item : *items) {
      Value found = m.get_path(item, p.value(0));
      out.push_back(found.is_undefined() && p.has(1) && !p.value(1).is_none() ? p.value(1) : std::move(found));
      if (m.failed()) break;
    }
    return m.list(std::move(out), Kind::generator);
  }
  const Text* name = a.items.front().text();
  if (name == nullptr) return m.fail("map needs the name of a filter");
  for (const Value& item : *items) {
    Arguments rest{{a.items.begin() + 1, a.items.end()}, a.named};
    out.push_back(m.filter(name->bytes(), item, rest));
    if (m.failed()) break;
  }
  return m.list(std::move(out), Kind::generator);
}

Value choose(Machine& m, const Value& v, Arguments& a, bool by_attribute, bool keep) {
  if (!truth(v)) return m.list({}, Kind::generator);
  if (by_attribute && a.items.empty()) return m.fail("the name of an attribute is missing");
  const std::size_t skipped = by_attribute ? 1 : 0;
  const bool tested = a.items.size() > skipped;
  const Text* name = tested ? a.items[skipped].text() : nullptr;
  if (tested && name == nullptr) return m.fail("the name of a test is missing");
  Items out;
  for (const auto items = m.iterate(v); const Value& item : *items) {
    const Value subject = by_attribute ? m.get_path(item, a.items.front()) : item;
    bool holds = truth(subject);
    if (tested) {
      Arguments rest{{a.items.begin() + static_cast<std::ptrdiff_t>(skipped) + 1, a.items.end()}, a.named};
      holds = !m.failed() && m.test(name->bytes(), subject, rest);
    }
    if (m.failed()) break;
    if (holds == keep) out.push_back(item);
  }
  return m.list(std::move(out), Kind::generator);
}
Value do_select(Machine& m, const Value& v, Arguments& a) { return choose(m, v, a, false, true); }
Value do_reject(Machine& m, const Value& v, Arguments& a) { return choose(m, v, a, false, false); }
Value do_selectattr(Machine& m, const Value& v, Arguments& a) { return choose(m, v, a, true, true); }
Value do_rejectattr(Machine& m, const Value& v, Arguments& a) { return choose(m, v, a, true, false); }

Value do_batch(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "batch", a, {"linecount", "fill_with"}, 1);
  const std::int64_t size = p.integer(0, 1);
  if (size < 1 || size > Machine::kItemsMax) return m.fail("batch: the line count is out of range");
  Items rows, row;
  for (const auto items = m.iterate(v); const Value& item : *items) {
    if (static_cast<std::int64_t>(row.size()) == size) rows.push_back(m.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (p.has(1) && !p.value(1).is_none()) row.resize(static_cast<std::size_t>(size), p.value(1));
    rows.push_back(m.list(std::move(row)));
  }
  return m.list(std::move(rows), Kind::generator);
}

Value do_slice(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "slice", a, {"slices", "fill_with"}, 1);
  const std::int64_t count = p.integer(0, 1);
  if (count < 1 || count > Machine::kItemsMax) return m.fail("slice: the number of slices is out of range");
  const auto items = m.iterate(v);
  const auto slices = static_cast<std::size_t>(count), each = items->size() / slices, extra = items->size() % slices;
  Items out;
  std::size_t at = 0;
  for (std::size_t i = 0; i < slices; ++i) {
    const std::size_t size = each + (i < extra ? 1 : 0);
    Items part(items->begin() + static_cast<std::ptrdiff_t>(at),
               items->begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
    if (p.has(1) && !p.value(1).is_none() && i >= extra) part.push_back(p.value(1));
    out.push_back(m.list(std::move(part)));
  }
  return m.list(std::move(out), Kind::generator);
}

Value do_groupby(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "groupby", a, {"attribute", "default", "case_sensitive"}, 1);
  const auto items = m.iterate(v);
  const auto read = [&](const Value& item) {
    Value found = m.get_path(item, p.value(0));
    return found.is_undefined() && p.has(1) && !p.value(1).is_none() ? p.value(1) : found;
  };
  std::vector<Items> keys;
  for (const Value& item : *items) keys.push_back({without_case(m, read(item), p.truth(2, false))});
  const Items in_order = sorted(m, *items, keys, false);
  Items groups, group;
  const auto finish = [&] {
    if (group.empty()) return;
    const Value shown = read(group.front());
    groups.push_back(m.list({shown, m.list(std::exchange(group, {}))}, Kind::tuple, "group"));
  };
  for (const Value& item : in_order) {
    const bool same = !group.empty() && m.same(without_case(m, read(group.front()), p.truth(2, false)),
                                               without_case(m, read(item), p.truth(2, false)));
    if (!same) finish();
    group.push_back(item);
  }
  finish();
  return m.list(std::move(groups));
}

constexpr NamedFilter kFilters[] = {{"batch", do_batch},
                                    {"dictsort", do_dictsort},
                                    {"first", do_first},
                                    {"groupby", do_groupby},
                                    {"items", do_items},
                                    {"join", do_join},
                                    {"last", do_last},
                                    {"list", do_list},
                                    {"map", do_map},
                                    {"max", do_max},
                                    {"min", do_min},
                                    {"reject", do_reject},
                                    {"rejectattr", do_rejectattr},
                                    {"reverse", do_reverse},
                                    {"select", do_select},
                                    {"selectattr", do_selectattr},
                                    {"slice", do_slice},
                                    {"sort", do_sort},
                                    {"sum", do_sum},
                                    {"unique", do_unique}};

}  // namespace

std::span<const NamedFilter> sequence_filters() { return kFilters; }

}  // namespace tokenworks::tokenizer::jinja
