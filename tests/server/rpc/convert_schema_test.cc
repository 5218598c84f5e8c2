#include "server/rpc/convert_schema.h"

#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <string>
#include <utility>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;

TEST(SchemaConversion, FillsInTheDefaultsOfTheContract) {
  ASSERT_OK_AND_ASSIGN(const engine::Schema schema, FromWire(Parse<pb::CollectionSchema>(R"(
      fields { name: 'a' type: FIELD_TYPE_BOOL }
      vectors { name: 'v' dimension: 3 metric: METRIC_IP })")));
  EXPECT_EQ(schema.key_type, engine::KeyType::kInt64);
  EXPECT_TRUE(schema.dynamic);
  ASSERT_EQ(schema.fields.size(), 1U);
  EXPECT_TRUE(schema.fields[0].nullable);
  EXPECT_FALSE(schema.fields[0].default_value.has_value());
  ASSERT_EQ(schema.vectors.size(), 1U);
  EXPECT_EQ(schema.vectors[0].dim, 3U);
  EXPECT_EQ(schema.vectors[0].index, engine::IndexOptions());
}

TEST(SchemaConversion, GoesBothWays) {
  const auto wire = Parse<pb::CollectionSchema>(R"(
      key_type: KEY_TYPE_STRING
      fields { name: 'a' type: FIELD_TYPE_BOOL nullable: true }
      fields { name: 'b' type: FIELD_TYPE_INT64 nullable: false default_value { int64_value: 4 } }
      fields { name: 'c' type: FIELD_TYPE_DOUBLE nullable: true default_value { null_value {} } }
      fields { name: 'd' type: FIELD_TYPE_STRING nullable: true }
      vectors { name: 'l2' dimension: 1 metric: METRIC_L2 kind: VECTOR_KIND_DENSE
                element_type: ELEMENT_TYPE_F32
                index { kind: INDEX_KIND_FLAT m: 2 ef_construction: 8
                        quantization: QUANTIZATION_NONE } }
      vectors { name: 'ip' dimension: 2 metric: METRIC_IP kind: VECTOR_KIND_DENSE
                element_type: ELEMENT_TYPE_F32
                index { kind: INDEX_KIND_HNSW m: 32 ef_construction: 99
                        quantization: QUANTIZATION_AUTO } }
      vectors { name: 'cos' dimension: 3 metric: METRIC_COSINE kind: VECTOR_KIND_DENSE
                element_type: ELEMENT_TYPE_F32
                index { kind: INDEX_KIND_AUTO m: 16 ef_construction: 200
                        quantization: QUANTIZATION_SQ8 } }
      vectors { name: 'four' dimension: 3 metric: METRIC_COSINE kind: VECTOR_KIND_DENSE
                element_type: ELEMENT_TYPE_F32
                index { kind: INDEX_KIND_AUTO m: 16 ef_construction: 200
                        quantization: QUANTIZATION_SQ4 } }
      vectors { name: 'rotated' dimension: 3 metric: METRIC_COSINE kind: VECTOR_KIND_DENSE
                element_type: ELEMENT_TYPE_F32
                index { kind: INDEX_KIND_AUTO m: 16 ef_construction: 200
                        quantization: QUANTIZATION_RABITQ4 } }
      dynamic: false auto_id: true ttl_seconds: 3600)");
  ASSERT_OK_AND_ASSIGN(engine::Schema schema, FromWire(wire));
  pb::CollectionSchema back;
  ToWire(std::move(schema), back);
  EXPECT_EQ(back.DebugString(), wire.DebugString());
}

TEST(SchemaConversion, SaysTheIdsOfFields) {
  engine::Schema schema;
  schema.fields.emplace_back().id = FieldId{5};
  schema.vectors.emplace_back().id = FieldId{6};
  pb::CollectionSchema wire;
  ToWire(std::move(schema), wire);
  EXPECT_EQ(wire.fields(0).id(), 5U);
  EXPECT_EQ(wire.vectors(0).id(), 6U);
}

void ExpectRefused(absl::StatusCode code, const std::string& text, const std::string& message) {
  EXPECT_THAT(FromWire(Parse<pb::CollectionSchema>(text)), StatusIs(code, message)) << text;
}

TEST(SchemaConversion, NamesWhatIsMissing) {
  constexpr auto kCode = absl::StatusCode::kInvalidArgument;
  ExpectRefused(kCode, "vectors { name: 'v' dimension: 3 }",
                "schema.vectors[0].metric: missing; l2, ip or cosine");
  ExpectRefused(kCode, "fields { name: 'a' type: FIELD_TYPE_BOOL } fields { name: 'b' }",
                "schema.fields[1].type: missing; bool, int64, double or string");
  ExpectRefused(kCode, "fields { name: 'a' type: FIELD_TYPE_BOOL default_value {} }",
                "schema.fields[0].default_value: a value has no case set; null is null_value");
}

TEST(SchemaConversion, NamesUnknownNumbers) {
  const auto expect_unknown = [](const auto& change, const std::string& message) {
    auto schema = Parse<pb::CollectionSchema>(R"(
        fields { name: 'a' type: FIELD_TYPE_BOOL }
        vectors { name: 'v' dimension: 3 metric: METRIC_IP })");
    change(schema);
    EXPECT_THAT(FromWire(schema), StatusIs(absl::StatusCode::kInvalidArgument, message));
  };
  using Schema = pb::CollectionSchema;
  expect_unknown([](Schema& s) { s.set_key_type(static_cast<pb::KeyType>(3)); },
                 "schema.key_type: 3 is unknown; int64 or string");
  expect_unknown([](Schema& s) { s.mutable_fields(0)->set_type(static_cast<pb::FieldType>(99)); },
                 "schema.fields[0].type: 99 is unknown; bool, int64, double or string");
  expect_unknown([](Schema& s) { s.mutable_vectors(0)->set_metric(static_cast<pb::Metric>(17)); },
                 "schema.vectors[0].metric: 17 is unknown; l2, ip or cosine");
  expect_unknown([](Schema& s) { s.mutable_vectors(0)->set_kind(static_cast<pb::VectorKind>(9)); },
                 "schema.vectors[0].kind: 9 is unknown; dense");
  expect_unknown(
      [](Schema& s) { s.mutable_vectors(0)->set_element_type(static_cast<pb::ElementType>(9)); },
      "schema.vectors[0].element_type: 9 is unknown; f32");
  expect_unknown(
      [](Schema& s) {
        s.mutable_vectors(0)->mutable_index()->set_kind(static_cast<pb::IndexKind>(-1));
      },
      "schema.vectors[0].index.kind: -1 is unknown; auto, flat or hnsw");
  expect_unknown(
      [](Schema& s) {
        s.mutable_vectors(0)->mutable_index()->set_quantization(static_cast<pb::Quantization>(9));
      },
      "schema.vectors[0].index.quantization: 9 is unknown; auto, none, sq8, sq4, rabitq4 or pca4");
}

TEST(SchemaConversion, RefusesWhatIsNotServedYet) {
  constexpr auto kCode = absl::StatusCode::kUnimplemented;
  const std::string vector = "name: 'v' dimension: 3 metric: METRIC_L2 ";
  ExpectRefused(
      kCode, "fields { name: 'a' type: FIELD_TYPE_GEO_POINT }",
      "schema.fields[0].type: geo_point is not served yet; bool, int64, double or string");
  ExpectRefused(kCode, "fields { name: 'a' type: FIELD_TYPE_STRING_ARRAY }",
                "schema.fields[0].type: string_array is not served yet; bool, int64, double or "
                "string");
  ExpectRefused(kCode, "vectors { name: 'v' dimension: 3 metric: METRIC_JACCARD }",
                "schema.vectors[0].metric: jaccard is not served yet; l2, ip or cosine");
  ExpectRefused(kCode, "vectors { " + vector + "index { quantization: QUANTIZATION_RABITQ1 } }",
                "schema.vectors[0].index.quantization: rabitq1 is not served yet; auto, none, sq8, "
                "sq4, rabitq4 or pca4");
  ExpectRefused(kCode, "vectors { " + vector + "kind: VECTOR_KIND_SPARSE }",
                "schema.vectors[0].kind: sparse is not served yet; dense");
  ExpectRefused(kCode, "vectors { " + vector + "element_type: ELEMENT_TYPE_I8 }",
                "schema.vectors[0].element_type: i8 is not served yet; f32");
  ExpectRefused(kCode, "vectors { " + vector + "model: 'm' }",
                "schema.vectors[0].model: not served yet; leave it empty");
  ExpectRefused(kCode, "properties { key: 'k' value: 'v' }", "schema.properties: not served yet");
}

TEST(OptimizeConversion, TakesEverythingOver) {
  pb::OptimizeResponse wire;
  ToWire(
      engine::OptimizeProgress{
          .segments = 1, .rows_waiting = 2, .rows = 3, .done = true, .error = "e", .as_of = Seq{4}},
      wire);
  EXPECT_EQ(wire.DebugString(),
            Parse<pb::OptimizeResponse>(
                "segments: 1 rows_waiting: 2 rows: 3 done: true error: 'e' as_of: 4")
                .DebugString());
}

TEST(StatsConversion, TakesEveryNumberOver) {
  engine::CollectionStats stats{
      .row_count = 1,
      .unindexed_rows = 2,
      .segments = {{.id = SegmentId{3},
                    .state = engine::SegmentState::kSealed,
                    .rows = 4,
                    .retired_rows = 5,
                    .file_bytes = 6,
                    .memory_bytes = 7,
                    .parts = {.vectors = 8, .codes = 9, .graph = 10, .columns = 11},
                    .vectors = {{"a", engine::Quantization::kSq4},
                                {"b", engine::Quantization::kNone},
                                {"c"}}},
                   {.state = engine::SegmentState::kBuilding},
                   {.state = engine::SegmentState::kGrowing}},
      .as_of = Seq{8},
      .index_error = "e"};
  pb::CollectionStatsResponse wire;
  ToWire(std::move(stats), wire);
  EXPECT_EQ(wire.DebugString(), Parse<pb::CollectionStatsResponse>(R"(
      row_count: 1 unindexed_rows: 2
      segments { segment_id: 3 state: SEGMENT_STATE_SEALED rows: 4 retired_rows: 5 file_bytes: 6
                 memory_bytes: 7 vectors_bytes: 8 codes_bytes: 9 graph_bytes: 10 columns_bytes: 11
                 vectors { field: 'a' quantization: QUANTIZATION_SQ4 }
                 vectors { field: 'b' quantization: QUANTIZATION_NONE }
                 vectors { field: 'c' } }
      segments { state: SEGMENT_STATE_BUILDING }
      segments { state: SEGMENT_STATE_GROWING }
      as_of: 8 index_error: 'e')")
                                    .DebugString());
}

TEST(DescribeConversion, TakesEverythingOver) {
  engine::CollectionInfo info{
      .id = CollectionId{4}, .name = "c", .schema = {}, .created_unix_us = 9};
  info.schema.dynamic = false;
  pb::DescribeCollectionResponse wire;
  ToWire(std::move(info), wire);
  EXPECT_EQ(wire.DebugString(), Parse<pb::DescribeCollectionResponse>(R"(
      database: 'default' collection: 'c' collection_id: 4 created_unix_us: 9
      schema { key_type: KEY_TYPE_INT64 dynamic: false })")
                                    .DebugString());
}

}  // namespace
}  // namespace azimuth::server
