// FilterProgram: a bound filter made ready to run, once, at Bind: fields are slots, lists are hash
// sets. Compiled from the tree, run by EvaluateFilter.
//
// Thread safety: immutable. Ownership: owns copies of all literals.
#pragma once

#include "base/strings.h"
#include "base/value.h"
#include "engine/filter/expr.h"
#include "index/column/column.h"

#include "absl/container/flat_hash_set.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::engine {

// The values of an `in` list. A double with the value of an int64 is kept as that int64, so that
// equal numbers are equal members.
struct LiteralSet {
  absl::flat_hash_set<int64_t> integers;
  absl::flat_hash_set<double> doubles;
  absl::flat_hash_set<std::string, StringHash, std::equal_to<>> strings;
  bool has_true = false;
  bool has_false = false;

  void Insert(const Value& value);
  bool Contains(const index::ScalarView& value) const;
  bool has_numbers() const { return !integers.empty() || !doubles.empty(); }
  bool has_bools() const { return has_true || has_false; }
  bool empty() const { return !has_numbers() && !has_bools() && strings.empty(); }
  // True if some member and `value` have kinds that do not compare.
  bool HasIncomparable(const index::ScalarView& value) const;
};

struct FilterInstruction {
  Expr::Kind kind = Expr::Kind::kTrue;
  CompareOp op = CompareOp::kEq;
  size_t slot = 0;
  size_t other_slot = 0;
  Value literal;   // kCompare.
  LiteralSet set;  // kIn.
  std::vector<FilterInstruction> children;
};

struct FilterProgram {
  FilterInstruction root;
  size_t instruction_count = 0;
  size_t slot_count = 0;
};

// REQUIRES: `expr` has passed Bind's checks, and `slots` has all of its fields.
std::shared_ptr<const FilterProgram> CompileFilter(const Expr& expr,
                                                   const StringMap<size_t>& slots);

}  // namespace azimuth::engine
