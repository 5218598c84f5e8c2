// What writes promise beyond insert and delete: partial updates, conditions, repeated requests,
// ends of records, truncation, waiting for a number, optimizing, pressure.

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/limits.h"
#include "storage/store.h"
#include "tests/engine/manual_database.h"

#include "gtest/gtest.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FakeClock;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::HasSubstr;
using testing::MakeRecord;
using testing::ManualWorkers;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;
constexpr int64_t kSecond = 1000000;

class Writes : public testing::ManualDatabaseTest {
 protected:
  Writes() {
    Schema schema = SmallSchema(2);
    schema.vectors.push_back({.name = "w", .dim = 3, .metric = Metric::kCosine});
    EXPECT_OK(db_->CreateCollection("c", schema, false, kNoCancel));
  }

  RecordInput Record(int64_t key, int64_t n) { return MakeRecord(key, n, v_); }
  WriteResult Upsert(int64_t key, int64_t n) {
    const auto result = db_->Upsert("c", {Record(key, n)}, kNoCancel);
    EXPECT_OK(result);
    return *result;
  }
  // The record, or nullopt.
  std::optional<RecordOutput> Get(int64_t key) {
    const std::vector<Key> keys = {Key{key}};
    auto got = db_->Get("c", keys, {.vectors = {"v", "w"}}, kNoCancel);
    EXPECT_OK(got);
    if (got->records.empty()) return std::nullopt;
    return std::move(got->records[0]);
  }

  const std::vector<float> v_ = {1.0F, 2.0F};
  const std::vector<float> w_ = {0.0F, 3.0F, 4.0F};
};

TEST_F(Writes, AnUpdateChangesWhatIsGivenAndKeepsTheRest) {
  RecordInput whole = Record(1, 10);
  whole.fields.push_back({"color", Value{std::string("red")}});
  whole.fields.push_back({"extra", Value{int64_t{7}}});
  ASSERT_OK(db_->Insert("c", {whole}, kNoCancel));
  RecordInput change;
  change.key = int64_t{1};
  change.fields.push_back({"n", Value{int64_t{11}}});
  change.fields.push_back({"more", Value{true}});
  change.vectors.push_back({"w", w_});
  ASSERT_OK_AND_ASSIGN(const WriteResult result,
                       db_->Update("c", {change}, MissingKeys::kRefuse, kNoCancel));
  EXPECT_EQ(result.updated, 1u);
  for (int pass = 0; pass < 2; ++pass) {
    const auto record = Get(1);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->fields, (ValueMap{{"n", Value{int64_t{11}}},
                                        {"color", Value{std::string("red")}},
                                        {"extra", Value{int64_t{7}}},
                                        {"more", Value{true}}}));
    EXPECT_EQ(record->vectors.at("v"), v_);
    EXPECT_EQ(record->vectors.at("w"), w_);
    EXPECT_EQ(record->version, result.as_of);
    Reopen();
  }
  ASSERT_OK_AND_ASSIGN(const CountResult count, db_->Count("c", {"n == 10", {}}, kNoCancel));
  EXPECT_EQ(count.count, 0u);
}

TEST_F(Writes, AnUpdateOfAMissingKeyIsRefusedOrSkipped) {
  Upsert(1, 1);
  const auto refused =
      db_->Update("c", {Record(1, 2), Record(5, 2)}, MissingKeys::kRefuse, kNoCancel);
  EXPECT_THAT(refused,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("records[1].key: 5 does not exist")));
  EXPECT_EQ(Get(1)->fields.at("n"), Value{int64_t{1}});
  ASSERT_OK_AND_ASSIGN(const WriteResult result, db_->Update("c", {Record(1, 2), Record(5, 2)},
                                                             MissingKeys::kSkip, kNoCancel));
  EXPECT_EQ(result.updated, 1u);
  EXPECT_EQ(result.missing, 1u);
  EXPECT_EQ(Get(1)->fields.at("n"), Value{int64_t{2}});
  EXPECT_FALSE(Get(5).has_value());
  EXPECT_THAT(db_->Update("c", {Record(1, 2), Record(1, 3)}, MissingKeys::kSkip, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("comes twice")));
}

TEST_F(Writes, AnUpdateKeepsTheLimitsOfAWholeRecord) {
  RecordInput whole = Record(1, 1);
  whole.fields.push_back({"a", Value{std::string(kRecordBytesMax - 1000, 'x')}});
  ASSERT_OK(db_->Insert("c", {whole}, kNoCancel));
  RecordInput change;
  change.key = int64_t{1};
  change.fields.push_back({"b", Value{std::string(2000, 'y')}});
  EXPECT_THAT(db_->Update("c", {change}, MissingKeys::kRefuse, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[0]")));
  EXPECT_EQ(Get(1)->fields.count("b"), 0u);
}

TEST_F(Writes, IfVersionHoldsForEveryKindOfWrite) {
  const Seq first = Upsert(1, 1).as_of;
  const Seq second = Upsert(1, 2).as_of;
  const WriteOptions stale{.if_version = first};
  EXPECT_THAT(db_->Upsert("c", {Record(1, 3)}, kNoCancel, stale),
              StatusIs(absl::StatusCode::kAborted,
                       HasSubstr(absl::StrFormat("records[0]: 1 is at version %d, and if_version "
                                                 "asks for %d",
                                                 Raw(second), Raw(first)))));
  EXPECT_THAT(db_->Update("c", {Record(1, 3)}, MissingKeys::kSkip, kNoCancel, stale),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(db_->DeleteKeys("c", {Key{int64_t{1}}}, kNoCancel, stale),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("keys[0]")));
  EXPECT_EQ(Get(1)->fields.at("n"), Value{int64_t{2}});
  EXPECT_OK(
      db_->Update("c", {Record(1, 3)}, MissingKeys::kRefuse, kNoCancel, {.if_version = second}));
  EXPECT_THAT(db_->Upsert("c", {Record(2, 1)}, kNoCancel, {.if_version = second}),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("2 does not exist")));
  EXPECT_OK(db_->Upsert("c", {Record(2, 1)}, kNoCancel, {.if_version = kSeqZero}));
  EXPECT_THAT(db_->DeleteMatching("c", {"n == 1", {}}, false, kNoCancel, {.if_version = second}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // One record's own condition fails the batch.
  RecordInput own = Record(3, 1);
  own.if_version = second;
  EXPECT_THAT(db_->Upsert("c", {Record(4, 1), own}, kNoCancel),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("records[1]")));
  EXPECT_FALSE(Get(4).has_value());
}

TEST_F(Writes, ARepeatedRequestGetsTheFirstReplyEvenAfterARestart) {
  const WriteOptions options{.request_id = "r1", .request_digest = "d1"};
  ASSERT_OK_AND_ASSIGN(const WriteResult first,
                       db_->Insert("c", {Record(1, 1), Record(2, 1)}, kNoCancel, options));
  EXPECT_FALSE(first.repeated);
  Upsert(1, 5);
  for (int pass = 0; pass < 2; ++pass) {
    ASSERT_OK_AND_ASSIGN(const WriteResult again,
                         db_->Insert("c", {Record(1, 1), Record(2, 1)}, kNoCancel, options));
    EXPECT_TRUE(again.repeated);
    EXPECT_EQ(again.inserted, 2u);
    EXPECT_EQ(again.as_of, first.as_of);
    EXPECT_EQ(Get(1)->fields.at("n"), Value{int64_t{5}});
    EXPECT_THAT(db_->Insert("c", {Record(3, 1)}, kNoCancel,
                            {.request_id = "r1", .request_digest = "other"}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("request_id")));
    Reopen();
  }
  EXPECT_THAT(db_->DeleteKeys("c", {Key{int64_t{1}}}, kNoCancel,
                              {.request_id = std::string(kRequestIdBytesMax + 1, 'x')}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 128")));
}

TEST_F(Writes, ARequestThatChangedNothingIsRememberedAndOneThatFailedIsNot) {
  const WriteOptions options{.request_id = "r1", .request_digest = "d1"};
  ASSERT_OK_AND_ASSIGN(const WriteResult first,
                       db_->DeleteKeys("c", {Key{int64_t{9}}}, kNoCancel, options));
  EXPECT_EQ(first.deleted, 0u);
  Upsert(9, 1);
  ASSERT_OK_AND_ASSIGN(const WriteResult again,
                       db_->DeleteKeys("c", {Key{int64_t{9}}}, kNoCancel, options));
  EXPECT_TRUE(again.repeated);
  EXPECT_TRUE(Get(9).has_value());
  const WriteOptions failing{.request_id = "r2", .request_digest = "d2"};
  EXPECT_THAT(db_->Insert("c", {Record(9, 2)}, kNoCancel, failing),
              StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(db_->DeleteKeys("c", {Key{int64_t{9}}}, kNoCancel));
  ASSERT_OK_AND_ASSIGN(const WriteResult later,
                       db_->Insert("c", {Record(9, 2)}, kNoCancel, failing));
  EXPECT_FALSE(later.repeated);
}

TEST_F(Writes, ARequestIsForgottenAfterItsTime) {
  const WriteOptions options{.request_id = "r1", .request_digest = "d1"};
  ASSERT_OK(db_->Insert("c", {Record(1, 1)}, kNoCancel, options));
  clock_.AdvanceMicros(kRequestMemoryMicros);
  EXPECT_THAT(db_->Insert("c", {Record(1, 1)}, kNoCancel, options),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(Writes, ARecordEndsForReadsAndForWritesAndIsSwept) {
  RecordInput record = Record(1, 1);
  record.expires_at_unix_us = clock_.NowUnixMicros() + kSecond;
  ASSERT_OK(db_->Insert("c", {record, Record(2, 1)}, kNoCancel));
  EXPECT_EQ(Get(1)->expires_at_unix_us, *record.expires_at_unix_us);
  // An update keeps the end.
  ASSERT_OK(db_->Update("c", {Record(1, 2)}, MissingKeys::kRefuse, kNoCancel));
  EXPECT_EQ(Get(1)->expires_at_unix_us, *record.expires_at_unix_us);
  clock_.AdvanceMicros(kSecond);
  for (const bool swept : {false, true}) {
    if (swept) workers_->Tick();
    EXPECT_FALSE(Get(1).has_value());
    EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 1u);
    EXPECT_EQ(db_->Query("c", {"n >= 0", {}}, 10, {}, kNoCancel)->records.size(), 1u);
    const auto hits = db_->Search("c", v_, {.vector_field = "v", .limit = 10}, kNoCancel);
    EXPECT_EQ(hits->queries[0].hits.size(), 1u);
    EXPECT_THAT(db_->Update("c", {Record(1, 3)}, MissingKeys::kRefuse, kNoCancel),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_EQ(db_->DeleteKeys("c", {Key{int64_t{1}}}, kNoCancel)->deleted, 0u);
  }
  // Counted without it once it is swept.
  EXPECT_EQ(db_->ListCollections()[0].row_count, 1u);
  ASSERT_OK_AND_ASSIGN(const WriteResult again, db_->Insert("c", {Record(1, 4)}, kNoCancel));
  EXPECT_EQ(again.inserted, 1u);
  EXPECT_EQ(Get(1)->expires_at_unix_us, 0);
  record.expires_at_unix_us = -1;
  EXPECT_THAT(db_->Upsert("c", {record}, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expires_at_unix_us")));
}

TEST_F(Writes, AnExpiredRecordThatWasNotSweptYetCanBeInserted) {
  RecordInput record = Record(1, 1);
  record.expires_at_unix_us = clock_.NowUnixMicros() + kSecond;
  ASSERT_OK(db_->Insert("c", {record}, kNoCancel));
  clock_.AdvanceMicros(kSecond);
  ASSERT_OK_AND_ASSIGN(const WriteResult again, db_->Upsert("c", {Record(1, 2)}, kNoCancel));
  EXPECT_EQ(again.inserted, 1u);
  EXPECT_EQ(again.replaced, 0u);
  EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 1u);
}

TEST_F(Writes, TheTtlOfACollectionCountsFromTheWriteAlsoInSegmentFilesAndAfterARestart) {
  Schema schema = SmallSchema(2);
  schema.ttl_seconds = 60;
  ASSERT_OK(db_->CreateCollection("t", schema, false, kNoCancel));
  std::vector<RecordInput> records;
  for (int64_t key = 0; key < 100; ++key) records.push_back(Record(key, key));
  records[7].expires_at_unix_us = 0;  // Its own word: never.
  ASSERT_OK(db_->Insert("t", records, kNoCancel));
  Settle();
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("t"));
  ASSERT_EQ(stats.segments[0].state, SegmentState::kSealed);
  Reopen();
  EXPECT_EQ(db_->DescribeCollection("t")->schema.ttl_seconds, 60);
  EXPECT_EQ(db_->Count("t", {}, kNoCancel)->count, 100u);
  clock_.AdvanceMicros(58 * kSecond);
  EXPECT_EQ(db_->Count("t", {}, kNoCancel)->count, 100u);
  clock_.AdvanceMicros(2 * kSecond);
  EXPECT_EQ(db_->Count("t", {}, kNoCancel)->count, 1u);
  const auto hits = db_->Search("t", v_, {.limit = 10}, kNoCancel);
  EXPECT_EQ(hits->queries[0].hits.size(), 1u);
  // The sweeper and a merge give the space back.
  for (int i = 0; i < 5; ++i) Settle();
  ASSERT_OK_AND_ASSIGN(const CollectionStats after, db_->GetStats("t"));
  EXPECT_EQ(after.row_count, 1u);
  uint64_t rows = 0;
  for (const SegmentStats& segment : after.segments) {
    if (segment.state == SegmentState::kSealed) rows += segment.rows;
  }
  EXPECT_EQ(rows, 1u);
}

// Goal: a request id that is used again is not taken out of the store by another commit of the same
// group which clears old ids. Method: ten old ids, so that several commits come to clear them;
// after their time all are used again, and asked for after a restart.
TEST_F(Writes, AnIdThatIsUsedAgainStaysRemembered) {
  const auto send = [&](int i) {
    return db_->Upsert("c", {Record(i, i)}, kNoCancel,
                       {.request_id = absl::StrCat("r", i), .request_digest = "d"});
  };
  for (int i = 0; i < 40; ++i) ASSERT_OK(send(i));
  clock_.AdvanceMicros(kRequestMemoryMicros);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < 40; i += 8) ASSERT_OK(send(39 - i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  Reopen();
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK_AND_ASSIGN(const WriteResult again, send(i));
    EXPECT_TRUE(again.repeated) << i;
  }
}

TEST_F(Writes, AnUpdateOfTooManyBytesIsRefusedBeforeItReads) {
  Schema wide;
  wide.vectors.push_back({.name = "v", .dim = 32768});
  ASSERT_OK(db_->CreateCollection("wide", wide, false, kNoCancel));
  std::vector<RecordInput> changes;
  for (int64_t key = 0; key < 600; ++key) {
    changes.push_back({.key = Key{key}, .fields = {{"n", Value{key}}}, .vectors = {}});
  }
  EXPECT_THAT(db_->Update("wide", changes, MissingKeys::kSkip, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("send fewer at a time")));
  changes.resize(500);
  EXPECT_OK(db_->Update("wide", changes, MissingKeys::kSkip, kNoCancel));
}

TEST_F(Writes, AConditionOnAKeyThatComesTwiceIsRefused) {
  RecordInput first = Record(1, 1);
  first.if_version = Seq{99};
  EXPECT_THAT(db_->Upsert("c", {first, Record(1, 2)}, kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("comes twice")));
}

// Retirements of rows that a merge has dropped are gone from the store when the merge was cut short
// between the rows and the catalog.
TEST_F(Writes, AMergeThatIsCutShortLeavesNothingBehind) {
  for (int64_t key = 0; key < 90; ++key) Upsert(key, 1);
  for (int64_t key = 0; key < 60; ++key) Upsert(key, 2);
  SetFailpointHook(Failpoint::kSegmentBeforeCatalog,
                   [] { return absl::UnavailableError("cut short"); });
  Settle();
  SetFailpointHook(Failpoint::kSegmentBeforeCatalog, nullptr);
  db_.reset();
  options_.make_workers = [](int) {
    auto idle = std::make_unique<ManualWorkers>();
    return idle;
  };
  db_ = OpenOrDie(options_);
  EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 90u);
  uint64_t retired = 0;
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("c"));
  for (const SegmentStats& segment : stats.segments) retired += segment.retired_rows;
  ASSERT_OK(db_->Close());
  db_.reset();
  ASSERT_OK_AND_ASSIGN(const auto store, storage::Store::Open(dir_.File("rocks"), {}));
  uint64_t stored = 0;
  ASSERT_OK(store->ScanRetired(RowStoreId{1}, [&](RowId, Seq) {
    ++stored;
    return absl::OkStatus();
  }));
  EXPECT_EQ(stored, retired);
}

TEST_F(Writes, ATruncationEmptiesACollectionAndKeepsIt) {
  for (int64_t key = 0; key < 150; ++key) Upsert(key, key);
  Settle();
  const CollectionId id = db_->DescribeCollection("c")->id;
  ASSERT_OK_AND_ASSIGN(const TruncateResult result, db_->TruncateCollection("c", kNoCancel));
  EXPECT_EQ(result.removed, 150u);
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 0u);
    EXPECT_FALSE(Get(1).has_value());
    EXPECT_EQ(db_->DescribeCollection("c")->id, id);
    EXPECT_EQ(db_->ListCollections()[0].row_count, 0u);
    Reopen();
  }
  ASSERT_OK(db_->Insert("c", {Record(1, 1)}, kNoCancel));
  EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 1u);
  EXPECT_THAT(db_->TruncateCollection("other", kNoCancel), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(Writes, ADryRunCountsAndDeletesNothing) {
  for (int64_t key = 0; key < 10; ++key) Upsert(key, key % 2);
  ASSERT_OK_AND_ASSIGN(const WriteResult result,
                       db_->DeleteMatching("c", {"n == 1", {}}, false, kNoCancel, {}, true));
  EXPECT_EQ(result.deleted, 5u);
  EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, 10u);
}

TEST_F(Writes, MinSeqWaitsForTheNumberOrTheDeadline) {
  const Seq seq = Upsert(1, 1).as_of;
  const std::vector<Key> keys = {Key{int64_t{1}}};
  EXPECT_OK(db_->Get("c", keys, {}, kNoCancel, {.min_seq = seq}));
  const CancelToken soon(std::chrono::steady_clock::now() + std::chrono::milliseconds(30), {});
  const ReadOptions later{.min_seq = Seq{Raw(seq) + 1}};
  EXPECT_THAT(db_->Count("c", {}, soon, later),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("min_seq")));
  std::thread writer([&] { Upsert(2, 2); });
  ASSERT_OK_AND_ASSIGN(const CountResult count, db_->Count("c", {}, kNoCancel, later));
  writer.join();
  EXPECT_EQ(count.count, 2u);
  EXPECT_GE(count.as_of, later.min_seq);
}

TEST(DatabaseOptimize, LeavesOneSegmentWithoutRetiredRowsAndReportsProgress) {
  TempDir dir;
  const auto db = OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<float> vector = {1.0F, 2.0F};
  for (int64_t first = 0; first < 2000; first += 50) {
    std::vector<RecordInput> batch;
    for (int64_t key = first; key < first + 50; ++key) {
      batch.push_back(MakeRecord(key, key, vector));
    }
    ASSERT_OK(db->Insert("c", std::move(batch), kNoCancel));
  }
  ASSERT_OK(db->DeleteMatching("c", {"n < 300", {}}, false, kNoCancel));
  std::vector<OptimizeProgress> reports;
  const auto note = [&](const OptimizeProgress& progress) {
    reports.push_back(progress);
    return absl::OkStatus();
  };
  ASSERT_OK(db->Optimize("c", note, kNoCancel));
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(reports.back().done);
  EXPECT_EQ(reports.back().segments, 1u);
  EXPECT_EQ(reports.back().rows_waiting, 0u);
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db->GetStats("c"));
  ASSERT_EQ(stats.segments.size(), 1u);
  EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed);
  EXPECT_EQ(stats.segments[0].rows, 1700u);
  EXPECT_EQ(stats.row_count, 1700u);
  EXPECT_THAT(db->Optimize("other", note, kNoCancel), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(
      db->Optimize(
          "c", [](const OptimizeProgress&) { return absl::CancelledError("x"); }, kNoCancel),
      StatusIs(absl::StatusCode::kCancelled));
}

// Goal: Optimize ends although somebody goes on writing. Method: it is asked for what there is, and
// a writer fills growing segment after growing segment meanwhile.
TEST(DatabaseOptimize, EndsWhileWritesGoOn) {
  TempDir dir;
  const auto db = OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<float> vector = {1.0F, 2.0F};
  const auto write = [&](int64_t first) {
    std::vector<RecordInput> batch;
    for (int64_t key = first; key < first + 50; ++key) {
      batch.push_back(MakeRecord(key, key, vector));
    }
    ASSERT_OK(db->Insert("c", std::move(batch), kNoCancel));
  };
  for (int64_t first = 0; first < 1000; first += 50) write(first);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int64_t first = 1000; !stop.load(); first += 50) write(first);
  });
  const CancelToken minute(std::chrono::steady_clock::now() + std::chrono::minutes(1), {});
  EXPECT_OK(db->Optimize(
      "c", [](const OptimizeProgress&) { return absl::OkStatus(); }, minute));
  stop.store(true);
  writer.join();
}

TEST(DatabasePressure, RowsTooFewForAGraphAreBuiltWhenTheyHoldUpWrites) {
  TempDir dir;
  DatabaseOptions options = SmallOptions(dir.path());
  options.graph_rows_min = 1000;
  options.growing_rows_max = 1000;
  options.unindexed_rows_slow = 20;
  options.unindexed_rows_max = 30;
  ManualWorkers* workers = nullptr;
  testing::UseManualWorkers(options, workers);
  const auto db = OpenOrDie(options);
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<float> vector = {1.0F, 2.0F};
  for (int64_t key = 0; key < 30; ++key) {
    ASSERT_OK(db->Insert("c", {MakeRecord(key, key, vector)}, kNoCancel));
  }
  EXPECT_THAT(db->Insert("c", {MakeRecord(30, 30, vector)}, kNoCancel),
              StatusIs(absl::StatusCode::kResourceExhausted));
  workers->Tick();
  workers->RunAll();
  EXPECT_OK(db->Insert("c", {MakeRecord(30, 30, vector)}, kNoCancel));
  EXPECT_EQ(db->Count("c", {}, kNoCancel)->count, 31u);
}

TEST(DatabasePressure, WritesAreRefusedWhenTooManyRowsWaitAndDeletesPass) {
  TempDir dir;
  DatabaseOptions options = SmallOptions(dir.path());
  FakeClock clock;
  options.clock = &clock;
  options.unindexed_rows_slow = 200;
  options.unindexed_rows_max = 300;
  ManualWorkers* workers = nullptr;
  testing::UseManualWorkers(options, workers);
  const auto db = OpenOrDie(options);
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<float> vector = {1.0F, 2.0F};
  absl::Status status;
  int64_t key = 0;
  for (; key < 1000 && status.ok(); ++key) {
    status = db->Insert("c", {MakeRecord(key, key, vector)}, kNoCancel).status();
  }
  EXPECT_EQ(key, 301);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("300")));
  EXPECT_EQ(db->DeleteKeys("c", {Key{int64_t{1}}}, kNoCancel)->deleted, 1u);
  EXPECT_EQ(db->Count("c", {}, kNoCancel)->count, 299u);
  EXPECT_EQ(db->GetInfo().unindexed_rows, 300u);
  // Builds take the pressure away.
  clock.AdvanceMillis(1000);
  for (int i = 0; i < 4; ++i) {
    workers->Tick();
    workers->RunAll();
  }
  EXPECT_LT(db->GetInfo().unindexed_rows, 200u);
  EXPECT_OK(db->Insert("c", {MakeRecord(2000, 1, vector)}, kNoCancel));
}

}  // namespace
}  // namespace azimuth::engine
