#include "server/rpc/convert_records.h"

#include "base/ids.h"
#include "base/status.h"
#include "engine/limits.h"
#include "server/rpc/convert_columns.h"

#include "absl/strings/str_cat.h"

#include <numeric>
#include <string>
#include <utility>

namespace azimuth::server {
namespace {

absl::StatusOr<engine::RecordInput> RecordFromWire(const pb::Record& record, FloatStore& floats) {
  engine::RecordInput out;
  if (record.has_key()) {
    absl::StatusOr<Key> key = FromWire(record.key());
    if (!key.ok()) return AtPlace("key", key.status());
    out.key = *std::move(key);
  }
  out.fields.reserve(record.fields().size());
  for (const auto& [name, value] : record.fields()) {
    absl::StatusOr<Value> converted = FromWire(value);
    if (!converted.ok()) return AtPlace(Place("fields", name), converted.status());
    out.fields.push_back({name, *std::move(converted)});
  }
  out.vectors.reserve(record.vectors().size());
  for (const auto& [name, vector] : record.vectors()) {
    absl::StatusOr<std::span<const float>> converted = FromWire(vector, floats);
    if (!converted.ok()) return AtPlace(Place("vectors", name), converted.status());
    out.vectors.push_back({name, *converted});
  }
  if (record.has_expires_at_unix_us()) out.expires_at_unix_us = record.expires_at_unix_us();
  if (record.has_if_version()) out.if_version = Seq{record.if_version()};
  return out;
}

template <typename Request>
absl::StatusOr<RecordInputs> RecordsOfEither(const Request& request) {
  switch (request.records_case()) {
    case Request::kRows:
      return FromWire(request.rows());
    case Request::kColumns:
      return FromWire(request.columns());
    case Request::RECORDS_NOT_SET:
      break;
  }
  return CheckBatchSize(0);
}

}  // namespace

absl::StatusOr<RecordInputs> FromWire(const pb::RecordList& rows) {
  const auto count = static_cast<size_t>(rows.records_size());
  AZ_RETURN_IF_ERROR(CheckBatchSize(count));
  RecordInputs out;
  out.records.reserve(count);
  for (const pb::Record& record : rows.records()) {
    absl::StatusOr<engine::RecordInput> converted = RecordFromWire(record, out.floats);
    if (!converted.ok()) {
      const absl::Status& status = converted.status();
      return absl::Status(
          status.code(), absl::StrCat(Place("records", out.records.size()), ".", status.message()));
    }
    out.records.push_back(*std::move(converted));
  }
  return out;
}

absl::StatusOr<RecordInputs> RecordsOf(const pb::InsertRequest& request) {
  return RecordsOfEither(request);
}

absl::StatusOr<RecordInputs> RecordsOf(const pb::UpsertRequest& request) {
  return RecordsOfEither(request);
}

absl::StatusOr<RecordInputs> RecordsOf(const pb::UpdateRequest& request) {
  return RecordsOfEither(request);
}

absl::StatusOr<RecordInputs> RecordsOf(const pb::IngestBatch& batch) {
  return RecordsOfEither(batch);
}

void ToWire(const engine::MadeKeys& made, pb::KeyList& out) {
  auto& values = *out.mutable_int64_keys()->mutable_values();
  values.Resize(static_cast<int>(made.count), 0);
  std::iota(values.begin(), values.end(), made.first);
}

void ToWire(engine::RecordOutput&& record, pb::Record& out) {
  ToWire(record.key, *out.mutable_key());
  auto& fields = *out.mutable_fields();
  for (auto& [name, value] : record.fields) ToWire(std::move(value), fields[name]);
  auto& vectors = *out.mutable_vectors();
  for (const auto& [name, floats] : record.vectors) {
    AppendFloats(floats, *vectors[name].mutable_dense()->mutable_f32());
  }
  out.set_version(Raw(record.version));
  if (record.expires_at_unix_us != 0) out.set_expires_at_unix_us(record.expires_at_unix_us);
}

}  // namespace azimuth::server
