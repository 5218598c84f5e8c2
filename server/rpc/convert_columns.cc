#include "server/rpc/convert_columns.h"

#include "base/status.h"
#include "engine/limits.h"
#include "server/rpc/convert_records.h"

#include "absl/strings/str_cat.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace azimuth::server {
namespace {

// Which rows of a column are present, as its bitmap says: bit i & 7 of byte i >> 3, and an empty
// one means all.
class Presence final {
 public:
  explicit Presence(const std::string& bitmap) : bitmap_(bitmap) {}

  // InvalidArgument for a wrong length or bits past the last row.
  absl::Status Check(size_t rows) const {
    if (bitmap_.empty()) return absl::OkStatus();
    const size_t wanted = (rows + 7) / 8;
    if (bitmap_.size() != wanted) {
      return InvalidArgument("present: %d bytes for %d rows, expected %d or none", bitmap_.size(),
                             rows, wanted);
    }
    if (rows % 8 != 0 && (static_cast<uint8_t>(bitmap_.back()) >> (rows % 8)) != 0) {
      return InvalidArgument("present: bits past the %d rows are set; they must be 0", rows);
    }
    return absl::OkStatus();
  }

  bool operator[](size_t row) const {
    return bitmap_.empty() || (static_cast<uint8_t>(bitmap_[row >> 3]) >> (row & 7) & 1) != 0;
  }

 private:
  const std::string& bitmap_;
};

absl::Status CheckRagged(int values, size_t rows) {
  if (static_cast<size_t>(values) == rows) return absl::OkStatus();
  return InvalidArgument("%d values for %d records", values, rows);
}

// Gives each record that the column has a value for the value that `convert(entry)` makes.
template <typename Values, typename Convert>
absl::Status SpreadValues(const pb::FieldColumn& column, const Values& values,
                          std::vector<engine::RecordInput>& records, const Convert& convert) {
  AZ_RETURN_IF_ERROR(CheckRagged(values.size(), records.size()));
  const Presence present(column.present());
  for (size_t row = 0; row < records.size(); ++row) {
    if (!present[row]) continue;
    absl::StatusOr<Value> value = convert(values[static_cast<int>(row)]);
    if (!value.ok()) return AtPlace(Place("any", row), value.status());
    records[row].fields.push_back({column.name(), *std::move(value)});
  }
  return absl::OkStatus();
}

absl::Status SpreadField(const pb::FieldColumn& column, std::vector<engine::RecordInput>& records) {
  AZ_RETURN_IF_ERROR(Presence(column.present()).Check(records.size()));
  const auto as_it_is = [](const auto& entry) -> absl::StatusOr<Value> { return Value{entry}; };
  switch (column.values_case()) {
    case pb::FieldColumn::kBools:
      return SpreadValues(column, column.bools().values(), records, as_it_is);
    case pb::FieldColumn::kInt64S:
      return SpreadValues(column, column.int64s().values(), records, as_it_is);
    case pb::FieldColumn::kDoubles:
      return SpreadValues(column, column.doubles().values(), records, as_it_is);
    case pb::FieldColumn::kStrings:
      return SpreadValues(column, column.strings().values(), records, as_it_is);
    case pb::FieldColumn::kAny:
      return SpreadValues(column, column.any().values(), records,
                          [](const pb::Value& entry) { return FromWire(entry); });
    case pb::FieldColumn::VALUES_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "no values; set one of bools, int64s, doubles, strings and any");
}

absl::Status SpreadVectors(const pb::VectorColumn& column, RecordInputs& out) {
  const size_t rows = out.records.size();
  const Presence present(column.present());
  AZ_RETURN_IF_ERROR(present.Check(rows));
  if (column.f32().size() % (rows * sizeof(float)) != 0) {
    return InvalidArgument(
        "f32: %d bytes are not the same whole number of floats for each of %d "
        "records",
        column.f32().size(), rows);
  }
  const std::span<const float> floats = FloatsOf(column.f32(), out.floats);
  const size_t dimension = floats.size() / rows;
  for (size_t row = 0; row < rows; ++row) {
    if (!present[row]) continue;
    out.records[row].vectors.push_back({column.name(), floats.subspan(row * dimension, dimension)});
  }
  return absl::OkStatus();
}

absl::Status SpreadExpiry(const pb::RecordColumns& columns,
                          std::vector<engine::RecordInput>& records) {
  const auto& times = columns.expires_at_unix_us();
  if (times.empty()) return absl::OkStatus();
  if (absl::Status status = CheckRagged(times.size(), records.size()); !status.ok()) {
    return AtPlace("columns.expires_at_unix_us", status);
  }
  for (size_t row = 0; row < records.size(); ++row) {
    records[row].expires_at_unix_us = times[static_cast<int>(row)];
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBatchSize(size_t records) {
  if (records == 0) return absl::InvalidArgumentError("records: empty batch");
  if (records > engine::kBatchRecordsMax) {
    return InvalidArgument("records: %d records; at most %d go into one batch", records,
                           engine::kBatchRecordsMax);
  }
  return absl::OkStatus();
}

absl::StatusOr<RecordInputs> FromWire(const pb::RecordColumns& columns) {
  // Counted before keys are converted, so that an oversized batch costs nothing.
  const pb::KeyList& list = columns.keys();
  const auto key_count = static_cast<size_t>(
      list.has_string_keys() ? list.string_keys().values_size() : list.int64_keys().values_size());
  const size_t rows = columns.has_keys() ? key_count : columns.count();
  if (columns.count() != 0 && columns.count() != rows) {
    return InvalidArgument("columns.count: %d, and columns.keys has %d", columns.count(), rows);
  }
  AZ_RETURN_IF_ERROR(CheckBatchSize(rows));
  std::vector<Key> keys;
  if (columns.has_keys()) {
    absl::StatusOr<std::vector<Key>> converted = FromWire(list);
    if (!converted.ok()) return AtPlace("columns.keys", converted.status());
    keys = *std::move(converted);
  }

  RecordInputs out;
  out.records.resize(rows);
  for (size_t row = 0; row < rows; ++row) {
    if (!keys.empty()) out.records[row].key = std::move(keys[row]);
    out.records[row].fields.reserve(static_cast<size_t>(columns.fields_size()));
    out.records[row].vectors.reserve(static_cast<size_t>(columns.vectors_size()));
  }
  AZ_RETURN_IF_ERROR(SpreadExpiry(columns, out.records));
  // A field of two columns would reach the engine as a record that names it twice.
  std::set<std::string_view> fields, vectors;
  for (const pb::FieldColumn& column : columns.fields()) {
    absl::Status status = fields.insert(column.name()).second
                              ? SpreadField(column, out.records)
                              : absl::InvalidArgumentError("two columns have this name");
    if (!status.ok()) return AtPlace(Place("columns.fields", column.name()), status);
  }
  for (const pb::VectorColumn& column : columns.vectors()) {
    absl::Status status = vectors.insert(column.name()).second
                              ? SpreadVectors(column, out)
                              : absl::InvalidArgumentError("two columns have this name");
    if (!status.ok()) return AtPlace(Place("columns.vectors", column.name()), status);
  }
  return out;
}

namespace {

// The values of one field over all hits; null where a hit lacks it.
using Column = std::vector<Value*>;

std::string PresentBits(size_t rows, const auto& is_present) {
  std::string bits((rows + 7) / 8, '\0');
  size_t count = 0;
  for (size_t row = 0; row < rows; ++row) {
    if (!is_present(row)) continue;
    bits[row >> 3] = static_cast<char>(static_cast<uint8_t>(bits[row >> 3]) | 1U << (row & 7));
    ++count;
  }
  return count == rows ? std::string() : bits;
}

// kMissing if the values are of more than one kind. REQUIRES: one is present.
ValueKind OneKind(const Column& column) {
  ValueKind kind = ValueKind::kMissing;
  for (const Value* value : column) {
    if (value == nullptr) continue;
    if (kind != ValueKind::kMissing && value->kind() != kind) return ValueKind::kMissing;
    kind = value->kind();
  }
  return kind;
}

// Absent rows get what T{} is.
template <typename T, typename Values>
void FillTyped(const Column& column, Values& values) {
  values.Reserve(static_cast<int>(column.size()));
  for (Value* value : column) {
    values.Add(value == nullptr ? T{} : std::move(std::get<T>(value->data)));
  }
}

void FieldToColumn(const Column& column, pb::FieldColumn& out) {
  out.set_present(PresentBits(column.size(), [&](size_t row) { return column[row] != nullptr; }));
  switch (OneKind(column)) {
    case ValueKind::kBool:
      FillTyped<bool>(column, *out.mutable_bools()->mutable_values());
      return;
    case ValueKind::kInt64:
      FillTyped<int64_t>(column, *out.mutable_int64s()->mutable_values());
      return;
    case ValueKind::kDouble:
      FillTyped<double>(column, *out.mutable_doubles()->mutable_values());
      return;
    case ValueKind::kString:
      FillTyped<std::string>(column, *out.mutable_strings()->mutable_values());
      return;
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  auto& values = *out.mutable_any()->mutable_values();
  values.Reserve(static_cast<int>(column.size()));
  for (Value* value : column) {
    pb::Value& entry = *values.Add();
    if (value == nullptr) {
      entry.mutable_null_value();
    } else {
      ToWire(std::move(*value), entry);
    }
  }
}

using VectorRows = std::vector<const std::vector<float>*>;

void VectorsToColumn(const VectorRows& rows, pb::VectorColumn& out) {
  size_t dimension = 0;
  for (const std::vector<float>* floats : rows) {
    if (floats != nullptr) dimension = floats->size();
  }
  out.set_present(PresentBits(rows.size(), [&](size_t row) { return rows[row] != nullptr; }));
  std::string& f32 = *out.mutable_f32();
  f32.reserve(rows.size() * dimension * sizeof(float));
  for (const std::vector<float>* floats : rows) {
    if (floats == nullptr) {
      f32.append(dimension * sizeof(float), '\0');
    } else {
      AppendFloats(*floats, f32);
    }
  }
}

// Keys are of the type of the first.
void KeysToColumn(std::vector<engine::SearchHit>& hits, pb::KeyList& out) {
  if (hits.empty()) return;
  const auto count = static_cast<int>(hits.size());
  if (std::holds_alternative<int64_t>(hits[0].record.key)) {
    auto& values = *out.mutable_int64_keys()->mutable_values();
    values.Reserve(count);
    for (engine::SearchHit& hit : hits)
      values.AddAlreadyReserved(std::get<int64_t>(hit.record.key));
  } else {
    auto& values = *out.mutable_string_keys()->mutable_values();
    values.Reserve(count);
    for (engine::SearchHit& hit : hits) {
      *values.Add() = std::move(std::get<std::string>(hit.record.key));
    }
  }
}

}  // namespace

void HitsToColumns(std::vector<engine::SearchHit>&& hits, pb::HitColumns& out) {
  KeysToColumn(hits, *out.mutable_keys());
  out.mutable_distances()->Reserve(static_cast<int>(hits.size()));
  out.mutable_scores()->Reserve(static_cast<int>(hits.size()));
  std::map<std::string_view, Column> fields;
  std::map<std::string_view, VectorRows> vectors;
  for (size_t row = 0; row < hits.size(); ++row) {
    engine::SearchHit& hit = hits[row];
    out.mutable_distances()->AddAlreadyReserved(hit.distance);
    out.mutable_scores()->AddAlreadyReserved(hit.score);
    for (auto& [name, value] : hit.record.fields) {
      fields.try_emplace(name, hits.size()).first->second[row] = &value;
    }
    for (const auto& [name, floats] : hit.record.vectors) {
      vectors.try_emplace(name, hits.size()).first->second[row] = &floats;
    }
  }
  for (const auto& [name, column] : fields) {
    pb::FieldColumn& added = *out.add_fields();
    added.set_name(std::string(name));
    FieldToColumn(column, added);
  }
  for (const auto& [name, rows] : vectors) {
    pb::VectorColumn& added = *out.add_vectors();
    added.set_name(std::string(name));
    VectorsToColumn(rows, added);
  }
}

}  // namespace azimuth::server
