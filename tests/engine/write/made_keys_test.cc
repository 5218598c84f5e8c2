#include "engine/write/made_keys.h"

#include "engine/limits.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;

TEST(MadeKeys, AreThoseThatTheRowsBeforeAllow) {
  EXPECT_EQ(FirstMadeKey(RowId{0}), 1);
  EXPECT_EQ(FirstMadeKey(RowId{41}), 42);
  EXPECT_TRUE(MayBeMadeKey(Key{int64_t{1}}, RowId{0}));
  EXPECT_TRUE(MayBeMadeKey(Key{int64_t{1}}, RowId{7}));
  EXPECT_TRUE(MayBeMadeKey(Key{int64_t{8}}, RowId{7}));
  EXPECT_FALSE(MayBeMadeKey(Key{int64_t{9}}, RowId{7}));
  EXPECT_FALSE(MayBeMadeKey(Key{int64_t{0}}, RowId{7}));
  EXPECT_FALSE(MayBeMadeKey(Key{std::numeric_limits<int64_t>::min()}, RowId{7}));
  EXPECT_FALSE(MayBeMadeKey(Key{std::string("1")}, RowId{7}));
}

class MadeKeysTest : public testing::SnapshotTest {
 protected:
  MadeKeysTest() {
    Schema schema = SmallSchema(2);
    schema.auto_id = true;
    EXPECT_OK(db_->CreateCollection("c", schema, false, kNoCancel));
    EXPECT_OK(db_->CreateCollection("given", SmallSchema(2), false, kNoCancel));
  }

  // Without a key unless one is given.
  RecordInput Record(int64_t n, std::optional<int64_t> key = std::nullopt) const {
    RecordInput record = testing::MakeRecord(key.value_or(0), n, v_);
    if (!key.has_value()) record.key.reset();
    return record;
  }
  std::vector<RecordInput> Records(int64_t first_n, int64_t count) const {
    std::vector<RecordInput> records;
    for (int64_t n = first_n; n < first_n + count; ++n) records.push_back(Record(n));
    return records;
  }
  MadeKeys Insert(int64_t first_n, int64_t count) {
    const auto result = db_->Insert("c", Records(first_n, count), kNoCancel);
    EXPECT_OK(result);
    return result.ok() ? result->made : MadeKeys{};
  }
  std::map<int64_t, int64_t> NByKey(const std::string& collection = "c") const {
    std::map<int64_t, int64_t> rows;
    for (const auto& [key, row] : testing::Contents(*db_, collection)) rows[key] = row.n;
    return rows;
  }
  absl::Status Restore(const std::string& snapshot, const std::string& target) {
    return db_
        ->RestoreSnapshot({.snapshot = snapshot, .target = target, .overwrite = true}, kNoCancel)
        .status();
  }
  void ExpectSound() const {
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, db_->Verify("", /*deep=*/true, kNoCancel));
    for (const Finding& finding : report.findings) {
      if (finding.severity != FindingSeverity::kNotice) {
        ADD_FAILURE() << finding.kind << ", " << finding.place << ": " << finding.message;
      }
    }
  }

  const std::vector<float> v_ = {1.0F, 2.0F};
};

TEST_F(MadeKeysTest, AnInsertMakesThemInTheOrderOfItsRecords) {
  EXPECT_EQ(Insert(10, 3), (MadeKeys{1, 3}));
  EXPECT_EQ(Insert(20, 2), (MadeKeys{4, 2}));
  const std::map<int64_t, int64_t> rows = {{1, 10}, {2, 11}, {3, 12}, {4, 20}, {5, 21}};
  EXPECT_EQ(NByKey(), rows);
  ASSERT_OK_AND_ASSIGN(const GetResult got,
                       db_->Get("c", {{Key{int64_t{5}}, Key{int64_t{6}}}}, {}, kNoCancel));
  ASSERT_EQ(got.records.size(), 1U);
  EXPECT_EQ(got.records[0].fields.at("n"), Value{int64_t{21}});
  EXPECT_EQ(got.missing, std::vector<Key>{Key{int64_t{6}}});
  Reopen();
  EXPECT_EQ(NByKey(), rows);
  ExpectSound();
}

TEST_F(MadeKeysTest, WhoseKeysAreGivenIsRefusedAndNothingIsWritten) {
  std::vector<RecordInput> records = Records(0, 2);
  records.push_back(Record(2, 7));
  EXPECT_THAT(db_->Insert("c", records, kNoCancel).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("records[2].key: 7 is given, and the server makes the keys")));
  EXPECT_THAT(db_->Insert("given", Records(0, 2), kNoCancel).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[0].key: missing")));
  EXPECT_THAT(db_->Upsert("given", Records(0, 2), kNoCancel).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[0].key: missing")));
  for (const char* collection : {"c", "given"}) {
    EXPECT_THAT(db_->Update(collection, Records(0, 1), MissingKeys::kSkip, kNoCancel).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[0].key: missing")));
    EXPECT_EQ(db_->Count(collection, {}, kNoCancel)->count, 0U);
  }
  EXPECT_EQ(Insert(0, 1), (MadeKeys{1, 1}));
}

TEST_F(MadeKeysTest, AnUpsertAddsWhatHasNoKeyAndReplacesWhatHasOne) {
  Insert(0, 3);
  std::vector<RecordInput> records;
  records.push_back(Record(100));
  records.push_back(Record(200, 2));
  records.push_back(Record(101));
  records.push_back(Record(201, 2));  // The last one wins.
  ASSERT_OK_AND_ASSIGN(const WriteResult result, db_->Upsert("c", records, kNoCancel));
  EXPECT_EQ(result.inserted, 2U);
  EXPECT_EQ(result.replaced, 1U);
  EXPECT_EQ(result.made, (MadeKeys{4, 2}));
  const std::map<int64_t, int64_t> rows = {{1, 0}, {2, 201}, {3, 2}, {4, 100}, {5, 101}};
  EXPECT_EQ(NByKey(), rows);
  // A row was taken by the replacement, and no key of it.
  EXPECT_EQ(Insert(7, 1).first, 7);
  records = {Record(1), Record(2, 6)};
  EXPECT_THAT(db_->Upsert("c", records, kNoCancel).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("records[1].key: 6 does not exist")));
  ASSERT_OK_AND_ASSIGN(const WriteResult only,
                       db_->Upsert("c", {Record(9, 1)}, kNoCancel, {.if_version = Seq{3}}));
  EXPECT_EQ(only.made, MadeKeys{});
  EXPECT_EQ(only.replaced, 1U);
  ExpectSound();
}

TEST_F(MadeKeysTest, AConditionOnANewRecordIsThatItDoesNotExist) {
  ASSERT_OK(db_->Upsert("c", Records(0, 1), kNoCancel, {.if_version = kSeqZero}));
  EXPECT_THAT(db_->Upsert("c", Records(0, 1), kNoCancel, {.if_version = Seq{3}}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("records[0].key: missing, so it is a new record")));
  RecordInput record = Record(1);
  record.if_version = Seq{5};
  EXPECT_THAT(db_->Insert("c", {record}, kNoCancel).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("if_version asks for 5")));
  EXPECT_EQ(NByKey().size(), 1U);
}

TEST_F(MadeKeysTest, ARepeatedRequestIsAnsweredWithTheSameKeys) {
  const WriteOptions first{.request_id = "a", .request_digest = "1"};
  ASSERT_OK_AND_ASSIGN(const WriteResult result,
                       db_->Insert("c", Records(0, 70), kNoCancel, first));
  Insert(100, 5);
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const WriteResult again,
                         db_->Insert("c", Records(0, 70), kNoCancel, first));
    EXPECT_TRUE(again.repeated);
    EXPECT_EQ(again.made, (MadeKeys{1, 70}));
    EXPECT_EQ(again.as_of, result.as_of);
    ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
    Reopen();
  }
}

TEST_F(MadeKeysTest, NoKeyComesBackAfterDeletesTruncationsAndStarts) {
  EXPECT_EQ(Insert(0, 100).first, 1);
  ASSERT_OK(db_->DeleteMatching("c", {}, /*all=*/true, kNoCancel));
  Settle();
  Reopen();
  EXPECT_EQ(Insert(0, 100).first, 101);
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
    if (i != 1) Reopen();
  }
  EXPECT_EQ(Insert(0, 100).first, 201);
  Settle();
  Reopen();
  EXPECT_EQ(NByKey().begin()->first, 201);
  EXPECT_EQ(NByKey().size(), 100U);
  ExpectSound();
  // Of a collection whose keys are given row ids begin anew.
  ASSERT_OK(db_->Insert("given", {testing::MakeRecord(1, 1, v_)}, kNoCancel));
  ASSERT_OK(db_->TruncateCollection("given", kNoCancel));
  ASSERT_OK(db_->Insert("given", {testing::MakeRecord(1, 1, v_)}, kNoCancel));
  ExpectSound();
}

TEST_F(MadeKeysTest, ARestoreGoesOnWithTheKeysOfTheSnapshotAndOfWhatItReplaces) {
  Insert(0, 100);
  Snapshot("c", "s");
  const auto then = NByKey();
  Insert(100, 50);
  ASSERT_OK(Restore("s", "other"));
  EXPECT_EQ(NByKey("other"), then);
  ASSERT_OK_AND_ASSIGN(const WriteResult in_other, db_->Insert("other", Records(0, 1), kNoCancel));
  EXPECT_EQ(in_other.made.first, 101);
  // The keys 101 to 150 are known to somebody.
  ASSERT_OK(Restore("s", ""));
  EXPECT_EQ(NByKey(), then);
  EXPECT_EQ(Insert(500, 2).first, 151);
  Reopen();
  EXPECT_EQ(Insert(600, 1).first, 153);
  ExpectSound();
  ASSERT_OK_AND_ASSIGN(const CollectionInfo info, db_->DescribeCollection("other"));
  EXPECT_TRUE(info.schema.auto_id);
  // What goes is no such collection, so nobody has keys of it.
  ASSERT_OK(Restore("s", "given"));
  ASSERT_OK_AND_ASSIGN(const WriteResult over_given,
                       db_->Insert("given", Records(0, 1), kNoCancel));
  EXPECT_EQ(over_given.made.first, 101);
  ExpectSound();
}

class MadeKeysIngestTest : public MadeKeysTest {
 protected:
  // One batch for each number, of as many records.
  std::vector<WriteResult> Send(std::vector<uint64_t> numbers, bool skip = false) {
    std::vector<IngestBatch> batches;
    for (const uint64_t number : numbers) {
      batches.push_back({.number = number, .skip = skip});
      if (!skip) batches.back().records = Records(0, static_cast<int64_t>(number));
    }
    std::vector<WriteResult> results;
    for (const auto& result : db_->Ingest(spec_, std::move(batches), kNoCancel)) {
      EXPECT_OK(result);
      results.push_back(result.value_or(WriteResult{}));
    }
    return results;
  }

  IngestSpec spec_{.collection = "c", .insert = true, .load = "load"};
};

TEST_F(MadeKeysIngestTest, BatchesOfAGroupGetKeysOneAfterTheOther) {
  for (const bool insert : {true, false}) {
    spec_ = {.collection = "c", .insert = insert, .load = insert ? "a" : "b"};
    const int64_t before = insert ? 0 : 6;
    const auto results = Send({1, 2, 3});
    EXPECT_EQ(results[0].made, (MadeKeys{before + 1, 1}));
    EXPECT_EQ(results[1].made, (MadeKeys{before + 2, 2}));
    EXPECT_EQ(results[2].made, (MadeKeys{before + 4, 3}));
  }
  EXPECT_EQ(NByKey().size(), 12U);
  ExpectSound();
}

TEST_F(MadeKeysIngestTest, KeysOfTheLastBatchesAreToldAgain) {
  constexpr uint64_t kBatches = kLoadMadeKeysMax + 10;
  std::vector<MadeKeys> made(1);
  for (uint64_t number = 1; number <= kBatches; ++number) {
    made.push_back(Send({number}, /*skip=*/number == 20)[0].made);
    if (number % 50 == 0) Insert(0, 3);
  }
  Reopen();
  std::vector<uint64_t> numbers(kBatches);
  std::iota(numbers.begin(), numbers.end(), uint64_t{1});
  const auto again = Send(numbers, /*skip=*/true);
  for (uint64_t number = 1; number <= kBatches; ++number) {
    const WriteResult& result = again[number - 1];
    EXPECT_TRUE(result.repeated) << number;
    EXPECT_EQ(result.made, number > kBatches - kLoadMadeKeysMax ? made[number] : MadeKeys{})
        << number;
  }
  EXPECT_EQ(made[20], MadeKeys{});
  // In one group with the batch itself, too.
  const auto group = Send({kBatches + 1, kBatches + 1});
  EXPECT_FALSE(group[0].repeated);
  EXPECT_TRUE(group[1].repeated);
  EXPECT_EQ(group[1].made, group[0].made);
  EXPECT_EQ(group[0].made.count, kBatches + 1);
}

class MadeKeysPropertyTest : public MadeKeysTest {
 protected:
  void Step(int64_t n) {
    const auto count = static_cast<int64_t>(1 + random_() % 40);
    const uint64_t choice = random_() % 48;
    if (choice < 12) {
      Take(Insert(n, count), count, n);
    } else if (choice < 16) {
      Upsert(n, count);
    } else if (choice < 20) {
      Update(n);
    } else if (choice < 28) {
      DeleteSome(count);
    } else if (choice < 32) {
      Load(n, count);
    } else if (choice < 36) {
      Settle();
    } else if (choice < 40) {
      Reopen();
    } else if (choice < 41) {
      ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
      model_.clear();
    } else if (choice < 44 && info_.name == "s") {
      ASSERT_OK(Restore("s", ""));
      model_ = at_snapshot_;
    } else if (choice >= 44) {
      MakeSnapshot();
    }
    ASSERT_EQ(NByKey(), model_);
  }

  std::set<int64_t> ever_;  // All keys that were told.

 private:
  // Notes the keys of new records, whose n are first_n and so on.
  void Take(const MadeKeys& made, int64_t count, int64_t first_n) {
    ASSERT_EQ(made.count, static_cast<uint64_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(ever_.empty() || made.first + i > *ever_.rbegin());
      ever_.insert(made.first + i);
      model_[made.first + i] = first_n + i;
    }
  }
  // Of a record that is, was or may come to be.
  int64_t RandomKey() {
    const int64_t highest = ever_.empty() ? 0 : *ever_.rbegin();
    return 1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(highest + 2));
  }
  // One that replaces among some that are new.
  void Upsert(int64_t n, int64_t count) {
    const int64_t key = RandomKey();
    std::vector<RecordInput> records = Records(n, count);
    const auto place = static_cast<int64_t>(random_() % records.size());
    records.insert(records.begin() + place, Record(-n, key));
    const auto result = db_->Upsert("c", records, kNoCancel);
    ASSERT_EQ(result.ok(), model_.contains(key)) << result.status();
    if (!result.ok()) return;
    model_[key] = -n;
    Take(result->made, count, n);
  }
  void Update(int64_t n) {
    const int64_t key = RandomKey();
    ASSERT_OK_AND_ASSIGN(const WriteResult result,
                         db_->Update("c", {Record(n, key)}, MissingKeys::kSkip, kNoCancel));
    ASSERT_EQ(result.updated, model_.count(key));
    if (model_.contains(key)) model_[key] = n;
  }
  void DeleteSome(int64_t count) {
    std::vector<Key> keys;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t key = RandomKey();
      keys.emplace_back(key);
      model_.erase(key);
    }
    ASSERT_OK(db_->DeleteKeys("c", keys, kNoCancel));
  }
  void Load(int64_t n, int64_t count) {
    const IngestSpec spec{.collection = "c", .load = absl::StrCat("load ", n)};
    std::vector<IngestBatch> batches(2);
    batches[0] = {.number = 1, .records = Records(n, count)};
    batches[1] = {.number = 2, .records = Records(n, 1)};
    const auto results = db_->Ingest(spec, std::move(batches), kNoCancel);
    ASSERT_OK(results[0]);
    ASSERT_OK(results[1]);
    Take(results[0]->made, count, n);
    Take(results[1]->made, 1, n);
  }
  void MakeSnapshot() {
    if (info_.name == "s") {
      ASSERT_OK(db_->DeleteSnapshot("s"));
    }
    Snapshot("c", "s");
    at_snapshot_ = model_;
  }

  std::map<int64_t, int64_t> model_;  // n by key.
  std::map<int64_t, int64_t> at_snapshot_;
};

// Goal: no key is ever given to two records, whatever is done to the collection, and all else is as
// in any collection. Method: random calls against a map, with a set of all keys that were ever
// told.
TEST_F(MadeKeysPropertyTest, RandomCallsAgreeWithAModelAndNeverRepeatAKey) {
  for (int64_t step = 1; step <= 400 && !HasFatalFailure(); ++step) {
    SCOPED_TRACE(step);
    Step(step);
  }
  EXPECT_GT(ever_.size(), 1000U);
  ExpectSound();
}

}  // namespace
}  // namespace azimuth::engine
