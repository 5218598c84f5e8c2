// Filters: from text to a tree, from a tree to rows.
//
// ParseFilter -> BindFilter -> EvaluateFilter. The language: docs/FILTERS.md.
// Three-valued logic as in SQL: a comparison with a null or missing value is unknown, `not` of
// unknown is unknown, and only rows where the filter is true match. Integers and doubles compare
// exactly. A value of another kind than the literal (in dynamic fields) makes the comparison
// unknown.
// Thread safety: a BoundFilter is immutable; any number of threads may evaluate it.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "base/strings.h"
#include "engine/filter/expr.h"
#include "engine/schema.h"
#include "index/bitset.h"
#include "index/column/column.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

struct FilterProgram;

// Values of $name parameters.
using FilterParameters = StringMap<Value>;

// The tree of `text`; an empty or blank text is kTrue. `$name` takes its value from `parameters`;
// every parameter given must be used. Unimplemented for words of the full language that are not
// served. InvalidArgument, with line, column and a caret line:
//   1:16: unknown character '#'
//     price < 10 and # 3
//                    ^
absl::StatusOr<Expr> ParseFilter(std::string_view text, const FilterParameters& parameters);

// A field that a filter reads.
struct FilterField {
  enum class Source : uint8_t { kDeclared, kDynamic, kKey };
  Source source = Source::kDynamic;
  FieldId id{};      // kDeclared.
  std::string path;  // The name, or for kDynamic a dotted path.
};

// An Expr whose fields are resolved to slots of `fields()` and whose types are checked.
class BoundFilter final {
 public:
  // InvalidArgument (position and caret when `text` is the text that `expr` was parsed from): an
  // unknown field of a collection that is not dynamic, with the closest name; a literal whose type
  // does not fit the declared field; a vector field.
  static absl::StatusOr<BoundFilter> Bind(const Expr& expr, const Schema& schema,
                                          std::string_view text);

  // True if every row matches, without a look at it.
  bool always_true() const { return expr_.kind == Expr::Kind::kTrue; }
  std::span<const FilterField> fields() const { return fields_; }
  const Expr& expr() const { return expr_; }
  // slot(expr.field): the index in fields() of a field's name as written in the tree.
  size_t slot(std::string_view field) const;
  // What EvaluateFilter runs; null when default-constructed, which is always_true.
  const FilterProgram* program() const { return program_.get(); }

 private:
  Expr expr_;
  std::vector<FilterField> fields_;
  StringMap<size_t> slots_;
  std::shared_ptr<const FilterProgram> program_;  // Shared by copies.
};

// Where a filter's values come from: the rows of one segment, by position.
class ScalarSource {
 public:
  virtual ~ScalarSource() = default;
  virtual uint32_t row_count() const = 0;
  // The values of fields()[slot] at positions [first, first + count) into out. count <= 64.
  virtual void Read(size_t slot, uint32_t first, uint32_t count, index::ScalarView* out) const = 0;
};

// Sets `matches` (resized to row_count) to the rows where the filter is true. 64 rows at a time: a
// block that is decided is not read further. Errors: those of `cancel`.
absl::Status EvaluateFilter(const BoundFilter& filter, const ScalarSource& source,
                            index::Bitset& matches, const CancelToken& cancel);

}  // namespace azimuth::engine
