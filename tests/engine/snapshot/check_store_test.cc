#include "engine/snapshot/check_store.h"

#include "engine/admin/verify.h"
#include "engine/snapshot/restore_directory.h"
#include "engine/write/ddl_commit.h"
#include "storage/key_codec.h"
#include "tests/engine/snapshot/snapshot_fixture.h"
#include "tests/support/raw_store.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using storage::CommitBatch;
using ::testing::Contains;
using testing::Contents;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SeenRows;

const CancelToken kNoCancel{};
// Of collection "c", the first that is made.
constexpr RowStoreId kRowStore{1};
constexpr RowStoreId kNobodys{1000};

// A snapshot of the store with collections "c" and "d", of which a test changes what no collection
// is answerable for.
class SnapshotStoreTest : public testing::SnapshotTest {
 protected:
  SnapshotStoreTest() {
    there_ = options_;
    there_.data_dir = parent_.File("new");
    testing::UseManualWorkers(there_, workers_there_);
    MakeCollection("c");
    MakeCollection("d", 200);
    rows_ = Contents(*db_, "c");
    Snapshot("", "all");
  }
  absl::StatusOr<DirectoryRestore> Restore() {
    return RestoreDirectory(FolderOf(info_.id), there_, kNoCancel);
  }
  // What a check of the snapshot tells.
  void ExpectTold(const ::testing::Matcher<std::vector<std::string>>& problems, bool restorable) {
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("all", kNoCancel));
    EXPECT_THAT(report.problems, problems);
    EXPECT_EQ(report.restorable, restorable);
  }
  // A check tells `told`, and so does a restore; the directory opens, and is sound with the rows
  // that there were.
  void ExpectRestored(const ::testing::Matcher<std::vector<std::string>>& told) {
    ExpectRestored(told, told);
  }
  void ExpectRestored(const ::testing::Matcher<std::vector<std::string>>& problems,
                      const ::testing::Matcher<std::vector<std::string>>& warnings) {
    ExpectTold(problems, /*restorable=*/true);
    ASSERT_OK_AND_ASSIGN(const DirectoryRestore restored, Restore());
    EXPECT_THAT(restored.warnings, warnings);
    EXPECT_EQ(restored.collections, 2U);
    for (const char* moment : {"before the first start", "after it"}) {
      ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyDirectory(there_, true, kNoCancel));
      for (const Finding& finding : report.findings) {
        ADD_FAILURE() << moment << ": " << finding.place << ": " << finding.message;
      }
      const auto db = testing::OpenOrDie(there_);
      EXPECT_EQ(Contents(*db, "c"), rows_);
      ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db->GetStats("c"));
      EXPECT_EQ(stats.row_count, rows_.size());
    }
  }
  void ExpectRefused(const std::string& why) {
    ExpectTold(Contains(HasSubstr(why)), /*restorable=*/false);
    EXPECT_THAT(Restore(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(why)));
    EXPECT_FALSE(std::filesystem::exists(there_.data_dir));
  }

  // Remembers a request with such an entry.
  void PutRequest(const std::string& entry) {
    ASSERT_OK(::azimuth::testing::PutRawEntry(FolderOf(info_.id) + "/rocks", "requests",
                                              storage::RequestKey("one"), entry));
    ChangeStore([](CommitBatch&) {});
  }

  const TempDir parent_;
  DatabaseOptions there_;
  testing::ManualWorkers* workers_there_ = nullptr;
  SeenRows rows_;
};

TEST_F(SnapshotStoreTest, RowsAndRetirementsThatNoCommitGaveOutAreNotRestored) {
  ChangeStore([](CommitBatch& batch) {
    constexpr uint64_t kFar = storage::kSnapshotRowIdMax;
    for (const uint64_t row : {kFar - 1, kFar, uint64_t{1} << 60, ~uint64_t{0}}) {
      batch.PutRetired(kRowStore, RowId{row}, Seq{3});
      batch.PutRow(kRowStore, RowId{row}, {.insert_seq = Seq{2}, .key = int64_t{77}});
      const std::vector<float> vector = {1, 2, 3, 4};
      batch.PutVector(kRowStore, FieldId{3}, RowId{row}, vector);
    }
  });
  ExpectRestored(IsEmpty());
}

TEST_F(SnapshotStoreTest, ARowStoreThatNoCollectionHasIsNotRestored) {
  ChangeStore([](CommitBatch& batch) {
    batch.PutRow(kNobodys, RowId{0}, {.insert_seq = Seq{2}, .key = int64_t{77}});
    batch.PutCounters(kNobodys, {.next_row = RowId{1}, .live_rows = 1});
  });
  // Its number is not given out again either.
  ExpectRestored(ElementsAre(HasSubstr("must be at least")),
                 ElementsAre(HasSubstr("must be at least"), HasSubstr("row store 1000 has rows")));
}

TEST_F(SnapshotStoreTest, WrongCountsArePutRight) {
  storage::RowStoreCounters counters;
  {
    ASSERT_OK_AND_ASSIGN(const auto store,
                         OpenSnapshotStore(FolderOf(info_.id), storage::Files::Posix()));
    ASSERT_OK_AND_ASSIGN(counters, store->GetCounters(kRowStore));
  }
  counters.live_rows = ~uint64_t{0};
  ChangeStore([&](CommitBatch& batch) { batch.PutCounters(kRowStore, counters); });
  ExpectRestored(ElementsAre(HasSubstr("counted as 18446744073709551615 rows")));
}

TEST_F(SnapshotStoreTest, NextIdsThatWereGivenOutArePutRight) {
  ChangeStore([](CommitBatch& batch) { batch.PutNextIds({}); });
  ExpectRestored(ElementsAre(HasSubstr("must be at least")));
  const auto db = testing::OpenOrDie(there_);
  ASSERT_OK(db->CreateCollection("e", testing::SmallSchema(4), false, kNoCancel));
  EXPECT_EQ(Contents(*db, "c"), rows_);
}

// A start forgets them.
TEST_F(SnapshotStoreTest, RememberedRequestsThatCannotBeReadAreNoReasonToRestoreNothing) {
  PutRequest("\x01");
  const auto told = ElementsAre(HasSubstr("remembered requests"));
  ExpectTold(told, /*restorable=*/true);
  ASSERT_OK_AND_ASSIGN(const DirectoryRestore restored, Restore());
  EXPECT_THAT(restored.warnings, told);
  const auto db = testing::OpenOrDie(there_);
  EXPECT_EQ(Contents(*db, "c"), rows_);
}

TEST_F(SnapshotStoreTest, RememberedRequestsOfANewerFormatAreRefused) {
  PutRequest("\x7F");
  ExpectRefused("remembered requests");
}

TEST_F(SnapshotStoreTest, IdsThatRunOverAreRefused) {
  ChangeStore(
      [](CommitBatch& batch) { batch.PutNextIds({.row_store = RowStoreId{~uint32_t{0}}}); });
  ExpectRefused("out of range");
}

TEST_F(SnapshotStoreTest, ARowStoreOfARowTooManyIsRefused) {
  ChangeStore([](CommitBatch& batch) {
    batch.PutCounters(RowStoreId{~uint32_t{0}}, {.next_row = RowId{1}, .live_rows = 1});
  });
  ExpectRefused("out of range");
}

TEST_F(SnapshotStoreTest, TwoCollectionsOfOneRowStoreAreRefused) {
  ChangeStore([](CommitBatch& batch) {
    Schema schema = testing::SmallSchema(4);
    NumberFields(schema);
    batch.PutCollection({.id = CollectionId{50},
                         .row_store = kRowStore,
                         .database = std::string(kDefaultDatabase),
                         .name = "e",
                         .created_unix_us = 0,
                         .definition = EncodeSchema(schema)});
    batch.PutNextIds(
        {.collection = CollectionId{60}, .row_store = RowStoreId{60}, .segment = SegmentId{6000}});
  });
  ExpectRefused("another collection has its row store");
}

TEST_F(SnapshotStoreTest, ACollectionOfNoTimeIsRefused) {
  ChangeStore([](CommitBatch& batch) {
    Schema schema = testing::SmallSchema(4);
    NumberFields(schema);
    batch.PutCollection({.id = CollectionId{50},
                         .row_store = RowStoreId{50},
                         .database = std::string(kDefaultDatabase),
                         .name = "e",
                         .created_unix_us = INT64_MAX,
                         .definition = EncodeSchema(schema)});
    batch.PutNextIds(
        {.collection = CollectionId{60}, .row_store = RowStoreId{60}, .segment = SegmentId{6000}});
  });
  ExpectRefused("the time 9223372036854775807 is out of range");
}

TEST_F(SnapshotStoreTest, RetirementsThatTheMemoryIsNotForAreRefused) {
  ChangeStore([](CommitBatch& batch) {
    constexpr uint64_t kNext = uint64_t{1} << 47;
    batch.PutCounters(kRowStore, {.next_row = RowId{kNext}, .live_rows = 1});
    batch.PutRetired(kRowStore, RowId{kNext - 1}, Seq{3});
  });
  // The counters are wrong, too.
  ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("all", kNoCancel));
  EXPECT_FALSE(report.restorable);
  EXPECT_THAT(report.problems, Contains(HasSubstr("bytes of memory to know")));
  EXPECT_THAT(Restore(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("bytes of memory to know")));
}

}  // namespace
}  // namespace azimuth::engine
