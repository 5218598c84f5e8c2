#include "engine/database.h"

#include "tests/engine/open_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeRecord;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;
using testing::WaitIndexed;

const CancelToken kNoCancel;

std::vector<RecordInput> Batch(const std::vector<std::vector<float>>& vectors, int64_t first_key) {
  std::vector<RecordInput> records;
  for (size_t i = 0; i < vectors.size(); ++i) {
    const int64_t key = first_key + static_cast<int64_t>(i);
    records.push_back(MakeRecord(key, key % 10, vectors[i]));
  }
  return records;
}

// Points on a line: key i lies at (i, 0).
std::vector<std::vector<float>> Line(size_t count, size_t first = 0) {
  std::vector<std::vector<float>> vectors;
  for (size_t i = 0; i < count; ++i) vectors.push_back({static_cast<float>(first + i), 0.0F});
  return vectors;
}

std::vector<int64_t> KeysOf(const QueryHits& hits) {
  std::vector<int64_t> keys;
  for (const SearchHit& hit : hits.hits) keys.push_back(std::get<int64_t>(hit.record.key));
  return keys;
}

class DatabaseTest : public ::testing::Test {
 protected:
  DatabaseTest() : db_(OpenOrDie(SmallOptions(dir_.path()))) {
    EXPECT_OK(db_->CreateCollection("items", SmallSchema(2), false, kNoCancel));
  }

  void InsertLine(size_t count, size_t first = 0) {
    const auto vectors = Line(count, first);
    ASSERT_OK(db_->Insert("items", Batch(vectors, static_cast<int64_t>(first)), kNoCancel));
  }
  uint64_t CountOf(const std::string& filter) {
    const auto result = db_->Count("items", {filter, {}}, kNoCancel);
    EXPECT_OK(result);
    return result.ok() ? result->count : UINT64_MAX;
  }
  // Without a flush, as after a crash.
  void Reopen() {
    db_.reset();
    db_ = OpenOrDie(SmallOptions(dir_.path()));
  }

  TempDir dir_;
  std::unique_ptr<Database> db_;
};

TEST_F(DatabaseTest, AWriteIsVisibleAtOnceToEveryKindOfRead) {
  InsertLine(5);
  const std::vector<Key> keys = {Key{int64_t{3}}, Key{int64_t{77}}};
  ASSERT_OK_AND_ASSIGN(const GetResult got, db_->Get("items", keys, {}, kNoCancel));
  ASSERT_EQ(got.records.size(), 1U);
  EXPECT_EQ(got.records[0].fields.at("n"), Value{int64_t{3}});
  EXPECT_THAT(got.missing, ElementsAre(Key{int64_t{77}}));
  EXPECT_EQ(CountOf(""), 5U);
  EXPECT_EQ(CountOf("n >= 3"), 2U);
  const std::vector<float> query = {3.2F, 0.0F};
  ASSERT_OK_AND_ASSIGN(const SearchResult found,
                       db_->Search("items", query, {.limit = 2}, kNoCancel));
  EXPECT_THAT(KeysOf(found.queries[0]), ElementsAre(3, 4));
  EXPECT_NEAR(found.queries[0].hits[0].distance, 0.04, 1e-5);
  EXPECT_EQ(found.queries[0].hits[0].score, -found.queries[0].hits[0].distance);
}

TEST_F(DatabaseTest, InsertOfAnExistingKeyWritesNothingOfTheBatch) {
  InsertLine(3);
  const auto vectors = Line(3, 2);
  EXPECT_THAT(db_->Insert("items", Batch(vectors, 2), kNoCancel),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("records[0].key: 2")));
  EXPECT_EQ(CountOf(""), 3U);
}

TEST_F(DatabaseTest, UpsertReplacesTheWholeRecordAndOfTwoTheLastWins) {
  InsertLine(3);
  const std::vector<float> vector = {50.0F, 0.0F};
  std::vector<RecordInput> records;
  records.push_back(MakeRecord(1, 111, vector));
  records.push_back({Key{int64_t{1}}, {{"color", Value{std::string("red")}}}, {}});
  ASSERT_OK_AND_ASSIGN(const WriteResult result,
                       db_->Upsert("items", std::move(records), kNoCancel));
  EXPECT_EQ(result.replaced, 1U);
  EXPECT_EQ(result.inserted, 0U);
  const std::vector<Key> keys = {Key{int64_t{1}}};
  ASSERT_OK_AND_ASSIGN(const GetResult got, db_->Get("items", keys, {.vectors = {"v"}}, kNoCancel));
  EXPECT_EQ(got.records[0].fields.count("n"), 0U);
  EXPECT_EQ(got.records[0].fields.at("color"), Value{std::string("red")});
  EXPECT_TRUE(got.records[0].vectors.empty());
  EXPECT_EQ(got.records[0].version, result.as_of);
  EXPECT_EQ(CountOf("n == 1"), 0U);
  EXPECT_EQ(CountOf(""), 3U);
}

TEST_F(DatabaseTest, DeleteByKeysAndByFilterAndAll) {
  InsertLine(20);
  ASSERT_OK_AND_ASSIGN(
      WriteResult result,
      db_->DeleteKeys("items", {Key{int64_t{1}}, Key{int64_t{1}}, Key{int64_t{99}}}, kNoCancel));
  EXPECT_EQ(result.deleted, 1U);
  ASSERT_OK_AND_ASSIGN(result, db_->DeleteMatching("items", {"n < 3", {}}, false, kNoCancel));
  EXPECT_EQ(result.deleted, 5U);
  EXPECT_EQ(CountOf(""), 14U);
  EXPECT_THAT(db_->DeleteMatching("items", {"  ", {}}, false, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(result, db_->DeleteMatching("items", {}, true, kNoCancel));
  EXPECT_EQ(result.deleted, 14U);
  EXPECT_EQ(CountOf(""), 0U);
}

TEST_F(DatabaseTest, QueryGivesTheSmallestKeysInOrder) {
  const auto vectors = Line(50);
  auto batch = Batch(vectors, 0);
  std::reverse(batch.begin(), batch.end());
  ASSERT_OK(db_->Insert("items", std::move(batch), kNoCancel));
  ASSERT_OK_AND_ASSIGN(const QueryResult result,
                       db_->Query("items", {"n == 7", {}}, 3, {}, kNoCancel));
  std::vector<int64_t> keys;
  for (const auto& record : result.records) keys.push_back(std::get<int64_t>(record.key));
  EXPECT_THAT(keys, ElementsAre(7, 17, 27));
}

TEST_F(DatabaseTest, TiesStandInOrderOfKeyAcrossSegments) {
  const std::vector<float> same = {1.0F, 1.0F};
  for (const int64_t key : {300, 5, 70, 12, 8}) {
    std::vector<RecordInput> records;
    records.push_back(MakeRecord(key, 0, same));
    ASSERT_OK(db_->Insert("items", std::move(records), kNoCancel));
  }
  InsertLine(200, 1000);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  ASSERT_OK_AND_ASSIGN(const SearchResult found,
                       db_->Search("items", same, {.limit = 4, .exact = true}, kNoCancel));
  EXPECT_THAT(KeysOf(found.queries[0]), ElementsAre(5, 8, 12, 70));
}

TEST_F(DatabaseTest, SealedSegmentsAnswerByGraphWithFewDistancesAlsoAfterAReopen) {
  for (size_t first = 0; first < 2000; first += 500) InsertLine(500, first);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  const std::vector<float> query = {1234.2F, 0.0F};
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const SearchResult found,
                         db_->Search("items", query, {.limit = 3, .ef = 16}, kNoCancel));
    EXPECT_THAT(KeysOf(found.queries[0]), ElementsAre(1234, 1235, 1233));
    // A tail of fewer rows than a graph is built for may be scanned.
    EXPECT_GE(found.queries[0].work.segments_by_graph, 1U);
    EXPECT_LT(found.queries[0].work.distances_computed, 1000U);
    Reopen();
    ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("items"));
    EXPECT_EQ(stats.unindexed_rows, 0U);
  }
}

TEST_F(DatabaseTest, AFilteredSearchGivesLimitHitsWheneverThatManyMatch) {
  for (size_t first = 0; first < 2000; first += 500) InsertLine(500, first);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  const std::vector<float> query = {0.0F, 0.0F};
  for (const auto& [filter, expected] :
       std::vector<std::pair<std::string, size_t>>{{"n == 3", 50},
                                                   {"n != 3", 50},
                                                   {"key >= 1990", 10},
                                                   {"key in [1, 1999]", 2},
                                                   {"n in [1,2,3,4,5,6,7,8]", 50},
                                                   {"key < 0", 0}}) {
    ASSERT_OK_AND_ASSIGN(
        const SearchResult found,
        db_->Search("items", query, {.limit = 50, .filter = {filter, {}}}, kNoCancel));
    EXPECT_EQ(found.queries[0].hits.size(), expected) << filter;
  }
}

TEST_F(DatabaseTest, DroppedCollectionsLeaveNoFileAndNoRowBehind) {
  InsertLine(400);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  ASSERT_OK(db_->DropCollection("items", false, kNoCancel));
  EXPECT_THAT(db_->Count("items", {}, kNoCancel), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(db_->CreateCollection("items", SmallSchema(2), false, kNoCancel));
  EXPECT_EQ(CountOf(""), 0U);
  Reopen();
  EXPECT_EQ(CountOf(""), 0U);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.File("segments")));
}

TEST_F(DatabaseTest, CreateIfNotExistsComparesDefinitions) {
  ASSERT_OK_AND_ASSIGN(const CreateResult same,
                       db_->CreateCollection("items", SmallSchema(2), true, kNoCancel));
  EXPECT_FALSE(same.created);
  EXPECT_THAT(db_->CreateCollection("items", SmallSchema(3), true, kNoCancel),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(db_->CreateCollection("items", SmallSchema(2), false, kNoCancel),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(DatabaseTest, ABadSegmentFileIsSetAsideAndItsRowsStillAnswer) {
  InsertLine(400);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  db_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(dir_.File("segments"))) {
    std::filesystem::resize_file(entry.path(), entry.file_size() - 10);
  }
  db_ = OpenOrDie(SmallOptions(dir_.path()));
  EXPECT_EQ(CountOf(""), 400U);
  EXPECT_FALSE(std::filesystem::is_empty(dir_.File("quarantine")));
  const std::vector<float> query = {321.0F, 0.0F};
  ASSERT_OK_AND_ASSIGN(const SearchResult found,
                       db_->Search("items", query, {.limit = 1, .exact = true}, kNoCancel));
  EXPECT_THAT(KeysOf(found.queries[0]), ElementsAre(321));
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  EXPECT_FALSE(std::filesystem::is_empty(dir_.File("segments")));
}

TEST_F(DatabaseTest, RowsThatAreReplacedAgainAndAgainLeaveTheStore) {
  const auto vectors = Line(100);
  for (int round = 0; round < 30; ++round) {
    ASSERT_OK(db_->Upsert("items", Batch(vectors, 0), kNoCancel));
  }
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  EXPECT_EQ(CountOf(""), 100U);
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("items"));
  uint64_t rows = 0;
  for (const SegmentStats& segment : stats.segments) rows += segment.rows;
  EXPECT_LT(rows, 1000U) << "3000 versions were written";
}

TEST_F(DatabaseTest, AbsentVectorsAreNeitherFoundNorInTheWay) {
  const auto vectors = Line(300);
  std::vector<RecordInput> records;
  for (size_t i = 0; i < vectors.size(); ++i) {
    records.push_back(MakeRecord(static_cast<int64_t>(i), 1, vectors[i]));
    if (i % 3 == 0) records.back().vectors.clear();
  }
  ASSERT_OK(db_->Insert("items", std::move(records), kNoCancel));
  const std::vector<float> query = {9.0F, 0.0F};
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const SearchResult found,
                         db_->Search("items", query, {.limit = 4}, kNoCancel));
    EXPECT_THAT(KeysOf(found.queries[0]), ElementsAre(8, 10, 7, 11));
    EXPECT_EQ(CountOf(""), 300U);
    ASSERT_TRUE(WaitIndexed(*db_, "items"));
  }
}

TEST_F(DatabaseTest, FiltersOnNestedAndDottedNamesAnswerTheSameBeforeAndAfterASeal) {
  const auto vectors = Line(60);
  const auto map = [](std::string name, Value value) {
    return Value{ValueMap{{std::move(name), std::move(value)}}};
  };
  auto batch = Batch(vectors, 0);
  batch[0].fields.push_back({"a", map("b.c", Value{int64_t{5}})});
  batch[1].fields.push_back({"a.b", map("c", Value{int64_t{5}})});
  batch[2].fields.push_back({"a", map("b", map("c", Value{int64_t{5}}))});
  batch[3].fields.push_back({"a.b.c", Value{int64_t{5}}});
  batch[4].fields.push_back({"a", map("b", Value{})});
  ASSERT_OK(db_->Insert("items", std::move(batch), kNoCancel));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const QueryResult found,
                         db_->Query("items", {"a.b.c == 5", {}}, 10, {}, kNoCancel));
    std::vector<int64_t> keys;
    for (const auto& record : found.records) keys.push_back(std::get<int64_t>(record.key));
    EXPECT_THAT(keys, ElementsAre(2, 3)) << "round " << round;
    EXPECT_EQ(CountOf("a.b is not null"), 2U) << "round " << round;
    ASSERT_TRUE(WaitIndexed(*db_, "items"));
  }
}

TEST_F(DatabaseTest, NamesInsideMapsAreLimitedInLengthAndNumber) {
  const auto vectors = Line(1);
  const auto insert = [&](ValueMap map) {
    auto batch = Batch(vectors, 0);
    batch[0].fields.push_back({"m", Value{std::move(map)}});
    return db_->Insert("items", std::move(batch), kNoCancel).status();
  };
  EXPECT_THAT(insert({{std::string(256, 'x'), Value{}}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[0].fields[\"m\"]")));
  ValueMap many;
  for (int i = 0; i < 1024; ++i) many.emplace("k" + std::to_string(i), Value{});
  EXPECT_THAT(insert(many), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1025 names")));
  many.erase("k0");
  EXPECT_OK(insert(many));
}

TEST_F(DatabaseTest, DeletedRowsLeaveTheStoreWithoutAnotherWrite) {
  InsertLine(90);
  ASSERT_TRUE(WaitIndexed(*db_, "items"));
  ASSERT_OK(db_->DeleteMatching("items", {"n < 9", {}}, false, kNoCancel));
  const auto rows = [&] {
    uint64_t sum = 0;
    const auto stats = db_->GetStats("items");
    for (const SegmentStats& segment : stats->segments) sum += segment.rows;
    return sum;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (rows() > 9 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(rows(), 9U);
  EXPECT_EQ(CountOf(""), 9U);
}

TEST_F(DatabaseTest, MisspeltDynamicFieldsAreWarnedOf) {
  InsertLine(3);
  ASSERT_OK_AND_ASSIGN(const CountResult result,
                       db_->Count("items", {"colour == 'red'", {}}, kNoCancel));
  EXPECT_EQ(result.count, 0U);
  EXPECT_THAT(result.warnings, ElementsAre(HasSubstr("did you mean 'color'?")));
}

TEST_F(DatabaseTest, ASecondServerOnTheDirectoryIsRefused) {
  EXPECT_THAT(Database::Open(SmallOptions(dir_.path())),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(DatabaseTest, CloseFlushesAndTheNextOpenHasEverything) {
  InsertLine(10);
  ASSERT_OK(db_->Close());
  Reopen();
  EXPECT_EQ(CountOf(""), 10U);
}

}  // namespace
}  // namespace azimuth::engine
