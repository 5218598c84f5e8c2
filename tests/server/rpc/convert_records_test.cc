#include "server/rpc/convert_records.h"

#include "engine/limits.h"
#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(RowForm, TakesKeysFieldsAndVectors) {
  const auto rows = Parse<pb::RecordList>(R"(
      records { key { int64_key: 1 }
                fields { key: 'price' value { double_value: 9.5 } }
                vectors { key: 'image' value { dense { values: [1, 2] } } } }
      records { key { string_key: 'b' } version: 7 })");
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(rows));
  ASSERT_EQ(inputs.records.size(), 2U);
  const engine::RecordInput& first = inputs.records[0];
  EXPECT_EQ(first.key, Key(int64_t{1}));
  ASSERT_EQ(first.fields.size(), 1U);
  EXPECT_EQ(first.fields[0].name, "price");
  EXPECT_EQ(first.fields[0].value, Value{9.5});
  ASSERT_EQ(first.vectors.size(), 1U);
  EXPECT_EQ(first.vectors[0].name, "image");
  EXPECT_THAT(first.vectors[0].values, ElementsAre(1, 2));
  // A record that was read can be written as it is: its version is not looked at.
  EXPECT_EQ(inputs.records[1].key, Key(std::string("b")));
  EXPECT_THAT(inputs.records[1].fields, IsEmpty());
  EXPECT_THAT(inputs.records[1].vectors, IsEmpty());
}

TEST(RowForm, LeavesARecordWithoutItsKeyToTheEngine) {
  const auto rows = Parse<pb::RecordList>("records {} records { key { int64_key: 0 } }");
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(rows));
  EXPECT_EQ(inputs.records[0].key, std::nullopt);
  EXPECT_EQ(inputs.records[1].key, Key(int64_t{0}));
}

TEST(RowForm, TellsKeysThatWereMade) {
  pb::KeyList keys;
  ToWire(engine::MadeKeys{.first = 7, .count = 3}, keys);
  EXPECT_THAT(keys.int64_keys().values(), ElementsAre(7, 8, 9));
}

TEST(RowForm, NamesTheRecordAndTheFieldThatIsWrong) {
  const auto expect_refused = [](const std::string& record, absl::StatusCode code,
                                 const std::string& message) {
    const auto rows =
        Parse<pb::RecordList>("records { key { int64_key: 1 } } records { " + record + " }");
    EXPECT_THAT(FromWire(rows), StatusIs(code, message));
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  expect_refused("key {}", kInvalid, "records[1].key: missing; set int64_key or string_key");
  expect_refused("key { int64_key: 2 } fields { key: 'price' value {} }", kInvalid,
                 "records[1].fields[\"price\"]: a value has no case set; null is null_value");
  expect_refused("key { int64_key: 2 } vectors { key: 'image' value {} }", kInvalid,
                 "records[1].vectors[\"image\"]: missing; set dense");
  expect_refused("key { int64_key: 2 } vectors { key: 'image' value { dense { f32: 'x' } } }",
                 kInvalid,
                 "records[1].vectors[\"image\"]: dense.f32: 1 bytes are not a multiple of 4");
}

TEST(RowForm, TellsGivenTimesAndVersionsFromAbsentOnes) {
  const auto rows = Parse<pb::RecordList>(R"(
      records { key { int64_key: 1 } expires_at_unix_us: 5 if_version: 7 }
      records { key { int64_key: 2 } expires_at_unix_us: 0 if_version: 0 }
      records { key { int64_key: 3 } })");
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(rows));
  EXPECT_EQ(inputs.records[0].expires_at_unix_us, 5);
  EXPECT_EQ(inputs.records[0].if_version, Seq{7});
  EXPECT_EQ(inputs.records[1].expires_at_unix_us, 0);
  EXPECT_EQ(inputs.records[1].if_version, Seq{0});
  EXPECT_EQ(inputs.records[2].expires_at_unix_us, std::nullopt);
  EXPECT_EQ(inputs.records[2].if_version, std::nullopt);
}

TEST(RecordsOf, TakesEitherFormOfEachRequest) {
  const char* rows = "rows { records { key { int64_key: 1 } } }";
  const char* columns = "columns { keys { int64_keys { values: [1, 2] } } }";
  ASSERT_OK_AND_ASSIGN(RecordInputs inputs, RecordsOf(Parse<pb::InsertRequest>(rows)));
  EXPECT_EQ(inputs.records.size(), 1U);
  ASSERT_OK_AND_ASSIGN(inputs, RecordsOf(Parse<pb::InsertRequest>(columns)));
  EXPECT_EQ(inputs.records.size(), 2U);
  ASSERT_OK_AND_ASSIGN(inputs, RecordsOf(Parse<pb::UpsertRequest>(rows)));
  EXPECT_EQ(inputs.records.size(), 1U);
  ASSERT_OK_AND_ASSIGN(inputs, RecordsOf(Parse<pb::UpsertRequest>(columns)));
  EXPECT_EQ(inputs.records.size(), 2U);
  ASSERT_OK_AND_ASSIGN(inputs, RecordsOf(Parse<pb::UpdateRequest>(rows)));
  EXPECT_EQ(inputs.records.size(), 1U);
  ASSERT_OK_AND_ASSIGN(inputs, RecordsOf(Parse<pb::UpdateRequest>(columns)));
  EXPECT_EQ(inputs.records.size(), 2U);
}

TEST(RecordsOf, RefusesAnEmptyBatch) {
  for (const char* text : {"", "rows {}", "columns {}", "columns { keys {} }",
                           "columns { keys { string_keys {} } }"}) {
    EXPECT_THAT(RecordsOf(Parse<pb::InsertRequest>(text)),
                StatusIs(absl::StatusCode::kInvalidArgument, "records: empty batch"))
        << text;
  }
}

TEST(RecordsOf, RefusesTooManyRecordsBeforeItLooksAtThem) {
  pb::UpsertRequest rows;
  // None of them has a key, which is what would be found otherwise.
  for (size_t i = 0; i <= engine::kBatchRecordsMax; ++i) rows.mutable_rows()->add_records();
  const std::string message = "records: 100001 records; at most 100000 go into one batch";
  EXPECT_THAT(RecordsOf(rows), StatusIs(absl::StatusCode::kInvalidArgument, message));
  pb::UpsertRequest columns;
  for (size_t i = 0; i <= engine::kBatchRecordsMax; ++i) {
    columns.mutable_columns()->mutable_keys()->mutable_int64_keys()->add_values(0);
  }
  EXPECT_THAT(RecordsOf(columns), StatusIs(absl::StatusCode::kInvalidArgument, message));
}

TEST(RecordOutput, BecomesARowThatCanBeWrittenAgain) {
  engine::RecordOutput record{.key = std::string("k"),
                              .version = Seq{12},
                              .expires_at_unix_us = 99,
                              .fields = {{"a", Value{int64_t{1}}}, {"b", Value{}}},
                              .vectors = {{"v", {0.5F, -1.0F}}}};
  const engine::RecordOutput original = record;
  pb::RecordList rows;
  ToWire(std::move(record), *rows.add_records());
  EXPECT_EQ(rows.records(0).version(), 12U);
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(rows));
  ASSERT_EQ(inputs.records.size(), 1U);
  const engine::RecordInput& input = inputs.records[0];
  EXPECT_EQ(input.key, original.key);
  EXPECT_EQ(input.expires_at_unix_us, 99);
  ValueMap fields;
  for (const engine::FieldInput& field : input.fields) fields.emplace(field.name, field.value);
  EXPECT_EQ(fields, original.fields);
  ASSERT_EQ(input.vectors.size(), 1U);
  EXPECT_EQ(input.vectors[0].name, "v");
  EXPECT_THAT(input.vectors[0].values, ElementsAre(0.5F, -1.0F));
}

}  // namespace
}  // namespace azimuth::server
