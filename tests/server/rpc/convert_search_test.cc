#include "server/rpc/convert_search.h"

#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SearchOptionsConversion, TakesEverythingOver) {
  ASSERT_OK_AND_ASSIGN(const engine::SearchSpec spec, FromWire(Parse<pb::SearchOptions>(R"(
      vector_field: 'image' limit: 7 params { ef: 99 }
      filter { expression: 'a == $x' parameters { key: 'x' value { bool_value: true } } }
      output_fields { names: 'a' } output_vectors: 'image')")));
  EXPECT_EQ(spec.vector_field, "image");
  EXPECT_EQ(spec.limit, 7U);
  EXPECT_EQ(spec.ef, 99U);
  EXPECT_FALSE(spec.exact);
  EXPECT_EQ(spec.filter.text, "a == $x");
  EXPECT_EQ(spec.filter.parameters.at("x"), Value{true});
  ASSERT_TRUE(spec.projection.fields.has_value());
  EXPECT_THAT(*spec.projection.fields, ElementsAre("a"));
  EXPECT_THAT(spec.projection.vectors, ElementsAre("image"));
}

TEST(SearchOptionsConversion, LeavesWhatIsUnsetToTheEngine) {
  ASSERT_OK_AND_ASSIGN(engine::SearchSpec spec, FromWire(pb::SearchOptions()));
  EXPECT_EQ(spec.recall, std::nullopt);
  EXPECT_EQ(spec.ef, std::nullopt);
  EXPECT_FALSE(spec.exact);
  EXPECT_EQ(spec.projection.fields, std::nullopt);
  ASSERT_OK_AND_ASSIGN(spec, FromWire(Parse<pb::SearchOptions>("params { ef: 0 }")));
  EXPECT_EQ(spec.ef, 0U) << "zero is a value, which the engine refuses";
  ASSERT_OK_AND_ASSIGN(spec, FromWire(Parse<pb::SearchOptions>("params { exact: true }")));
  EXPECT_TRUE(spec.exact);
  ASSERT_OK_AND_ASSIGN(spec, FromWire(Parse<pb::SearchOptions>("params { recall: 0.75 }")));
  EXPECT_EQ(spec.recall, 0.75);
  EXPECT_EQ(spec.ef, std::nullopt);
  ASSERT_OK_AND_ASSIGN(spec, FromWire(Parse<pb::SearchOptions>("params { recall: 0 }")));
  EXPECT_EQ(spec.recall, 0) << "zero is a value, which the engine refuses";
}

TEST(SearchOptionsConversion, TakesOneOfRecallEfAndExact) {
  for (const std::string params :
       {"ef: 9 exact: true", "recall: 0.9 ef: 9", "recall: 0.9 exact: true",
        "recall: 0.9 ef: 9 exact: true", "recall: 0 ef: 0"}) {
    EXPECT_THAT(FromWire(Parse<pb::SearchOptions>("params { " + params + " }")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         "options.params: more than one of recall, ef and exact is set; at most "
                         "one of them is allowed"))
        << params;
  }
  EXPECT_OK(FromWire(Parse<pb::SearchOptions>("params { recall: 0.9 exact: false }")));
}

TEST(SearchOptionsConversion, NamesAParameterThatIsWrong) {
  EXPECT_THAT(
      FromWire(Parse<pb::SearchOptions>("filter { parameters { key: 'x' value {} } }")),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("options.filter: parameters[\"x\"]")));
}

TEST(QueryOf, WantsAVectorOfTheDimension) {
  FloatStore store;
  const auto request = Parse<pb::SearchRequest>("query { dense { values: [1, 2, 3] } }");
  ASSERT_OK_AND_ASSIGN(const std::span<const float> query, QueryOf(request, 3, store));
  EXPECT_THAT(query, ElementsAre(1, 2, 3));
  EXPECT_THAT(QueryOf(request, 4, store),
              StatusIs(absl::StatusCode::kInvalidArgument, "query: expected 4 dimensions, got 3"));
  // Half of it would go as two queries, which is not what was asked.
  EXPECT_THAT(QueryOf(request, 1, store), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(QueryOf(pb::SearchRequest(), 3, store),
              StatusIs(absl::StatusCode::kInvalidArgument, "query: missing; set dense"));
}

TEST(QueriesOf, WantsWholeQueries) {
  FloatStore store;
  const std::vector<float> floats = {1, 2, 3, 4};
  std::string bytes(reinterpret_cast<const char*>(floats.data()), 16);
  ASSERT_OK_AND_ASSIGN(std::span<const float> queries, QueriesOf(bytes, 2, store));
  EXPECT_THAT(queries, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(QueriesOf(bytes, 3, store),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "queries_f32: 16 bytes are not a multiple of 12, which is 4 x the dimension "
                       "3"));
  bytes.pop_back();
  EXPECT_THAT(QueriesOf(bytes, 1, store), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(QueriesOf("", 1, store),
              StatusIs(absl::StatusCode::kInvalidArgument, "queries_f32: no queries"));
}

TEST(SearchWorkConversion, TakesEverythingOver) {
  const std::vector<std::pair<engine::SearchPath, pb::SearchPath>> paths = {
      {engine::SearchPath::kNothing, pb::SEARCH_PATH_UNSPECIFIED},
      {engine::SearchPath::kScan, pb::SEARCH_PATH_SCAN},
      {engine::SearchPath::kGraph, pb::SEARCH_PATH_GRAPH},
      {engine::SearchPath::kMixed, pb::SEARCH_PATH_MIXED}};
  for (const auto& [path, wanted] : paths) {
    pb::SearchWork wire;
    ToWire(engine::SearchWork{path, 1, 2, 3, 4}, wire);
    EXPECT_EQ(wire.path(), wanted);
    EXPECT_EQ(wire.distances_computed(), 1U);
    EXPECT_EQ(wire.segments_by_graph(), 2U);
    EXPECT_EQ(wire.segments_by_scan(), 3U);
    EXPECT_EQ(wire.rows_matching(), 4U);
    EXPECT_TRUE(wire.complete());
  }
}

TEST(HitConversion, TakesEverythingOver) {
  engine::SearchHit hit{.distance = 0.25F,
                        .score = -0.25F,
                        .record = {.key = int64_t{5},
                                   .version = Seq{9},
                                   .fields = {{"a", Value{std::string("x")}}},
                                   .vectors = {{"v", {1, 2}}}}};
  pb::Hit wire;
  ToWire(std::move(hit), wire);
  EXPECT_EQ(wire.DebugString(), Parse<pb::Hit>(R"(
      key { int64_key: 5 } distance: 0.25 score: -0.25 version: 9
      fields { key: 'a' value { string_value: 'x' } }
      vectors { key: 'v' value { dense { f32: '\x00\x00\x80\x3f\x00\x00\x00\x40' } } })")
                                    .DebugString());
}

TEST(QueryHitsConversion, HasTheColumnsAndTheWork) {
  engine::QueryHits hits;
  engine::SearchHit& hit = hits.hits.emplace_back();
  hit.distance = 2;
  hit.score = -2;
  hit.record.key = int64_t{5};
  hits.work.path = engine::SearchPath::kScan;
  pb::HitColumns wire;
  ToWire(std::move(hits), wire);
  EXPECT_EQ(wire.DebugString(), Parse<pb::HitColumns>(R"(
      keys { int64_keys { values: 5 } } distances: 2 scores: -2
      work { path: SEARCH_PATH_SCAN complete: true })")
                                    .DebugString());
}

}  // namespace
}  // namespace azimuth::server
