// Expr: the tree of a filter. One tree for the text form and for every other front end.
//
// Nodes are n-ary (`a and b and c` is one node), so that depth is bounded by nesting alone, and
// recursion over trees by kFilterDepthMax. Thread safety: a plain value, immutable once bound.
#pragma once

#include "base/value.h"

#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::engine {

enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe };

// Where in the text a node stands: line and column from 1, columns in characters (code points).
struct TextPosition {
  uint32_t line = 1;
  uint32_t column = 1;
};

struct Expr {
  enum class Kind : uint8_t {
    kTrue,           // Matches every row: the empty filter.
    kAnd,            // children, two or more.
    kOr,             // children, two or more.
    kNot,            // one child.
    kCompare,        // field op literal. (Literal op field is turned round by the parser.)
    kCompareFields,  // field op other_field.
    kIn,             // field in literals.
    kIsNull,         // field is null: null or missing. `is not null` is a kNot of it.
    kBoolField,      // A field that stands alone: true where it is the boolean true.
  };

  Kind kind = Kind::kTrue;
  CompareOp op = CompareOp::kEq;
  std::string field{};  // As written: a name, or a dotted path into dynamic maps.
  std::string other_field{};
  std::vector<Value> literals{};  // One for kCompare. Scalars only.
  std::vector<Expr> children{};
  TextPosition position{};        // Of the field's or the operator's first character.
  TextPosition other_position{};  // Of other_field's.
};

// Fully parenthesised, canonical text: `((price < 19.99) and (not (sold)))`. Parses to the same
// tree, as long as it has no more than kFilterBytesMax bytes (parameters are written out).
std::string ToString(const Expr& expr);

}  // namespace azimuth::engine
