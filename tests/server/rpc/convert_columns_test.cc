#include "server/rpc/convert_columns.h"

#include "server/rpc/convert_records.h"
#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Bytes(const std::vector<float>& floats) {
  std::string bytes(floats.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), floats.data(), bytes.size());
  return bytes;
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

void ExpectRefused(const std::string& columns, const std::string& message) {
  const std::string keys = "keys { int64_keys { values: [1, 2, 3, 4] } } ";
  EXPECT_THAT(FromWire(Parse<pb::RecordColumns>(keys + columns)),
              StatusIs(absl::StatusCode::kInvalidArgument, message))
      << columns;
}

TEST(ColumnForm, HasATimeForEachRowOrForNone) {
  ASSERT_OK_AND_ASSIGN(RecordInputs inputs, FromWire(Parse<pb::RecordColumns>(R"(
      keys { int64_keys { values: [1, 2] } } expires_at_unix_us: [5, 0])")));
  EXPECT_EQ(inputs.records[0].expires_at_unix_us, 5);
  EXPECT_EQ(inputs.records[1].expires_at_unix_us, 0);
  ASSERT_OK_AND_ASSIGN(inputs,
                       FromWire(Parse<pb::RecordColumns>("keys { int64_keys { values: 1 } }")));
  EXPECT_EQ(inputs.records[0].expires_at_unix_us, std::nullopt);
  ExpectRefused("expires_at_unix_us: [1, 2, 3]",
                "columns.expires_at_unix_us: 3 values for 4 records");
}

TEST(ColumnForm, SpreadsEveryKindOfColumnOverTheRows) {
  auto columns = Parse<pb::RecordColumns>(R"(
      keys { string_keys { values: ['x', 'y'] } }
      fields { name: 'b' bools { values: [true, false] } }
      fields { name: 'i' int64s { values: [1, -2] } }
      fields { name: 'd' doubles { values: [0.5, 2] } }
      fields { name: 's' strings { values: ['p', ''] } }
      fields { name: 'a' any { values { null_value {} } values { list_value {} } } })");
  pb::VectorColumn& vectors = *columns.add_vectors();
  vectors.set_name("v");
  vectors.set_f32(Bytes({1, 2, 3, 4, 5, 6}));
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(columns));
  ASSERT_THAT(inputs.records, SizeIs(2));
  const engine::RecordInput& first = inputs.records[0];
  const engine::RecordInput& second = inputs.records[1];
  EXPECT_EQ(first.key, Key(std::string("x")));
  EXPECT_EQ(second.key, Key(std::string("y")));
  ASSERT_THAT(first.fields, SizeIs(5));
  ASSERT_THAT(second.fields, SizeIs(5));
  const std::vector<std::pair<Value, Value>> wanted = {
      {Value{true}, Value{false}},
      {Value{int64_t{1}}, Value{int64_t{-2}}},
      {Value{0.5}, Value{2.0}},
      {Value{std::string("p")}, Value{std::string()}},
      {Value{}, Value{ValueList{}}}};
  const char* names = "bidsa";
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(first.fields[i].name, std::string(1, names[i]));
    EXPECT_EQ(first.fields[i].value, wanted[i].first) << names[i];
    EXPECT_EQ(second.fields[i].value, wanted[i].second) << names[i];
  }
  EXPECT_THAT(first.vectors[0].values, ElementsAre(1, 2, 3));
  EXPECT_THAT(second.vectors[0].values, ElementsAre(4, 5, 6));
  EXPECT_THAT(inputs.floats, IsEmpty()) << "aligned floats are read where they are";
}

TEST(ColumnForm, SkipsRowsThatAreNotPresent) {
  pb::RecordColumns columns;
  for (int64_t i = 0; i < 10; ++i) columns.mutable_keys()->mutable_int64_keys()->add_values(i);
  pb::FieldColumn& any = *columns.add_fields();
  any.set_name("any");
  any.set_present(std::string("\x01\x02", 2));  // Rows 0 and 9.
  // What stands in the place of an absent value is not looked at: it may have no case.
  for (int i = 0; i < 10; ++i) any.mutable_any()->add_values();
  any.mutable_any()->mutable_values(0)->set_int64_value(0);
  any.mutable_any()->mutable_values(9)->set_int64_value(9);
  pb::VectorColumn& vectors = *columns.add_vectors();
  vectors.set_name("v");
  vectors.set_present(std::string("\x80\x00", 2));  // Row 7.
  vectors.set_f32(Bytes({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  ASSERT_OK_AND_ASSIGN(const RecordInputs inputs, FromWire(columns));
  ASSERT_THAT(inputs.records, SizeIs(10));
  for (size_t i = 0; i < 10; ++i) {
    const engine::RecordInput& record = inputs.records[i];
    EXPECT_THAT(record.fields, SizeIs(i == 0 || i == 9 ? 1 : 0)) << i;
    EXPECT_THAT(record.vectors, SizeIs(i == 7 ? 1 : 0)) << i;
  }
  EXPECT_EQ(inputs.records[9].fields[0].value, Value{int64_t{9}});
  EXPECT_THAT(inputs.records[7].vectors[0].values, ElementsAre(7));
}

TEST(ColumnForm, RefusesRaggedColumns) {
  ExpectRefused("fields { name: 'price' doubles { values: [1, 2, 3] } }",
                "columns.fields[\"price\"]: 3 values for 4 records");
  ExpectRefused("fields { name: 'price' bools { values: [true, true, true, true, true] } }",
                "columns.fields[\"price\"]: 5 values for 4 records");
  ExpectRefused("fields { name: 'price' any {} }",
                "columns.fields[\"price\"]: 0 values for 4 records");
  ExpectRefused("vectors { name: 'v' f32: '0123456789' }",
                "columns.vectors[\"v\"]: f32: 10 bytes are not the same whole number of floats for "
                "each of 4 records");
}

TEST(ColumnForm, WithoutKeysSaysHowManyRecordsThereAre) {
  ASSERT_OK_AND_ASSIGN(RecordInputs inputs, FromWire(Parse<pb::RecordColumns>(R"(
      count: 2 fields { name: 'i' int64s { values: [1, -2] } })")));
  ASSERT_THAT(inputs.records, SizeIs(2));
  EXPECT_EQ(inputs.records[1].key, std::nullopt);
  EXPECT_EQ(inputs.records[1].fields[0].value, Value{int64_t{-2}});
  ASSERT_OK_AND_ASSIGN(
      inputs, FromWire(Parse<pb::RecordColumns>("count: 1 keys { int64_keys { values: 5 } }")));
  EXPECT_EQ(inputs.records[0].key, Key(int64_t{5}));
  ExpectRefused("count: 3", "columns.count: 3, and columns.keys has 4");
  for (const auto& [columns, message] :
       {std::pair("count: 2 keys {}", "columns.count: 2, and columns.keys has 0"),
        std::pair("count: 0", "records: empty batch"),
        std::pair("count: 2 fields { name: 'i' int64s { values: 1 } }",
                  "columns.fields[\"i\"]: 1 values for 2 records")}) {
    EXPECT_THAT(FromWire(Parse<pb::RecordColumns>(columns)),
                StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
}

TEST(ColumnForm, RefusesPresenceThatDoesNotFit) {
  const std::string values = "int64s { values: [1, 2, 3, 4] } ";
  ExpectRefused("fields { name: 'p' present: 'ab' " + values + "}",
                "columns.fields[\"p\"]: present: 2 bytes for 4 rows, expected 1 or none");
  ExpectRefused("fields { name: 'p' present: '\\x1f' " + values + "}",
                "columns.fields[\"p\"]: present: bits past the 4 rows are set; they must be 0");
  ExpectRefused("vectors { name: 'v' f32: '0123456789abcdef' present: '\\x10' }",
                "columns.vectors[\"v\"]: present: bits past the 4 rows are set; they must be 0");
}

TEST(ColumnForm, RefusesColumnsWithoutValuesOrWithANameTwice) {
  ExpectRefused("fields { name: 'p' }",
                "columns.fields[\"p\"]: no values; set one of bools, int64s, doubles, strings and "
                "any");
  ExpectRefused(
      "fields { name: 'p' any { values { bool_value: true } values {} values {} values "
      "{} } }",
      "columns.fields[\"p\"]: any[1]: a value has no case set; null is null_value");
  const std::string field = "fields { name: 'p' int64s { values: [1, 2, 3, 4] } } ";
  ExpectRefused(field + field, "columns.fields[\"p\"]: two columns have this name");
  const std::string vector = "vectors { name: 'v' f32: '0123456789abcdef' } ";
  ExpectRefused(vector + vector, "columns.vectors[\"v\"]: two columns have this name");
}

engine::SearchHit Hit(int64_t key, ValueMap fields,
                      std::map<std::string, std::vector<float>> vectors = {}) {
  engine::SearchHit hit;
  hit.distance = static_cast<float>(key);
  hit.score = -static_cast<float>(key);
  hit.record.key = key;
  hit.record.fields = std::move(fields);
  hit.record.vectors = std::move(vectors);
  return hit;
}

TEST(HitsToColumns, MakesTypedColumnsOfFieldsThatAllHitsHave) {
  std::vector<engine::SearchHit> hits;
  hits.push_back(Hit(1, {{"b", Value{true}},
                         {"d", Value{0.5}},
                         {"i", Value{int64_t{3}}},
                         {"s", Value{std::string("x")}}}));
  hits.push_back(Hit(2, {{"b", Value{false}},
                         {"d", Value{1.5}},
                         {"i", Value{int64_t{4}}},
                         {"s", Value{std::string("y")}}}));
  pb::HitColumns columns;
  HitsToColumns(std::move(hits), columns);
  EXPECT_EQ(columns.DebugString(), Parse<pb::HitColumns>(R"(
      keys { int64_keys { values: [1, 2] } }
      distances: [1, 2] scores: [-1, -2]
      fields { name: 'b' bools { values: [true, false] } }
      fields { name: 'd' doubles { values: [0.5, 1.5] } }
      fields { name: 'i' int64s { values: [3, 4] } }
      fields { name: 's' strings { values: ['x', 'y'] } })")
                                       .DebugString());
}

TEST(HitsToColumns, MarksHitsThatLackAField) {
  std::vector<engine::SearchHit> hits;
  hits.push_back(Hit(1, {}));
  hits.push_back(Hit(2, {{"i", Value{int64_t{4}}}}));
  hits.push_back(Hit(3, {{"s", Value{std::string("z")}}}));
  pb::HitColumns columns;
  HitsToColumns(std::move(hits), columns);
  EXPECT_EQ(columns.DebugString(), Parse<pb::HitColumns>(R"(
      keys { int64_keys { values: [1, 2, 3] } }
      distances: [1, 2, 3] scores: [-1, -2, -3]
      fields { name: 'i' present: '\x02' int64s { values: [0, 4, 0] } }
      fields { name: 's' present: '\x04' strings { values: ['', '', 'z'] } })")
                                       .DebugString());
}

TEST(HitsToColumns, MakesAColumnOfValuesWhereKindsDifferOrHaveNoType) {
  std::vector<engine::SearchHit> hits;
  hits.push_back(Hit(1, {{"mixed", Value{int64_t{4}}}, {"list", Value{ValueList{}}}}));
  hits.push_back(Hit(2, {{"mixed", Value{0.5}}}));
  hits.push_back(Hit(3, {{"mixed", Value{}}}));
  pb::HitColumns columns;
  HitsToColumns(std::move(hits), columns);
  EXPECT_EQ(columns.DebugString(), Parse<pb::HitColumns>(R"(
      keys { int64_keys { values: [1, 2, 3] } }
      distances: [1, 2, 3] scores: [-1, -2, -3]
      fields { name: 'list' present: '\x01'
               any { values { list_value {} } values { null_value {} } values { null_value {} } } }
      fields { name: 'mixed' any { values { int64_value: 4 } values { double_value: 0.5 }
                                   values { null_value {} } } })")
                                       .DebugString());
}

TEST(HitsToColumns, FillsAbsentVectorsWithZeros) {
  std::vector<engine::SearchHit> hits;
  for (int64_t key = 0; key < 9; ++key) {
    std::map<std::string, std::vector<float>> vectors;
    if (key == 1 || key == 8) vectors["v"] = {static_cast<float>(key), 0.5F};
    hits.push_back(Hit(key, {}, std::move(vectors)));
  }
  pb::HitColumns columns;
  HitsToColumns(std::move(hits), columns);
  ASSERT_EQ(columns.vectors_size(), 1);
  EXPECT_EQ(columns.vectors(0).name(), "v");
  EXPECT_EQ(columns.vectors(0).present(), std::string("\x02\x01", 2));
  std::vector<float> wanted(18, 0.0F);
  wanted[2] = 1;
  wanted[3] = 0.5F;
  wanted[16] = 8;
  wanted[17] = 0.5F;
  EXPECT_EQ(Floats(columns.vectors(0).f32()), wanted);
}

TEST(HitsToColumns, HasNothingForNoHits) {
  pb::HitColumns columns;
  HitsToColumns({}, columns);
  EXPECT_EQ(columns.keys().kind_case(), pb::KeyList::KIND_NOT_SET);
  EXPECT_EQ(columns.distances_size(), 0);
  EXPECT_EQ(columns.fields_size(), 0);
}

}  // namespace
}  // namespace azimuth::server
