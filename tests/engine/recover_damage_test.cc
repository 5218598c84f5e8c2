// Starts on stores some of whose rows cannot be read, and later can again.

#include "engine/admin/verify.h"
#include "engine/recover.h"
#include "engine/write/made_keys.h"
#include "storage/key_codec.h"
#include "storage/store.h"
#include "tests/engine/manual_database.h"
#include "tests/support/raw_store.h"

#include "gtest/gtest.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using testing::MakeRecord;
using testing::ManualDatabaseTest;
using testing::OpenOrDie;
using testing::SmallSchema;

const CancelToken kNoCancel;
constexpr int64_t kRows = 20;
constexpr RowStoreId kRowStore{1};

class RecoverDamage : public ManualDatabaseTest {
 protected:
  // The row of the key, and its bytes. The database is not open.
  std::pair<RowId, std::string> Stored(int64_t key) {
    std::optional<std::pair<RowId, std::string>> found;
    const auto store = storage::Store::Open(dir_.File("rocks"), {});
    EXPECT_OK(store.status());
    EXPECT_OK((*store)->ScanRows(kRowStore, {RowId{0}, RowId{1000}},
                                 [&](RowId row, storage::StoredRow&& value) {
                                   if (value.key == Key{key}) {
                                     found.emplace(row, storage::EncodeRow(value));
                                   }
                                   return absl::OkStatus();
                                 }));
    EXPECT_TRUE(found.has_value());
    return found.value_or(std::pair<RowId, std::string>{});
  }
  void Put(RowId row, const std::string& bytes) {
    PutEntry("rows", storage::RowKey(kRowStore, row), bytes);
  }
  void PutEntry(const std::string& family, const std::string& key, const std::string& bytes) {
    ASSERT_OK(::azimuth::testing::PutRawEntry(dir_.File("rocks"), family, key, bytes));
  }
  uint64_t Count() {
    const auto count = db_->Count("c", {}, kNoCancel);
    EXPECT_OK(count.status());
    return count->count;
  }
  void ExpectSound() {
    const auto report = db_->Verify("", /*deep=*/true, kNoCancel);
    ASSERT_OK(report.status());
    for (const Finding& finding : report->findings) {
      if (finding.severity == FindingSeverity::kNotice) continue;
      ADD_FAILURE() << finding.kind << ", " << finding.place << ": " << finding.message;
    }
  }
};

TEST_F(RecoverDamage, ADeletedRowThatCouldNotBeReadStaysDeletedWhenItCanAgain) {
  FillCollection(kRows);
  ASSERT_OK(db_->DeleteKeys("c", {Key{int64_t{7}}}, kNoCancel));
  db_.reset();
  const auto [row, bytes] = Stored(7);
  Put(row, bytes.substr(0, bytes.size() / 2));
  db_ = OpenOrDie(options_);
  EXPECT_EQ(db_->GetInfo().store.damaged_rows, 1U);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 1));
  db_.reset();
  Put(row, bytes);
  db_ = OpenOrDie(options_);
  EXPECT_EQ(db_->GetInfo().store.damaged_rows, 0U);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 1));
}

TEST_F(RecoverDamage, ARowThatCouldNotBeReadIsThereWhenItCanAgain) {
  FillCollection(kRows);
  db_.reset();
  const auto [row, bytes] = Stored(7);
  Put(row, bytes.substr(0, bytes.size() / 2));
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 1));
  const std::vector<Key> keys = {Key{int64_t{7}}};
  EXPECT_EQ(db_->Get("c", keys, {}, kNoCancel).status().code(), absl::StatusCode::kDataLoss);
  db_.reset();
  Put(row, bytes);
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows));
}

TEST_F(RecoverDamage, RetirementsThatCannotBeReadAreMadeAgainFromTheKeys) {
  FillCollection(kRows);
  ASSERT_OK(db_->DeleteKeys("c", {Key{int64_t{3}}, Key{int64_t{7}}}, kNoCancel));
  db_.reset();
  const auto [row, bytes] = Stored(7);
  PutEntry("retired", storage::RowKey(kRowStore, row), "not a number");
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 2));
  const std::vector<float> vector = {1, 2, 3, 4};
  const auto found = db_->Search("c", vector, {.limit = kRows, .exact = true}, kNoCancel);
  ASSERT_OK(found.status());
  EXPECT_EQ(found->queries[0].hits.size(), static_cast<size_t>(kRows - 2));
  // Also of rows that have a file.
  Settle();
  Reopen();
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 2));
}

TEST_F(RecoverDamage, CountersThatCannotBeReadAreCountedAgain) {
  FillCollection(kRows);
  ASSERT_OK(db_->DeleteKeys("c", {Key{kRows - 1}}, kNoCancel));
  db_.reset();
  PutEntry("default", storage::CountersKey(kRowStore), "?");
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows - 1));
  EXPECT_EQ(db_->ListCollections().front().row_count, static_cast<uint64_t>(kRows - 1));
  // No id is given out again: not that of the row that was deleted either.
  const std::vector<float> vector = {4, 3, 2, 1};
  std::vector<RecordInput> records;
  records.push_back(MakeRecord(1000, 1, vector));
  ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows));
  db_.reset();
  EXPECT_EQ(Stored(1000).first, RowId{static_cast<uint64_t>(kRows)});
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows));
  const auto report = db_->Verify("", /*deep=*/true, kNoCancel);
  ASSERT_OK(report.status());
  EXPECT_TRUE(report->findings.empty());
}

// Of a collection whose keys the server makes.
class RecoverMadeKeys : public RecoverDamage {
 protected:
  RecoverMadeKeys() {
    Schema schema = SmallSchema(4);
    schema.auto_id = true;
    EXPECT_OK(db_->CreateCollection("c", schema, false, kNoCancel));
  }
  // The keys that `count` new records got, or the reason why not.
  MadeKeys Insert(uint64_t count) {
    std::vector<RecordInput> records;
    for (uint64_t i = 0; i < count; ++i) {
      records.push_back(MakeRecord(0, 1, vector_));
      records.back().key.reset();
    }
    const auto result = db_->Insert("c", std::move(records), kNoCancel);
    EXPECT_OK(result);
    return result.ok() ? result->made : MadeKeys{};
  }
  // A start with other counters.
  void Recover(RowStoreId row_store, const std::string& counters) {
    db_.reset();
    PutEntry("default", storage::CountersKey(row_store), counters);
    db_ = OpenOrDie(options_);
  }

  const std::vector<float> vector_ = {4, 3, 2, 1};
  // As damage leaves them, and as they are read when they are missing.
  const std::vector<std::string> lost_ = {"?", std::string(16, '\0')};
};

TEST_F(RecoverMadeKeys, KeysOfRecordsThatAreGoneAreNotMadeAgain) {
  int64_t last = 0;
  for (const std::string& counters : lost_) {
    EXPECT_GT(Insert(20).first, last);
    const MadeKeys gone = Insert(20);
    last = gone.first + 19;
    std::vector<Key> keys;
    for (int64_t key = gone.first; key <= last; ++key) keys.emplace_back(key);
    ASSERT_OK(db_->DeleteKeys("c", keys, kNoCancel));
    Settle();  // With the rows their retirements go.
    const uint64_t before = Count();
    Recover(kRowStore, counters);
    EXPECT_EQ(Count(), before);
    const MadeKeys made = Insert(3);
    EXPECT_GT(made.first, last);
    EXPECT_LE(made.first, last + 1 + static_cast<int64_t>(kIdsReserved));
    last = made.first + 2;
    EXPECT_EQ(Count(), before + 3);
    Settle();
    Reopen();
    EXPECT_EQ(Insert(1).first, last + 1);
    ++last;
    EXPECT_EQ(Count(), before + 4);
    ExpectSound();
  }
}

TEST_F(RecoverMadeKeys, NorAreThoseFromBeforeATruncation) {
  int64_t last = 0;
  uint32_t row_store = Raw(kRowStore);
  for (const std::string& counters : lost_) {
    last = Insert(30).first + 29;
    ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
    Recover(RowStoreId{++row_store}, counters);
    EXPECT_EQ(Count(), 0U);
    EXPECT_GT(Insert(1).first, last);
    ExpectSound();
  }
}

TEST_F(RecoverMadeKeys, TheEndOfTheIdsMovesOnWithThem) {
  constexpr uint64_t kBatch = 5000;
  int64_t last = 0;
  while (last <= static_cast<int64_t>(kIdsReserved)) {
    last = Insert(kBatch).first + static_cast<int64_t>(kBatch) - 1;
  }
  ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
  last = Insert(kBatch).first + static_cast<int64_t>(kBatch) - 1;
  Recover(RowStoreId{2}, "?");
  EXPECT_GT(Insert(1).first, last);
}

TEST_F(RecoverMadeKeys, ARepairThatFindsNoCountersKeepsThemToo) {
  const int64_t last = Insert(30).first + 29;
  ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
  db_.reset();
  PutEntry("default", storage::CountersKey(RowStoreId{2}), lost_[1]);
  DatabaseOptions plain = options_;
  plain.make_workers = {};
  const auto report = RepairDirectory(plain, /*deep=*/true, kNoCancel);
  ASSERT_OK(report.status());
  EXPECT_TRUE(report->findings.empty());
  EXPECT_EQ(report->repairs.size(), 1U);
  db_ = OpenOrDie(options_);
  EXPECT_GT(Insert(1).first, last);
}

TEST_F(RecoverDamage, CountersThatAreNotThereAreCountedAgain) {
  FillCollection(kRows);
  db_.reset();
  PutEntry("default", storage::CountersKey(kRowStore), std::string(16, '\0'));
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows));
  Reopen();  // They were written: a snapshot has all rows.
  ExpectSound();
}

TEST_F(RecoverDamage, RequestIdsThatCannotBeReadAreForgotten) {
  FillCollection(kRows);
  db_.reset();
  PutEntry("requests", "one", "\x01");
  db_ = OpenOrDie(options_);
  EXPECT_EQ(Count(), static_cast<uint64_t>(kRows));
}

}  // namespace
}  // namespace azimuth::engine
