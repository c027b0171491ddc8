#pragma once
// SchemaCompiler: JSON Schema to rules. What it writes is always valid for the schema; what it does not know it refuses
// by name. Properties come in the schema's order. One compilation, one thread.
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "grammar/budget.hpp"
#include "grammar/json_rules.hpp"
#include "grammar/schema_index.hpp"
#include "grammar/shape.hpp"
#include "tokenworks/grammar/grammar.hpp"

namespace tokenworks::grammar {

class SchemaCompiler {
 public:
  SchemaCompiler(const Json& root, const Limits& limits, RuleBook& book, Budget& budget)
      : root_(root), limits_(limits), book_(book), budget_(budget), json_(book), index_(root, budget) {}
  RuleId run();  // the start rule; mistakes go to the budget
  RuleId run(const Json& part, const std::string& path);  // of a part of the document

 private:
  using Refs = std::vector<const Json*>;  // followed on the way here, without a step into a value

  // schema_read.cpp: schemas to shapes.
  std::vector<Shape> expand(const Json& schema, const std::string& path, Refs& refs);
  std::vector<Shape> expand(const Sub& sub);
  Sub child(const Json& schema, std::string path);  // plain references are followed
  void read_keyword(const std::string& key, const Json& value, const std::string& path, Shape& shape);
  void read_types(const Json& value, const std::string& path, Shape& shape);
  void read_bound(const std::string& key, const Json& value, const std::string& path, Shape& shape);
  void read_properties(const std::string& key, const Json& value, const std::string& path, Shape& shape);
  void read_items(const Json& schema, const std::string& path, Shape& shape);
  // schema_names.cpp
  void read_names(const Json& value, const std::string& path, Shape& shape);
  void name_properties(const std::vector<std::string>& names, Shape& shape);
  std::int64_t count(const std::string& key, const Json& value, const std::string& path);
  const Json* resolve(const Json& schema, const std::string& path);  // what its $ref refers to
  std::vector<Shape> all_of(const std::vector<Shape>& a, const std::vector<Shape>& b);

  // schema_merge.cpp: two shapes as one.
  bool conjoin(const Shape& a, const Shape& b, Shape& both);
  void conjoin_objects(const Shape& a, const Shape& b, Shape& both);
  Sub applied(const Shape& shape, const std::string& name);

  // schema_check.cpp: does a value fit, can two shapes fit one value?
  bool fits(const Json& value, const Shape& shape);
  bool fits(const Json& value, const Sub& sub);
  bool fits_object(const Json& value, const Shape& shape);
  bool disjoint(const Shape& a, const Shape& b, int depth);
  bool disjoint(const Sub& a, const Sub& b, int depth);
  bool disjoint_objects(const Shape& a, const Shape& b, int depth);
  bool matches(const std::string& pattern, const std::string& text, const std::string& path);

  // schema_write.cpp: shapes to expressions.
  Expr value(const Sub& sub);
  Expr write(const Shape& shape);
  Expr write_value(const Json& value);
  Expr write_number(const Shape& shape);
  Expr write_string(const Shape& shape);
  Expr write_held_string(const Shape& shape);  // with a pattern or format
  Expr write_array(const Shape& shape);
  // schema_unique.cpp
  Expr write_unique(const Shape& shape);
  Expr write_ordered(const Shape& shape, const std::vector<const Json*>& all);
  std::optional<std::uint64_t> named_values(const Sub& sub, std::vector<const Json*>& all);
  // schema_object.cpp
  Expr write_object(const Shape& shape);
  Expr write_members(const Shape& shape, std::vector<std::pair<Expr, bool>> members, const std::vector<Expr>& extra,
                     std::int64_t extra_max);
  std::vector<Expr> extra_members(const Shape& shape);

  std::shared_ptr<const Dfa> pattern(const std::string& pattern, const std::string& path);  // of a string's inside
  std::shared_ptr<const Dfa> string_inside(
      const Shape& shape);  // patterns, formats and lengths together; null: anything
  void unsupported(const std::string& keyword, const std::string& path, const std::string& why = {});
  void wrong(const std::string& keyword, const std::string& path, const std::string& what);

  const Json& root_;
  const Limits& limits_;
  RuleBook& book_;
  Budget& budget_;
  JsonRules json_;
  SchemaIndex index_;
  std::map<std::vector<const Json*>, Expr> known_;             // values already written
  std::deque<std::pair<RuleId, std::vector<Shape>>> pending_;  // rules to be written
  std::map<std::string, std::shared_ptr<const Dfa>> patterns_;
  std::map<std::string, Expr> texts_;                           // strings with patterns or formats already written
  int names_within_ = 0;  // propertyNames that are being read
};

// The pattern of a "format"; null when it is not known.
const std::string* format_pattern(const std::string& format);

}  // namespace tokenworks::grammar
