#include "engine/write/validate.h"

#include "base/status.h"
#include "base/strings.h"
#include "engine/limits.h"
#include "index/distance/distance.h"

#include "absl/container/flat_hash_map.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

// Depth, text and numbers of a value that is not declared.
absl::Status CheckDynamicValue(const Value& value, int depth) {
  if (depth > kValueDepthMax) {
    return InvalidArgument("nested more than %d deep", kValueDepthMax);
  }
  switch (value.kind()) {
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kBool:
    case ValueKind::kInt64:
      return absl::OkStatus();
    case ValueKind::kDouble:
      if (!std::isfinite(std::get<double>(value.data))) {
        return InvalidArgument("a double must be finite");
      }
      return absl::OkStatus();
    case ValueKind::kString:
      if (!IsValidUtf8(std::get<std::string>(value.data))) {
        return InvalidArgument("a string must be UTF-8");
      }
      return absl::OkStatus();
    case ValueKind::kList:
      for (const Value& item : std::get<ValueList>(value.data)) {
        AZ_RETURN_IF_ERROR(CheckDynamicValue(item, depth + 1));
      }
      return absl::OkStatus();
    case ValueKind::kMap:
      for (const auto& [name, item] : std::get<ValueMap>(value.data)) {
        if (!IsValidUtf8(name) || name.size() > kNameBytesMax) {
          return InvalidArgument("a name inside a map is at most %d bytes of UTF-8", kNameBytesMax);
        }
        AZ_RETURN_IF_ERROR(CheckDynamicValue(item, depth + 1));
      }
      return absl::OkStatus();
  }
  return absl::InternalError("unknown kind of value");
}

// `fields["price"]`.
std::string Member(std::string_view member, std::string_view name) {
  std::string quoted = Quoted(name);
  quoted.front() = quoted.back() = '"';
  return absl::StrCat(ToAbsl(member), "[", quoted, "]");
}

absl::Status CheckDynamicName(std::string_view name) {
  const bool bad = name.empty() || name.size() > kNameBytesMax || !IsValidUtf8(name) ||
                   name == kKeyFieldName || std::any_of(name.begin(), name.end(), [](char c) {
                     return static_cast<unsigned char>(c) < 0x20;
                   });
  if (!bad) return absl::OkStatus();
  return InvalidArgument(
      "a field name is 1 to %d bytes of UTF-8 without control characters, and not %s",
      kNameBytesMax, Quoted(kKeyFieldName));
}

// `value` as a value of the declared type.
absl::StatusOr<Value> FitToType(const FieldDef& field, Value value) {
  const auto wrong = [&] {
    return InvalidArgument("expected %s, got %s", std::string(FieldTypeName(field.type)),
                           std::string(ValueKindName(value.kind())));
  };
  if (value.is_null()) {
    if (!field.nullable) return InvalidArgument("null, but the field is not nullable");
    return value;
  }
  AZ_RETURN_IF_ERROR(CheckDynamicValue(value, 0));
  switch (field.type) {
    case FieldType::kBool:
      if (value.kind() != ValueKind::kBool) return wrong();
      return value;
    case FieldType::kInt64:
      if (value.kind() != ValueKind::kInt64) return wrong();
      return value;
    case FieldType::kDouble: {
      if (value.kind() == ValueKind::kDouble) return value;
      if (value.kind() != ValueKind::kInt64) return wrong();
      constexpr int64_t kExactMax = int64_t{1} << 53;
      const int64_t number = std::get<int64_t>(value.data);
      if (number > kExactMax || number < -kExactMax) {
        return InvalidArgument("the integer %d is not exact as a double", number);
      }
      return Value{static_cast<double>(number)};
    }
    case FieldType::kString:
      if (value.kind() != ValueKind::kString) return wrong();
      return value;
  }
  return absl::InternalError("unknown field type");
}

// Puts the scalar fields of one record into `row`.
absl::Status CheckFields(const Schema& schema, std::vector<FieldInput>& inputs, RecordForm form,
                         storage::StoredRow& row) {
  std::vector<std::pair<FieldId, Value>> declared;
  for (FieldInput& input : inputs) {
    const auto at = [&](const absl::Status& status) {
      return AtPlace(Member("fields", input.name), status);
    };
    if (const FieldDef* field = schema.FindField(input.name)) {
      absl::StatusOr<Value> value = FitToType(*field, std::move(input.value));
      if (!value.ok()) return at(value.status());
      declared.emplace_back(field->id, *std::move(value));
      continue;
    }
    if (schema.FindVector(input.name) != nullptr) {
      return at(InvalidArgument("is a vector field; give its value among the vectors"));
    }
    if (!schema.dynamic) {
      const auto closest = ClosestFieldName(schema, input.name);
      return at(InvalidArgument(
          "unknown field%s, and the collection is not dynamic",
          closest ? absl::StrFormat(" (did you mean %s?)", Quoted(*closest)) : std::string()));
    }
    absl::Status status = CheckDynamicName(input.name);
    if (status.ok()) status = CheckDynamicValue(input.value, 0);
    if (!status.ok()) return at(status);
    if (!row.dynamic.emplace(input.name, std::move(input.value)).second) {
      return at(InvalidArgument("given twice"));
    }
  }
  for (const FieldDef& field : schema.fields) {
    if (form == RecordForm::kPartial) break;
    const auto given = std::find_if(declared.begin(), declared.end(),
                                    [&](const auto& entry) { return entry.first == field.id; });
    if (given != declared.end()) continue;
    if (field.default_value.has_value()) {
      declared.emplace_back(field.id, *field.default_value);
    } else if (!field.nullable) {
      return InvalidArgument("%s: missing; it is neither nullable nor has it a default",
                             Member("fields", field.name));
    }
  }
  std::sort(declared.begin(), declared.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 1; i < declared.size(); ++i) {
    if (declared[i].first == declared[i - 1].first) {
      return InvalidArgument("fields: field %d is given twice", Raw(declared[i].first));
    }
  }
  row.fields = std::move(declared);
  return absl::OkStatus();
}

absl::Status CheckVectors(const Schema& schema, const std::vector<VectorInput>& inputs,
                          std::vector<std::span<const float>>& vectors) {
  vectors.resize(schema.vectors.size());
  for (const VectorInput& input : inputs) {
    const VectorFieldDef* field = schema.FindVector(input.name);
    if (field == nullptr) {
      return InvalidArgument("%s: there is no such vector field", Member("vectors", input.name));
    }
    if (absl::Status status = CheckVector(*field, input.values, ""); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(Member("vectors", input.name), status.message()));
    }
    auto& slot = vectors[static_cast<size_t>(field - schema.vectors.data())];
    if (!slot.empty()) {
      return InvalidArgument("%s: given twice", Member("vectors", input.name));
    }
    slot = input.values;
  }
  return absl::OkStatus();
}

// The largest magnitude of an element: infinite or NaN if there is one that is not finite. As whole
// numbers, whose order magnitudes have as well, and several side by side: compilers make vector
// instructions of that.
double LargestMagnitude(std::span<const float> vector) {
  constexpr size_t kLanes = 16;
  std::array<int32_t, kLanes> largest{};
  const auto magnitude = [](float value) { return std::bit_cast<int32_t>(value) & INT32_MAX; };
  size_t i = 0;
  for (; i + kLanes <= vector.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = std::max(largest[lane], magnitude(vector[i + lane]));
    }
  }
  for (; i < vector.size(); ++i) largest[0] = std::max(largest[0], magnitude(vector[i]));
  return std::bit_cast<float>(*std::max_element(largest.begin(), largest.end()));
}

// Names of dynamic fields and of what lies in their maps: each is a column of its own.
size_t CountNames(const ValueMap& map) {
  size_t count = map.size();
  for (const auto& entry : map) {
    if (entry.second.kind() == ValueKind::kMap) {
      count += CountNames(std::get<ValueMap>(entry.second.data));
    }
  }
  return count;
}

// What holds for a whole record, wherever its parts come from. Encodes it.
absl::Status FinishRecord(CheckedRecord& record) {
  if (const size_t names = CountNames(record.row.dynamic); names > kFieldsMax) {
    return InvalidArgument("fields: %d names, those inside maps included; at most %d are allowed",
                           names, kFieldsMax);
  }
  record.encoded = EncodeRow(record.row);
  if (record.encoded.size() > kRecordBytesMax) {
    return InvalidArgument("fields: %d bytes with the key, at most %d are allowed",
                           record.encoded.size(), kRecordBytesMax);
  }
  return absl::OkStatus();
}

absl::Status CheckExpiry(const Schema& schema, const RecordInput& input,
                         const CheckOptions& options, CheckedRecord& record) {
  constexpr int64_t kMicros = 1000000;
  record.expiry_given = input.expires_at_unix_us.has_value();
  if (record.expiry_given) {
    record.row.expires_at_unix_us = *input.expires_at_unix_us;
    if (record.row.expires_at_unix_us >= 0 && record.row.expires_at_unix_us <= kExpiryMax) {
      return absl::OkStatus();
    }
    return InvalidArgument("expires_at_unix_us: %d; allowed are 0 (never) to %d (year 9999)",
                           record.row.expires_at_unix_us, kExpiryMax);
  }
  if (schema.ttl_seconds > 0) {
    record.row.expires_at_unix_us = options.now_unix_us + schema.ttl_seconds * kMicros;
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckedRecord> CheckRecord(const Schema& schema, RecordInput record,
                                          const CheckOptions& options) {
  CheckedRecord checked;
  if (record.key.has_value()) {
    if (options.keys == KeysGiven::kNone) {
      return InvalidArgument("key: %s is given, and the server makes the keys of this collection",
                             KeyToText(*record.key));
    }
    AZ_RETURN_IF_ERROR(CheckKey(schema, *record.key, "key"));
    checked.row.key = *std::move(record.key);
  } else if (options.keys == KeysGiven::kAll) {
    return absl::InvalidArgumentError("key: missing; set int64_key or string_key");
  }
  checked.lacks_key = !record.key.has_value();
  AZ_RETURN_IF_ERROR(CheckExpiry(schema, record, options, checked));
  checked.if_version = record.if_version;
  if (record.fields.size() > kFieldsMax) {
    return InvalidArgument("fields: %d fields, at most %d are allowed", record.fields.size(),
                           kFieldsMax);
  }
  AZ_RETURN_IF_ERROR(CheckFields(schema, record.fields, options.form, checked.row));
  AZ_RETURN_IF_ERROR(CheckVectors(schema, record.vectors, checked.vectors));
  if (options.form == RecordForm::kWhole) AZ_RETURN_IF_ERROR(FinishRecord(checked));
  return checked;
}

}  // namespace

CheckOptions PutOptions(const Schema& schema, bool insert, int64_t now_unix_us) {
  CheckOptions options{.now_unix_us = now_unix_us};
  options.duplicates = insert ? DuplicateKeys::kRefuse : DuplicateKeys::kLastWins;
  if (schema.auto_id) options.keys = insert ? KeysGiven::kNone : KeysGiven::kSome;
  return options;
}

absl::Status CheckKey(const Schema& schema, const Key& key, std::string_view place) {
  const bool is_string = std::holds_alternative<std::string>(key);
  if (is_string != (schema.key_type == KeyType::kString)) {
    return InvalidArgument("%s: expected a key of type %s, got %s", std::string(place),
                           std::string(KeyTypeName(schema.key_type)), KeyToText(key));
  }
  if (!is_string) return absl::OkStatus();
  const auto& text = std::get<std::string>(key);
  if (text.empty() || text.size() > kKeyBytesMax || !IsValidUtf8(text) ||
      text.find('\0') != std::string::npos) {
    return InvalidArgument(
        "%s: a string key is 1 to %d bytes of UTF-8 without NUL, got %d bytes %s",
        std::string(place), kKeyBytesMax, text.size(), KeyToText(key));
  }
  return absl::OkStatus();
}

absl::Status CheckStoredRow(const Schema& schema, const storage::StoredRow& row) {
  AZ_RETURN_IF_ERROR(CheckKey(schema, row.key, "key"));
  if (row.partition != kDefaultPartition) {
    return InvalidArgument("partition %d, and there are no partitions yet", Raw(row.partition));
  }
  if (row.expires_at_unix_us < 0 || row.expires_at_unix_us > kExpiryMax) {
    return InvalidArgument("it ends at %d; allowed are 0 (never) to %d (year 9999)",
                           row.expires_at_unix_us, kExpiryMax);
  }
  for (const auto& [id, value] : row.fields) {
    const auto field =
        std::find_if(schema.fields.begin(), schema.fields.end(),
                     [wanted = id](const FieldDef& def) { return def.id == wanted; });
    if (field == schema.fields.end()) return InvalidArgument("no field has the id %d", Raw(id));
    const absl::StatusOr<Value> fitted = FitToType(*field, value);
    if (!fitted.ok()) return AtPlace(Member("fields", field->name), fitted.status());
    if (fitted->kind() != value.kind()) {
      return InvalidArgument("%s: %s in a field of type %s", Member("fields", field->name),
                             std::string(ValueKindName(value.kind())),
                             std::string(FieldTypeName(field->type)));
    }
  }
  if (!schema.dynamic && !row.dynamic.empty()) {
    return InvalidArgument("%s: the collection has no undeclared fields",
                           Member("fields", row.dynamic.begin()->first));
  }
  for (const auto& [name, value] : row.dynamic) {
    absl::Status status = CheckDynamicName(name);
    if (status.ok()) status = CheckDynamicValue(value, 0);
    if (!status.ok()) return AtPlace(Member("fields", name), status);
  }
  if (const size_t names = CountNames(row.dynamic); names > kFieldsMax) {
    return InvalidArgument("fields: %d names, those inside maps included; at most %d are allowed",
                           names, kFieldsMax);
  }
  return absl::OkStatus();
}

absl::Status CheckVector(const VectorFieldDef& field, std::span<const float> vector,
                         std::string_view place) {
  if (vector.size() != field.dim) {
    return InvalidArgument("%s: expected %d dimensions, got %d", std::string(place), field.dim,
                           vector.size());
  }
  constexpr double kSquaredNormMax = 8.5e37;  // A quarter of the largest float: (a - b)^2 fits too.
  constexpr double kSquaredNormMin = 1e-60;
  // The largest element shows of nearly all vectors that their norm is far from both bounds, in
  // which case the norm itself, which takes far longer, is of no use.
  const double largest = LargestMagnitude(vector);
  const double square = largest * largest;
  if (square * static_cast<double>(vector.size()) < kSquaredNormMax / 2 &&
      square > 2 * kSquaredNormMin) {
    return absl::OkStatus();
  }
  if (!index::AllFinite(vector)) {
    size_t i = 0;
    while (index::AllFinite(vector.subspan(i, 1))) ++i;
    return InvalidArgument("%s[%d]: NaN or infinite; every element must be finite",
                           std::string(place), i);
  }
  // The distance kernels sum in float: what overflows there would rank as infinite or NaN.
  const double norm = index::SquaredNorm(vector);
  if (norm > kSquaredNormMax) {
    return InvalidArgument("%s: its squared norm %g is too large, at most %g is allowed",
                           std::string(place), norm, kSquaredNormMax);
  }
  if (field.metric == Metric::kCosine && norm < kSquaredNormMin) {
    return InvalidArgument("%s: a zero vector has no direction; cosine needs a length above 0",
                           std::string(place));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CheckedRecord>> CheckRecords(const Schema& schema,
                                                        std::vector<RecordInput> records,
                                                        const CheckOptions& options) {
  if (records.empty()) return absl::InvalidArgumentError("records: empty batch");
  if (records.size() > kBatchRecordsMax) {
    return InvalidArgument("records: %d records, at most %d are allowed in a batch", records.size(),
                           kBatchRecordsMax);
  }
  std::vector<CheckedRecord> checked;
  checked.reserve(records.size());
  absl::flat_hash_map<Key, size_t> places;  // Of each key in `checked`.
  if (options.keys == KeysGiven::kAll) places.reserve(records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    absl::StatusOr<CheckedRecord> record = CheckRecord(schema, std::move(records[i]), options);
    if (!record.ok()) {
      return absl::Status(
          record.status().code(),
          absl::StrFormat("records[%d].%s", i, std::string(record.status().message())));
    }
    record->place = i;
    if (record->lacks_key) {
      checked.push_back(*std::move(record));
      continue;
    }
    const auto [place, is_new] = places.try_emplace(record->row.key, checked.size());
    if (is_new) {
      checked.push_back(*std::move(record));
    } else if (options.duplicates == DuplicateKeys::kRefuse) {
      return InvalidArgument("records[%d].key: %s comes twice in the batch", i,
                             KeyToText(record->row.key));
    } else if (record->if_version.has_value() || checked[place->second].if_version.has_value()) {
      return InvalidArgument("records[%d].key: %s comes twice in the batch, with an if_version", i,
                             KeyToText(record->row.key));
    } else {
      checked[place->second] = *std::move(record);
    }
  }
  return checked;
}

absl::Status MergeRecord(CheckedRecord&& change, CheckedRecord& base) {
  auto& fields = base.row.fields;
  for (auto& [id, value] : change.row.fields) {
    const auto at =
        std::lower_bound(fields.begin(), fields.end(), id,
                         [](const auto& entry, FieldId wanted) { return entry.first < wanted; });
    if (at != fields.end() && at->first == id) {
      at->second = std::move(value);
    } else {
      fields.emplace(at, id, std::move(value));
    }
  }
  for (auto& [name, value] : change.row.dynamic) base.row.dynamic[name] = std::move(value);
  for (size_t slot = 0; slot < base.vectors.size(); ++slot) {
    if (!change.vectors[slot].empty()) base.vectors[slot] = change.vectors[slot];
  }
  if (change.expiry_given) base.row.expires_at_unix_us = change.row.expires_at_unix_us;
  return FinishRecord(base);
}

}  // namespace azimuth::engine
