// The tests behind `is`, `select` and their kin.
#include <cmath>
#include <unordered_map>

#include "tokenizer/jinja_machine.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

bool alone(Machine& m, const char* name, Arguments& a) { return Parameters(m, name, a, {}), !m.failed(); }

// v % by, for odd, even and divisibleby.
std::optional<double> modulo(Machine& m, const Value& v, const Value& by) {
  const Value r = m.failed() ? Value() : m.binary("%", v, by);
  return r.number();
}

template <class Holds>
bool ordered(Machine& m, const Value& v, Arguments& a, const char* name, Holds holds) {
  Parameters p(m, name, a, {"other"}, 1);
  const auto sign = m.failed() ? std::nullopt : m.order(v, p.value(0));
  return sign && holds(*sign);
}

bool is_equal(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "eq", a, {"other"}, 1);
  return !m.failed() && m.same(v, p.value(0));
}
bool is_unequal(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "ne", a, {"other"}, 1);
  return !m.failed() && !m.same(v, p.value(0));
}
bool is_greater(Machine& m, const Value& v, Arguments& a) {
  return ordered(m, v, a, "gt", [](int s) { return s > 0; });
}
bool is_at_least(Machine& m, const Value& v, Arguments& a) {
  return ordered(m, v, a, "ge", [](int s) { return s >= 0; });
}
bool is_less(Machine& m, const Value& v, Arguments& a) { return ordered(m, v, a, "lt", [](int s) { return s < 0; }); }
bool is_at_most(Machine& m, const Value& v, Arguments& a) {
  return ordered(m, v, a, "le", [](int s) { return s <= 0; });
}
bool is_in(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "in", a, {"seq"}, 1);
  return !m.failed() && m.contains(p.value(0), v);
}
bool is_same_as(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "sameas", a, {"other"}, 1);
  return identical(v, p.value(0));
}
bool is_odd(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "odd", a) && modulo(m, v, std::int64_t{2}) == 1.0;
}
bool is_even(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "even", a) && modulo(m, v, std::int64_t{2}) == 0.0;
}
bool is_divisible(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "divisibleby", a, {"num"}, 1);
  return modulo(m, v, p.value(0)) == 0.0;
}

bool is_defined(Machine& m, const Value& v, Arguments& a) { return alone(m, "defined", a) && !v.is_undefined(); }
bool is_undefined(Machine& m, const Value& v, Arguments& a) { return alone(m, "undefined", a) && v.is_undefined(); }
bool is_none(Machine& m, const Value& v, Arguments& a) { return alone(m, "none", a) && v.is_none(); }
bool is_boolean(Machine& m, const Value& v, Arguments& a) { return alone(m, "boolean", a) && v.is_bool(); }
bool is_true(Machine& m, const Value& v, Arguments& a) { return alone(m, "true", a) && v.is_bool() && v.boolean(); }
bool is_false(Machine& m, const Value& v, Arguments& a) { return alone(m, "false", a) && v.is_bool() && !v.boolean(); }
bool is_integer(Machine& m, const Value& v, Arguments& a) { return alone(m, "integer", a) && v.is_int(); }
bool is_float(Machine& m, const Value& v, Arguments& a) { return alone(m, "float", a) && v.is_float(); }
bool is_number(Machine& m, const Value& v, Arguments& a) { return alone(m, "number", a) && v.is_number(); }
bool is_string(Machine& m, const Value& v, Arguments& a) { return alone(m, "string", a) && v.text() != nullptr; }
bool is_mapping(Machine& m, const Value& v, Arguments& a) { return alone(m, "mapping", a) && v.dict() != nullptr; }
bool is_sequence(Machine& m, const Value& v, Arguments& a) {
  const Sequence* s = v.sequence();
  return alone(m, "sequence", a) &&
         (v.is_undefined() || v.text() != nullptr || v.dict() != nullptr ||
          (s != nullptr && s->kind != Sequence::Kind::generator && s->kind != Sequence::Kind::view));
}
bool is_iterable(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "iterable", a) && (v.is_undefined() || v.text() != nullptr || v.dict() != nullptr ||
                                     v.sequence() != nullptr || v.loop() != nullptr);
}
bool is_callable(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "callable", a) &&
         (v.is_undefined() || v.function() != nullptr || v.macro() != nullptr || v.loop() != nullptr);
}
bool is_lower(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "lower", a) && is_cased_as(m.str(v).bytes(), false);
}
bool is_upper(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "upper", a) && is_cased_as(m.str(v).bytes(), true);
}
bool is_escaped(Machine& m, const Value&, Arguments& a) { return alone(m, "escaped", a) && false; }
bool hashable(Machine& m, const Value& v) {
  if (!key_of(v)) m.fail(std::string("unhashable type '") + v.type_name() + "'");
  return !m.failed();
}
bool is_filter(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "filter", a) && hashable(m, v) && v.text() != nullptr && find_filter(v.text()->bytes()) != nullptr;
}
bool is_test(Machine& m, const Value& v, Arguments& a) {
  return alone(m, "test", a) && hashable(m, v) && v.text() != nullptr && find_test(v.text()->bytes()) != nullptr;
}

}  // namespace

Test find_test(const std::string& name) {
  static const std::unordered_map<std::string, Test> kTests = {{"odd", is_odd},
                                                               {"even", is_even},
                                                               {"divisibleby", is_divisible},
                                                               {"defined", is_defined},
                                                               {"undefined", is_undefined},
                                                               {"filter", is_filter},
                                                               {"test", is_test},
                                                               {"none", is_none},
                                                               {"boolean", is_boolean},
                                                               {"false", is_false},
                                                               {"true", is_true},
                                                               {"integer", is_integer},
                                                               {"float", is_float},
                                                               {"lower", is_lower},
                                                               {"upper", is_upper},
                                                               {"string", is_string},
                                                               {"mapping", is_mapping},
                                                               {"number", is_number},
                                                               {"sequence", is_sequence},
                                                               {"iterable", is_iterable},
                                                               {"callable", is_callable},
                                                               {"sameas", is_same_as},
                                                               {"escaped", is_escaped},
                                                               {"in", is_in},
                                                               {"==", is_equal},
                                                               {"eq", is_equal},
                                                               {"equalto", is_equal},
                                                               {"!=", is_unequal},
                                                               {"ne", is_unequal},
                                                               {">", is_greater},
                                                               {"gt", is_greater},
                                                               {"greaterthan", is_greater},
                                                               {">=", is_at_least},
                                                               {"ge", is_at_least},
                                                               {"<", is_less},
                                                               {"lt", is_less},
                                                               {"lessthan", is_less},
                                                               {"<=", is_at_most},
                                                               {"le", is_at_most}};
  const auto it = kTests.find(name);
  return it == kTests.end() ? nullptr : it->second;
}

}  // namespace tokenworks::tokenizer::jinja
