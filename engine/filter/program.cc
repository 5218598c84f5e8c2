#include "engine/filter/program.h"

#include "base/check.h"
#include "engine/filter/compare.h"

#include <utility>

namespace azimuth::engine {
namespace {

FilterInstruction Compile(const Expr& expr, const StringMap<size_t>& slots, size_t& count) {
  ++count;
  FilterInstruction instruction;
  instruction.kind = expr.kind;
  instruction.op = expr.op;
  const auto slot = [&slots](std::string_view field) {
    const auto it = slots.find(field);
    AZ_CHECK(it != slots.end());
    return it->second;
  };
  switch (expr.kind) {
    case Expr::Kind::kTrue:
      break;
    case Expr::Kind::kAnd:
    case Expr::Kind::kOr:
    case Expr::Kind::kNot:
      instruction.children.reserve(expr.children.size());
      for (const Expr& child : expr.children) {
        instruction.children.push_back(Compile(child, slots, count));
      }
      break;
    case Expr::Kind::kCompare:
      instruction.slot = slot(expr.field);
      instruction.literal = expr.literals.front();
      break;
    case Expr::Kind::kCompareFields:
      instruction.slot = slot(expr.field);
      instruction.other_slot = slot(expr.other_field);
      break;
    case Expr::Kind::kIn:
      instruction.slot = slot(expr.field);
      for (const Value& literal : expr.literals) instruction.set.Insert(literal);
      break;
    case Expr::Kind::kIsNull:
    case Expr::Kind::kBoolField:
      instruction.slot = slot(expr.field);
      break;
  }
  return instruction;
}

}  // namespace

void LiteralSet::Insert(const Value& value) {
  if (const auto* boolean = std::get_if<bool>(&value.data)) {
    (*boolean ? has_true : has_false) = true;
  } else if (const auto* integer = std::get_if<int64_t>(&value.data)) {
    integers.insert(*integer);
  } else if (const auto* number = std::get_if<double>(&value.data)) {
    if (IsInt64(*number)) {
      integers.insert(static_cast<int64_t>(*number));
    } else {
      doubles.insert(*number);
    }
  } else if (const auto* text = std::get_if<std::string>(&value.data)) {
    strings.insert(*text);
  }
}

bool LiteralSet::Contains(const index::ScalarView& value) const {
  switch (value.kind) {
    case ValueKind::kBool:
      return value.boolean ? has_true : has_false;
    case ValueKind::kInt64:
      return integers.contains(value.int64);
    case ValueKind::kDouble:
      if (IsInt64(value.float64)) return integers.contains(static_cast<int64_t>(value.float64));
      return doubles.contains(value.float64);
    case ValueKind::kString:
      return strings.contains(value.text);
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  return false;
}

bool LiteralSet::HasIncomparable(const index::ScalarView& value) const {
  switch (value.kind) {
    case ValueKind::kBool:
      return has_numbers() || !strings.empty();
    case ValueKind::kInt64:
    case ValueKind::kDouble:
      return has_bools() || !strings.empty();
    case ValueKind::kString:
      return has_bools() || has_numbers();
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  return !empty();
}

std::shared_ptr<const FilterProgram> CompileFilter(const Expr& expr,
                                                   const StringMap<size_t>& slots) {
  auto program = std::make_shared<FilterProgram>();
  program->root = Compile(expr, slots, program->instruction_count);
  program->slot_count = slots.size();
  return program;
}

}  // namespace azimuth::engine
