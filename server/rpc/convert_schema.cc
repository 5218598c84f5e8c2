#include "server/rpc/convert_schema.h"

#include "base/ids.h"
#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/str_cat.h"

#include <string>
#include <string_view>
#include <utility>

namespace azimuth::server {
namespace {

constexpr std::string_view kKeyTypes = "int64 or string";
constexpr std::string_view kFieldTypes = "bool, int64, double or string";
constexpr std::string_view kMetrics = "l2, ip or cosine";
constexpr std::string_view kIndexKinds = "auto, flat or hnsw";
constexpr std::string_view kQuantizations = "auto, none, sq8, sq4, rabitq4 or pca4";
constexpr std::string_view kVectorKinds = "dense";
constexpr std::string_view kElementTypes = "f32";

absl::Status NotServed(std::string_view field, std::string_view value, std::string_view allowed) {
  return Unimplemented("%s: %s is not served yet; %s", field, value, allowed);
}

// For a known enum number that is not served: NotServed by its name, else UnknownEnum. `name` is
// what protobuf calls the number, empty for unknown ones, and `prefix` what all names begin with.
absl::Status RefuseEnum(std::string_view field, int number, std::string_view name,
                        std::string_view prefix, std::string_view allowed) {
  if (name.empty()) return UnknownEnum(field, number, allowed);
  std::string lower(name.substr(prefix.size()));
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return NotServed(field, lower, allowed);
}

absl::StatusOr<engine::KeyType> KeyTypeFromWire(pb::KeyType type) {
  switch (type) {
    case pb::KEY_TYPE_UNSPECIFIED:
    case pb::KEY_TYPE_INT64:
      return engine::KeyType::kInt64;
    case pb::KEY_TYPE_STRING:
      return engine::KeyType::kString;
    default:
      return UnknownEnum("key_type", type, kKeyTypes);
  }
}

absl::StatusOr<engine::FieldType> FieldTypeFromWire(pb::FieldType type) {
  switch (type) {
    case pb::FIELD_TYPE_UNSPECIFIED:
      return InvalidArgument("type: missing; %s", kFieldTypes);
    case pb::FIELD_TYPE_BOOL:
      return engine::FieldType::kBool;
    case pb::FIELD_TYPE_INT64:
      return engine::FieldType::kInt64;
    case pb::FIELD_TYPE_DOUBLE:
      return engine::FieldType::kDouble;
    case pb::FIELD_TYPE_STRING:
      return engine::FieldType::kString;
    default:
      return RefuseEnum("type", type, pb::FieldType_Name(type), "FIELD_TYPE_", kFieldTypes);
  }
}

absl::StatusOr<engine::Metric> MetricFromWire(pb::Metric metric) {
  switch (metric) {
    case pb::METRIC_UNSPECIFIED:
      return InvalidArgument("metric: missing; %s", kMetrics);
    case pb::METRIC_L2:
      return engine::Metric::kL2;
    case pb::METRIC_IP:
      return engine::Metric::kIp;
    case pb::METRIC_COSINE:
      return engine::Metric::kCosine;
    default:
      return RefuseEnum("metric", metric, pb::Metric_Name(metric), "METRIC_", kMetrics);
  }
}

absl::StatusOr<engine::IndexKind> IndexKindFromWire(pb::IndexKind kind) {
  switch (kind) {
    case pb::INDEX_KIND_UNSPECIFIED:
    case pb::INDEX_KIND_AUTO:
      return engine::IndexKind::kAuto;
    case pb::INDEX_KIND_FLAT:
      return engine::IndexKind::kFlat;
    case pb::INDEX_KIND_HNSW:
      return engine::IndexKind::kHnsw;
    default:
      return UnknownEnum("index.kind", kind, kIndexKinds);
  }
}

absl::StatusOr<engine::Quantization> QuantizationFromWire(pb::Quantization quantization) {
  switch (quantization) {
    case pb::QUANTIZATION_UNSPECIFIED:
    case pb::QUANTIZATION_AUTO:
      return engine::Quantization::kAuto;
    case pb::QUANTIZATION_NONE:
      return engine::Quantization::kNone;
    case pb::QUANTIZATION_SQ8:
      return engine::Quantization::kSq8;
    case pb::QUANTIZATION_SQ4:
      return engine::Quantization::kSq4;
    case pb::QUANTIZATION_RABITQ4:
      return engine::Quantization::kRabitq4;
    case pb::QUANTIZATION_PCA4:
      return engine::Quantization::kPca4;
    default:
      return RefuseEnum("index.quantization", quantization, pb::Quantization_Name(quantization),
                        "QUANTIZATION_", kQuantizations);
  }
}

absl::StatusOr<engine::FieldDef> FieldFromWire(const pb::FieldSpec& field) {
  engine::FieldDef out;
  out.name = field.name();
  AZ_ASSIGN_OR_RETURN(out.type, FieldTypeFromWire(field.type()));
  if (field.has_nullable()) out.nullable = field.nullable();
  if (field.has_default_value()) {
    absl::StatusOr<Value> value = FromWire(field.default_value());
    if (!value.ok()) return AtPlace("default_value", value.status());
    out.default_value = *std::move(value);
  }
  return out;
}

absl::StatusOr<engine::VectorFieldDef> VectorFieldFromWire(const pb::VectorFieldSpec& field) {
  engine::VectorFieldDef out;
  out.name = field.name();
  out.dim = field.dimension();
  if (field.kind() != pb::VECTOR_KIND_UNSPECIFIED && field.kind() != pb::VECTOR_KIND_DENSE) {
    return RefuseEnum("kind", field.kind(), pb::VectorKind_Name(field.kind()), "VECTOR_KIND_",
                      kVectorKinds);
  }
  if (field.element_type() != pb::ELEMENT_TYPE_UNSPECIFIED &&
      field.element_type() != pb::ELEMENT_TYPE_F32) {
    return RefuseEnum("element_type", field.element_type(),
                      pb::ElementType_Name(field.element_type()), "ELEMENT_TYPE_", kElementTypes);
  }
  if (!field.model().empty()) return Unimplemented("model: not served yet; leave it empty");
  AZ_ASSIGN_OR_RETURN(out.metric, MetricFromWire(field.metric()));
  const pb::IndexOptions& index = field.index();
  AZ_ASSIGN_OR_RETURN(out.index.kind, IndexKindFromWire(index.kind()));
  AZ_ASSIGN_OR_RETURN(out.index.quantization, QuantizationFromWire(index.quantization()));
  if (index.has_m()) out.index.m = index.m();
  if (index.has_ef_construction()) out.index.ef_construction = index.ef_construction();
  return out;
}

pb::FieldType ToWire(engine::FieldType type) {
  switch (type) {
    case engine::FieldType::kBool:
      return pb::FIELD_TYPE_BOOL;
    case engine::FieldType::kInt64:
      return pb::FIELD_TYPE_INT64;
    case engine::FieldType::kDouble:
      return pb::FIELD_TYPE_DOUBLE;
    case engine::FieldType::kString:
      return pb::FIELD_TYPE_STRING;
  }
  return pb::FIELD_TYPE_UNSPECIFIED;
}

pb::Metric ToWire(engine::Metric metric) {
  switch (metric) {
    case engine::Metric::kL2:
      return pb::METRIC_L2;
    case engine::Metric::kIp:
      return pb::METRIC_IP;
    case engine::Metric::kCosine:
      return pb::METRIC_COSINE;
  }
  return pb::METRIC_UNSPECIFIED;
}

pb::IndexKind ToWire(engine::IndexKind kind) {
  switch (kind) {
    case engine::IndexKind::kAuto:
      return pb::INDEX_KIND_AUTO;
    case engine::IndexKind::kFlat:
      return pb::INDEX_KIND_FLAT;
    case engine::IndexKind::kHnsw:
      return pb::INDEX_KIND_HNSW;
  }
  return pb::INDEX_KIND_UNSPECIFIED;
}

pb::Quantization ToWire(engine::Quantization quantization) {
  switch (quantization) {
    case engine::Quantization::kAuto:
      return pb::QUANTIZATION_AUTO;
    case engine::Quantization::kNone:
      return pb::QUANTIZATION_NONE;
    case engine::Quantization::kSq8:
      return pb::QUANTIZATION_SQ8;
    case engine::Quantization::kSq4:
      return pb::QUANTIZATION_SQ4;
    case engine::Quantization::kRabitq4:
      return pb::QUANTIZATION_RABITQ4;
    case engine::Quantization::kPca4:
      return pb::QUANTIZATION_PCA4;
  }
  return pb::QUANTIZATION_UNSPECIFIED;
}

pb::SegmentState ToWire(engine::SegmentState state) {
  switch (state) {
    case engine::SegmentState::kGrowing:
      return pb::SEGMENT_STATE_GROWING;
    case engine::SegmentState::kBuilding:
      return pb::SEGMENT_STATE_BUILDING;
    case engine::SegmentState::kSealed:
      return pb::SEGMENT_STATE_SEALED;
  }
  return pb::SEGMENT_STATE_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<engine::Schema> FromWire(const pb::CollectionSchema& schema) {
  if (!schema.properties().empty()) return Unimplemented("schema.properties: not served yet");
  engine::Schema out;
  absl::StatusOr<engine::KeyType> key_type = KeyTypeFromWire(schema.key_type());
  if (!key_type.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("schema.", key_type.status().message()));
  }
  out.key_type = *key_type;
  if (schema.has_dynamic()) out.dynamic = schema.dynamic();
  out.auto_id = schema.auto_id();
  out.ttl_seconds = schema.ttl_seconds();
  // A place within a place: `schema.vectors[0].metric: ...`.
  const auto within = [](std::string_view list, size_t index, const absl::Status& status) {
    return absl::Status(status.code(),
                        absl::StrCat("schema.", Place(list, index), ".", status.message()));
  };
  for (const pb::FieldSpec& field : schema.fields()) {
    absl::StatusOr<engine::FieldDef> converted = FieldFromWire(field);
    if (!converted.ok()) return within("fields", out.fields.size(), converted.status());
    out.fields.push_back(*std::move(converted));
  }
  for (const pb::VectorFieldSpec& field : schema.vectors()) {
    absl::StatusOr<engine::VectorFieldDef> converted = VectorFieldFromWire(field);
    if (!converted.ok()) return within("vectors", out.vectors.size(), converted.status());
    out.vectors.push_back(*std::move(converted));
  }
  return out;
}

void ToWire(engine::Schema&& schema, pb::CollectionSchema& out) {
  out.set_key_type(schema.key_type == engine::KeyType::kString ? pb::KEY_TYPE_STRING
                                                               : pb::KEY_TYPE_INT64);
  out.set_dynamic(schema.dynamic);
  out.set_auto_id(schema.auto_id);
  out.set_ttl_seconds(schema.ttl_seconds);
  for (engine::FieldDef& field : schema.fields) {
    pb::FieldSpec& spec = *out.add_fields();
    spec.set_name(std::move(field.name));
    spec.set_type(ToWire(field.type));
    spec.set_nullable(field.nullable);
    if (field.default_value.has_value()) {
      ToWire(*std::move(field.default_value), *spec.mutable_default_value());
    }
    spec.set_id(Raw(field.id));
  }
  for (engine::VectorFieldDef& field : schema.vectors) {
    pb::VectorFieldSpec& spec = *out.add_vectors();
    spec.set_name(std::move(field.name));
    spec.set_dimension(field.dim);
    spec.set_metric(ToWire(field.metric));
    spec.mutable_index()->set_kind(ToWire(field.index.kind));
    spec.mutable_index()->set_m(field.index.m);
    spec.mutable_index()->set_ef_construction(field.index.ef_construction);
    spec.mutable_index()->set_quantization(ToWire(field.index.quantization));
    spec.set_kind(pb::VECTOR_KIND_DENSE);
    spec.set_element_type(pb::ELEMENT_TYPE_F32);
    spec.set_id(Raw(field.id));
  }
}

void ToWire(engine::CollectionInfo&& info, pb::DescribeCollectionResponse& out) {
  out.set_database("default");
  out.set_collection(std::move(info.name));
  out.set_collection_id(Raw(info.id));
  ToWire(std::move(info.schema), *out.mutable_schema());
  out.set_created_unix_us(info.created_unix_us);
}

void ToWire(const engine::OptimizeProgress& progress, pb::OptimizeResponse& out) {
  out.set_segments(progress.segments);
  out.set_rows_waiting(progress.rows_waiting);
  out.set_rows(progress.rows);
  out.set_done(progress.done);
  out.set_error(progress.error);
  out.set_as_of(Raw(progress.as_of));
}

void ToWire(engine::CollectionStats&& stats, pb::CollectionStatsResponse& out) {
  out.set_row_count(stats.row_count);
  out.set_unindexed_rows(stats.unindexed_rows);
  out.set_as_of(Raw(stats.as_of));
  out.set_index_error(std::move(stats.index_error));
  for (const engine::SegmentStats& segment : stats.segments) {
    pb::SegmentStats& entry = *out.add_segments();
    entry.set_segment_id(Raw(segment.id));
    entry.set_state(ToWire(segment.state));
    entry.set_rows(segment.rows);
    entry.set_retired_rows(segment.retired_rows);
    entry.set_file_bytes(segment.file_bytes);
    entry.set_memory_bytes(segment.memory_bytes);
    entry.set_vectors_bytes(segment.parts.vectors);
    entry.set_codes_bytes(segment.parts.codes);
    entry.set_graph_bytes(segment.parts.graph);
    entry.set_columns_bytes(segment.parts.columns);
    for (const engine::SegmentVectorStats& vectors : segment.vectors) {
      pb::SegmentVectorStats& field = *entry.add_vectors();
      field.set_field(vectors.field);
      if (vectors.walked_by.has_value()) field.set_quantization(ToWire(*vectors.walked_by));
    }
  }
}

}  // namespace azimuth::server
