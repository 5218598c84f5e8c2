#include "base/check.h"
#include "base/status.h"
#include "engine/filter/compare.h"
#include "engine/filter/filter.h"
#include "engine/filter/program.h"

#include <algorithm>
#include <bit>

namespace azimuth::engine {
namespace {

using index::ScalarView;

constexpr uint32_t kBlockRows = index::Bitset::kWordBits;
// The clock is read once for so many blocks times instructions: 64 K rows of one comparison.
constexpr size_t kStepsPerCheck = 1024;

// What a condition is for each row of a block: bit i stands for row i, and false is neither bit.
struct Truth {
  uint64_t yes = 0;
  uint64_t unknown = 0;
};

// Evaluates one block of 64 rows after the other; reads each field at most once for a block.
class BlockEvaluator final {
 public:
  BlockEvaluator(const FilterProgram& program, const ScalarSource& source)
      : source_(source),
        views_(program.slot_count * kBlockRows),
        loaded_(program.slot_count, kNotLoaded) {}

  void Start(uint32_t first, uint32_t count) {
    first_ = first;
    count_ = count;
    rows_ = count == kBlockRows ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  }

  // Bits at and past the block's row count are zero in both words.
  Truth Evaluate(const FilterInstruction& instruction);

 private:
  static constexpr uint64_t kNotLoaded = ~uint64_t{0};

  const ScalarView* Read(size_t slot);
  template <typename Compare>
  Truth ForEachRow(CompareOp op, const Compare& compare) const;
  Truth All(const FilterInstruction& junction);
  Truth Any(const FilterInstruction& junction);
  Truth CompareToLiteral(const FilterInstruction& instruction);
  Truth CompareTwoFields(const FilterInstruction& instruction);
  Truth InSet(const FilterInstruction& instruction);
  Truth IsNull(const FilterInstruction& instruction);
  Truth BoolField(const FilterInstruction& instruction);

  const ScalarSource& source_;
  std::vector<ScalarView> views_;  // kBlockRows of each slot.
  std::vector<uint64_t> loaded_;   // The `first_` of the block that a slot's views are of.
  uint32_t first_ = 0;
  uint32_t count_ = 0;
  uint64_t rows_ = 0;
};

const ScalarView* BlockEvaluator::Read(size_t slot) {
  ScalarView* views = views_.data() + slot * kBlockRows;
  if (loaded_[slot] != first_) {
    source_.Read(slot, first_, count_, views);
    loaded_[slot] = first_;
  }
  return views;
}

// compare(i) is the Order of row i's two sides.
template <typename Compare>
Truth BlockEvaluator::ForEachRow(CompareOp op, const Compare& compare) const {
  const uint32_t accepted = Accepted(op);
  Truth truth;
  for (uint32_t i = 0; i < count_; ++i) {
    const auto order = static_cast<uint32_t>(compare(i));
    truth.yes |= uint64_t{accepted >> order & 1} << i;
    truth.unknown |= static_cast<uint64_t>(order == static_cast<uint32_t>(Order::kIncomparable))
                     << i;
  }
  return truth;
}

// Leaves as soon as no row of the block can still match.
Truth BlockEvaluator::All(const FilterInstruction& junction) {
  uint64_t yes = rows_;
  uint64_t possible = rows_;
  for (const FilterInstruction& child : junction.children) {
    const Truth truth = Evaluate(child);
    yes &= truth.yes;
    possible &= truth.yes | truth.unknown;
    if (possible == 0) break;
  }
  return {.yes = yes, .unknown = possible & ~yes};
}

// Leaves as soon as all rows of the block match.
Truth BlockEvaluator::Any(const FilterInstruction& junction) {
  uint64_t yes = 0;
  uint64_t possible = 0;
  for (const FilterInstruction& child : junction.children) {
    const Truth truth = Evaluate(child);
    yes |= truth.yes;
    possible |= truth.yes | truth.unknown;
    if (yes == rows_) break;
  }
  return {.yes = yes, .unknown = possible & ~yes};
}

Truth BlockEvaluator::CompareToLiteral(const FilterInstruction& instruction) {
  const ScalarView* views = Read(instruction.slot);
  // The literal's kind is looked at once for the block, not once for each row.
  switch (instruction.literal.kind()) {
    case ValueKind::kInt64: {
      const int64_t literal = std::get<int64_t>(instruction.literal.data);
      return ForEachRow(instruction.op, [views, literal](uint32_t i) {
        if (views[i].kind == ValueKind::kInt64) return CompareSame(views[i].int64, literal);
        if (views[i].kind != ValueKind::kDouble) return Order::kIncomparable;
        return Reversed(CompareInt64ToDouble(literal, views[i].float64));
      });
    }
    case ValueKind::kDouble: {
      const double literal = std::get<double>(instruction.literal.data);
      return ForEachRow(instruction.op, [views, literal](uint32_t i) {
        if (views[i].kind == ValueKind::kDouble) return CompareSame(views[i].float64, literal);
        if (views[i].kind != ValueKind::kInt64) return Order::kIncomparable;
        return CompareInt64ToDouble(views[i].int64, literal);
      });
    }
    case ValueKind::kString: {
      const std::string_view literal = std::get<std::string>(instruction.literal.data);
      const bool ordering = IsOrdering(instruction.op);
      return ForEachRow(instruction.op, [views, literal, ordering](uint32_t i) {
        if (views[i].kind != ValueKind::kString) return Order::kIncomparable;
        // `==` need not know which one is less.
        if (!ordering && views[i].text.size() != literal.size()) return Order::kLess;
        return CompareStrings(views[i].text, literal);
      });
    }
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kBool:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  const ScalarView literal = index::ViewOf(instruction.literal);
  return ForEachRow(instruction.op,
                    [views, &literal](uint32_t i) { return CompareViews(views[i], literal); });
}

Truth BlockEvaluator::CompareTwoFields(const FilterInstruction& instruction) {
  const ScalarView* left = Read(instruction.slot);
  const ScalarView* right = Read(instruction.other_slot);
  const bool ordering = IsOrdering(instruction.op);
  return ForEachRow(instruction.op, [left, right, ordering](uint32_t i) {
    // Booleans have no order.
    if (ordering && left[i].kind == ValueKind::kBool) return Order::kIncomparable;
    return CompareViews(left[i], right[i]);
  });
}

// As a chain of `or`: true if a member is equal; else unknown if some member does not compare.
Truth BlockEvaluator::InSet(const FilterInstruction& instruction) {
  const ScalarView* views = Read(instruction.slot);
  Truth truth;
  for (uint32_t i = 0; i < count_; ++i) {
    const bool contained = instruction.set.Contains(views[i]);
    const bool unknown = !contained && instruction.set.HasIncomparable(views[i]);
    truth.yes |= uint64_t{contained} << i;
    truth.unknown |= uint64_t{unknown} << i;
  }
  return truth;
}

Truth BlockEvaluator::IsNull(const FilterInstruction& instruction) {
  const ScalarView* views = Read(instruction.slot);
  Truth truth;
  for (uint32_t i = 0; i < count_; ++i) {
    const bool null = views[i].kind == ValueKind::kNull || views[i].kind == ValueKind::kMissing;
    truth.yes |= uint64_t{null} << i;
  }
  return truth;
}

Truth BlockEvaluator::BoolField(const FilterInstruction& instruction) {
  const ScalarView* views = Read(instruction.slot);
  Truth truth;
  for (uint32_t i = 0; i < count_; ++i) {
    const bool known = views[i].kind == ValueKind::kBool;
    truth.yes |= uint64_t{known && views[i].boolean} << i;
    truth.unknown |= uint64_t{!known} << i;
  }
  return truth;
}

Truth BlockEvaluator::Evaluate(const FilterInstruction& instruction) {
  switch (instruction.kind) {
    case Expr::Kind::kTrue:
      return {.yes = rows_, .unknown = 0};
    case Expr::Kind::kAnd:
      return All(instruction);
    case Expr::Kind::kOr:
      return Any(instruction);
    case Expr::Kind::kNot: {
      const Truth truth = Evaluate(instruction.children.front());
      return {.yes = rows_ & ~(truth.yes | truth.unknown), .unknown = truth.unknown};
    }
    case Expr::Kind::kCompare:
      return CompareToLiteral(instruction);
    case Expr::Kind::kCompareFields:
      return CompareTwoFields(instruction);
    case Expr::Kind::kIn:
      return InSet(instruction);
    case Expr::Kind::kIsNull:
      return IsNull(instruction);
    case Expr::Kind::kBoolField:
      return BoolField(instruction);
  }
  return {};
}

}  // namespace

absl::Status EvaluateFilter(const BoundFilter& filter, const ScalarSource& source,
                            index::Bitset& matches, const CancelToken& cancel) {
  const uint32_t row_count = source.row_count();
  matches.Reset(row_count, filter.always_true());
  if (filter.always_true()) return cancel.Check();
  const FilterProgram& program = *filter.program();
  BlockEvaluator evaluator(program, source);
  const std::span<uint64_t> words = matches.words();
  size_t steps = kStepsPerCheck;
  for (size_t block = 0; block < words.size(); ++block) {
    if (steps >= kStepsPerCheck) {
      AZ_RETURN_IF_ERROR(cancel.Check());
      steps = 0;
    }
    steps += program.instruction_count;
    const auto first = static_cast<uint32_t>(block * kBlockRows);
    evaluator.Start(first, std::min(kBlockRows, row_count - first));
    words[block] = evaluator.Evaluate(program.root).yes;
  }
  return absl::OkStatus();
}

}  // namespace azimuth::engine
