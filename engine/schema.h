// Schema: the fields of a collection and how its vectors are indexed.
//
// Thread safety: plain values; a collection's schema is immutable once it is created.
#pragma once

#include "base/ids.h"
#include "base/value.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// The numbers of these enums are on disk; never renumber.
enum class KeyType : uint8_t { kInt64 = 1, kString = 2 };
enum class FieldType : uint8_t { kBool = 1, kInt64 = 2, kDouble = 3, kString = 4 };
enum class Metric : uint8_t { kL2 = 1, kIp = 2, kCosine = 3 };
enum class IndexKind : uint8_t { kAuto = 1, kFlat = 2, kHnsw = 3 };
// 5 is kept for codes of one bit.
enum class Quantization : uint8_t {
  kAuto = 1,
  kNone = 2,
  kSq8 = 3,
  kRabitq4 = 4,
  kSq4 = 6,
  kPca4 = 7
};

std::string_view KeyTypeName(KeyType type);
std::string_view FieldTypeName(FieldType type);

struct FieldDef {
  FieldId id{};  // Assigned by NumberFields.
  std::string name;
  FieldType type = FieldType::kInt64;
  bool nullable = true;
  std::optional<Value> default_value{};  // Of `type`; or null if nullable.
  friend bool operator==(const FieldDef&, const FieldDef&) = default;
};

struct IndexOptions {
  IndexKind kind = IndexKind::kAuto;
  uint32_t m = 16;
  uint32_t ef_construction = 200;
  Quantization quantization = Quantization::kAuto;
  friend bool operator==(const IndexOptions&, const IndexOptions&) = default;
};

struct VectorFieldDef {
  FieldId id{};  // Assigned by NumberFields; one sequence with the scalar fields.
  std::string name;
  uint32_t dim = 0;
  Metric metric = Metric::kL2;
  IndexOptions index{};
  friend bool operator==(const VectorFieldDef&, const VectorFieldDef&) = default;
};

struct Schema {
  KeyType key_type = KeyType::kInt64;
  std::vector<FieldDef> fields;
  std::vector<VectorFieldDef> vectors;
  bool dynamic = true;
  bool auto_id = false;     // The server makes the keys (engine/write/made_keys.h); int64 only.
  int64_t ttl_seconds = 0;  // A record lives that long unless it says otherwise; 0: for ever.
  FieldId next_field{1};    // The id that the next field gets; ids are never reused.
  friend bool operator==(const Schema&, const Schema&) = default;

  // Null if there is none of that name.
  const FieldDef* FindField(std::string_view name) const;
  const VectorFieldDef* FindVector(std::string_view name) const;
};

// The name by which filters reach the record's key; no field may have it.
inline constexpr std::string_view kKeyFieldName = "key";

// [A-Za-z_][A-Za-z0-9_-]{0,254}. InvalidArgument says what is allowed.
absl::Status CheckCollectionName(std::string_view name);
// [A-Za-z_][A-Za-z0-9_]{0,254}, not `key`, and not a word of the filter language.
absl::Status CheckFieldName(std::string_view name);

// Everything that Create demands: names, doubles, dimensions, options, defaults. InvalidArgument
// names the place: `schema.vectors["image"].dimension: ...`.
absl::Status ValidateSchema(const Schema& schema);
// Gives ids from next_field on to all fields, in order: scalar fields, then vector fields.
void NumberFields(Schema& schema);
// True if both would make the same collection (ids apart).
bool SameDefinition(const Schema& a, const Schema& b);

// Byte table: docs/FORMATS.md, "Collection definition".
std::string EncodeSchema(const Schema& schema);
absl::StatusOr<Schema> DecodeSchema(
    std::string_view bytes);  // DataLoss, FailedPrecondition (version).

// Up to one name among the schema's that is close to `name` (edit distance), for "did you mean".
std::optional<std::string> ClosestFieldName(const Schema& schema, std::string_view name);

}  // namespace azimuth::engine
