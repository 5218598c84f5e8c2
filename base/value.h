// Value: what a scalar field of a record holds; Key: what names a record. Not about vectors.
//
// Values have a binary form that is their form on disk as well (docs/FORMATS.md, "Values").
// Thread safety: plain values.
#pragma once

#include "absl/status/statusor.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace azimuth {

struct Value;
using ValueList = std::vector<Value>;
using ValueMap = std::map<std::string, Value, std::less<>>;

// The tags on disk and in columns; never renumber.
enum class ValueKind : uint8_t {
  kMissing = 0,  // Only in columns: the row does not have the field.
  kNull = 1,
  kBool = 2,
  kInt64 = 3,
  kDouble = 4,
  kString = 5,
  kList = 6,
  kMap = 7,
};

std::string_view ValueKindName(ValueKind kind);

struct Value {
  std::variant<std::monostate, bool, int64_t, double, std::string, ValueList, ValueMap> data;

  ValueKind kind() const { return static_cast<ValueKind>(data.index() + 1); }
  bool is_null() const { return data.index() == 0; }
  friend bool operator==(const Value& a, const Value& b);
};
// Completes the map's own pair first: clang 14 with this standard library otherwise rejects any
// other std::pair<T, Value>, because the two need each other's completeness.
static_assert(sizeof(std::pair<const std::string, Value>) > 0);

// int64 or non-empty string.
using Key = std::variant<int64_t, std::string>;

// Total order of keys of one collection: int64 by number, strings by bytes.
inline bool KeyLess(const Key& a, const Key& b) {
  return a < b;
}

// `17` or `'abc'`, for messages.
std::string KeyToText(const Key& key);

// Appends the binary form of `value`. Maps are written in order of name: equal values, equal bytes.
void EncodeValue(const Value& value, std::string& out);
// Reads one value from the front of `bytes` and advances it. DataLoss if malformed or nested deeper
// than kValueDepthMax.
absl::StatusOr<Value> DecodeValue(std::string_view& bytes);

// Levels of lists and maps that a value may have; bounds the recursion of all code over values.
inline constexpr int kValueDepthMax = 16;

}  // namespace azimuth
