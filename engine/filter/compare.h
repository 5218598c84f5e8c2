// Three-way comparison of scalars as filters see them: numbers by exact value, strings by bytes.
//
// Thread safety: pure functions.
#pragma once

#include "engine/filter/expr.h"
#include "index/column/column.h"

#include <cstdint>
#include <string_view>

namespace azimuth::engine {

// How two values stand to each other. kIncomparable: null, missing, lists, maps, or kinds that have
// no order between them; a comparison of those is unknown.
enum class Order : uint8_t { kLess = 0, kEqual = 1, kGreater = 2, kIncomparable = 3 };

constexpr Order Reversed(Order order) {
  if (order == Order::kLess) return Order::kGreater;
  return order == Order::kGreater ? Order::kLess : order;
}

template <typename T>
constexpr Order CompareSame(const T& a, const T& b) {
  if (a < b) return Order::kLess;
  if (b < a) return Order::kGreater;
  return a == b ? Order::kEqual : Order::kIncomparable;
}

inline constexpr double kTwoTo63 = 9223372036854775808.0;

// True if `number` is the value of an int64, which it then converts to without loss.
inline bool IsInt64(double number) {
  return number >= -kTwoTo63 && number < kTwoTo63 &&
         static_cast<double>(static_cast<int64_t>(number)) == number;
}

// By exact value: 2^53 + 1 is greater than the double 2^53.
inline Order CompareInt64ToDouble(int64_t a, double b) {
  if (b >= kTwoTo63) return Order::kLess;
  if (b < -kTwoTo63) return Order::kGreater;
  if (b != b) return Order::kIncomparable;
  const auto whole = static_cast<int64_t>(b);
  if (a != whole) return a < whole ? Order::kLess : Order::kGreater;
  // Exact: a double of 2^53 or more has no fraction.
  return CompareSame(static_cast<double>(whole), b);
}

inline Order CompareStrings(std::string_view a, std::string_view b) {
  const int order = a.compare(b);
  return order < 0 ? Order::kLess : order == 0 ? Order::kEqual : Order::kGreater;
}

inline Order CompareViews(const index::ScalarView& a, const index::ScalarView& b) {
  switch (a.kind) {
    case ValueKind::kInt64:
      if (b.kind == ValueKind::kInt64) return CompareSame(a.int64, b.int64);
      if (b.kind == ValueKind::kDouble) return CompareInt64ToDouble(a.int64, b.float64);
      break;
    case ValueKind::kDouble:
      if (b.kind == ValueKind::kDouble) return CompareSame(a.float64, b.float64);
      if (b.kind == ValueKind::kInt64) return Reversed(CompareInt64ToDouble(b.int64, a.float64));
      break;
    case ValueKind::kString:
      if (b.kind == ValueKind::kString) return CompareStrings(a.text, b.text);
      break;
    case ValueKind::kBool:
      if (b.kind == ValueKind::kBool) return CompareSame<int>(a.boolean, b.boolean);
      break;
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  return Order::kIncomparable;
}

// Bit i is set if `op` accepts the Order of number i.
constexpr uint32_t Accepted(CompareOp op) {
  constexpr uint32_t kLess = 1, kEqual = 2, kGreater = 4;
  switch (op) {
    case CompareOp::kEq:
      return kEqual;
    case CompareOp::kNe:
      return kLess | kGreater;
    case CompareOp::kLt:
      return kLess;
    case CompareOp::kLe:
      return kLess | kEqual;
    case CompareOp::kGt:
      return kGreater;
    case CompareOp::kGe:
      return kGreater | kEqual;
  }
  return 0;
}

constexpr bool IsOrdering(CompareOp op) {
  return op != CompareOp::kEq && op != CompareOp::kNe;
}

}  // namespace azimuth::engine
