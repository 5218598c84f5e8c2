#include "engine/snapshot/restore_snapshot.h"

#include "base/failpoint.h"
#include "engine/admin/verify.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using testing::Contents;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Nearest;
using testing::OpenOrDie;
using testing::SeenRows;
using ::testing::SizeIs;

const CancelToken kNoCancel{};

class RestoreSnapshotTest : public testing::SnapshotTest {
 protected:
  absl::Status Restore(const std::string& snapshot, const std::string& target,
                       bool overwrite = false, const std::string& collection = "") {
    const auto result = db_->RestoreSnapshot(
        {.snapshot = snapshot, .collection = collection, .target = target, .overwrite = overwrite},
        kNoCancel);
    if (result.ok()) result_ = *result;
    return result.status();
  }
  // All that is on disk agrees with itself, here and after a start.
  void ExpectSound() {
    ASSERT_OK_AND_ASSIGN(const VerifyReport open, db_->Verify("", /*deep=*/true, kNoCancel));
    for (const Finding& finding : open.findings) {
      if (finding.severity != FindingSeverity::kNotice) ADD_FAILURE() << finding.message;
    }
    db_.reset();
    ASSERT_OK_AND_ASSIGN(const VerifyReport closed,
                         VerifyDirectory(options_, /*deep=*/true, kNoCancel));
    for (const Finding& finding : closed.findings) {
      if (finding.severity != FindingSeverity::kNotice) {
        ADD_FAILURE() << finding.place << ": " << finding.message;
      }
    }
    db_ = OpenOrDie(options_);
  }
  void FlipByte(const std::string& path, size_t offset) {
    std::string bytes = ReadBytes(path);
    ASSERT_LT(offset, bytes.size());
    bytes[offset] = static_cast<char>(bytes[offset] ^ 0x40);
    // In another file: segment files are shared with the store.
    std::filesystem::remove(path);
    WriteBytes(path, bytes);
  }
  std::string AnySegment(const std::string& id) {
    for (const auto& file : std::filesystem::directory_iterator(FolderOf(id))) {
      if (file.path().extension() == ".seg") return file.path();
    }
    ADD_FAILURE() << "no segment file";
    return "";
  }

  RestoreResult result_;
};

TEST_F(RestoreSnapshotTest, UnderAnotherNameGivesTheSameRowsAndTheSameAnswersAtOnce) {
  MakeCollection("c", 6000);
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  const std::vector<float> query = RandomVector();
  SearchPath path{};
  const auto nearest = Nearest(*db_, "c", query, &path);
  EXPECT_NE(path, SearchPath::kScan);
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("c"));

  Put("c", 0, 50);
  ASSERT_OK(Restore("s", "d"));
  EXPECT_EQ(result_.collection, "d");
  EXPECT_EQ(result_.rows, 5700U);
  EXPECT_THAT(result_.warnings, IsEmpty());
  EXPECT_GT(result_.as_of, info_.as_of);
  EXPECT_EQ(Contents(*db_, "d"), rows);
  SearchPath restored{};
  EXPECT_EQ(Nearest(*db_, "d", query, &restored), nearest);
  EXPECT_EQ(restored, path);
  ASSERT_OK_AND_ASSIGN(const CollectionStats now, db_->GetStats("d"));
  EXPECT_EQ(now.row_count, 5700U);
  EXPECT_EQ(now.segments.size(), stats.segments.size());
  EXPECT_EQ(now.unindexed_rows, stats.unindexed_rows);
  ExpectSound();
  EXPECT_EQ(Contents(*db_, "d"), rows);
  EXPECT_EQ(Nearest(*db_, "d", query, &restored), nearest);
}

TEST_F(RestoreSnapshotTest, WhatIsRestoredTakesWritesAndBuildsAsAnyOther) {
  MakeCollection("c");
  Snapshot("c", "s");
  ASSERT_OK(Restore("s", "d"));
  Put("d", 100, 300);
  Delete("d", 0, 80);
  Put("d", 2000, 200);
  Settle();
  SeenRows rows = Contents(*db_, "d");
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("d"));
  EXPECT_EQ(stats.unindexed_rows, 0U);
  EXPECT_EQ(stats.row_count, rows.size());
  ExpectSound();
  EXPECT_EQ(Contents(*db_, "d"), rows);
}

TEST_F(RestoreSnapshotTest, OverANameThatIsTakenOnlyIfItIsSaid) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows then = Contents(*db_, "c");
  Put("c", 0, 300);
  const SeenRows now = Contents(*db_, "c");
  EXPECT_THAT(Restore("s", ""), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("'c'")));
  EXPECT_EQ(Contents(*db_, "c"), now);
  ASSERT_OK_AND_ASSIGN(const CollectionInfo before, db_->DescribeCollection("c"));

  // Who reads at the moment of the exchange sees the old one whole, or the new one whole.
  int reads = 0;
  SetFailpointHook(Failpoint::kCommitBeforePublish, [&] {
    EXPECT_EQ(Contents(*db_, "c"), now);
    ++reads;
    return absl::OkStatus();
  });
  ASSERT_OK(Restore("s", "", /*overwrite=*/true));
  SetFailpointHook(Failpoint::kCommitBeforePublish, nullptr);
  EXPECT_GT(reads, 1);
  EXPECT_EQ(Contents(*db_, "c"), then);
  ASSERT_OK_AND_ASSIGN(const CollectionInfo after, db_->DescribeCollection("c"));
  EXPECT_NE(after.id, before.id);
  EXPECT_EQ(after.created_unix_us, before.created_unix_us);
  ExpectSound();
  EXPECT_EQ(Contents(*db_, "c"), then);
}

TEST_F(RestoreSnapshotTest, NobodySeesANewNameBeforeItIsWhole) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  int reads = 0;
  SetFailpointHook(Failpoint::kCommitBeforePublish, [&] {
    EXPECT_THAT(db_->Count("d", {}, kNoCancel), StatusIs(absl::StatusCode::kNotFound));
    ++reads;
    return absl::OkStatus();
  });
  ASSERT_OK(Restore("s", "d"));
  SetFailpointHook(Failpoint::kCommitBeforePublish, nullptr);
  EXPECT_GT(reads, 1);
  EXPECT_EQ(Contents(*db_, "d"), rows);
}

TEST_F(RestoreSnapshotTest, AWriteThatWaitsForTheReplacedCollectionIsRefusedAndNotLost) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows then = Contents(*db_, "c");
  absl::Status late;
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, [&] {
    // Acknowledged before the exchange: it is replaced with the collection.
    Put("c", 5000, 1);
    return absl::OkStatus();
  });
  ASSERT_OK(Restore("s", "c", true));
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, nullptr);
  EXPECT_EQ(Contents(*db_, "c"), then);
  Put("c", 5000, 1);
  EXPECT_EQ(Contents(*db_, "c").size(), then.size() + 1);
}

TEST_F(RestoreSnapshotTest, IntoAnotherServerWhoseNumbersAreSmaller) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  const TempDir other;
  DatabaseOptions there = options_;
  there.data_dir = other.path();
  testing::ManualWorkers* workers = nullptr;
  testing::UseManualWorkers(there, workers);
  auto second = OpenOrDie(there);
  std::filesystem::create_directories(other.File("snapshots"));
  std::filesystem::copy(FolderOf(info_.id), other.File("snapshots/00000000000000aa"),
                        std::filesystem::copy_options::recursive);
  ASSERT_LT(second->GetInfo().as_of, info_.as_of);
  ASSERT_OK_AND_ASSIGN(const RestoreResult result,
                       second->RestoreSnapshot({.snapshot = "s"}, kNoCancel));
  EXPECT_GT(result.as_of, info_.as_of);
  EXPECT_EQ(Contents(*second, "c"), rows);
  const std::vector<float> query = RandomVector();
  EXPECT_EQ(Nearest(*second, "c", query), Nearest(*db_, "c", query));
  const std::vector<float> vector = RandomVector();
  std::vector<RecordInput> records;
  records.push_back(testing::MakeRecord(1, 1, vector));
  ASSERT_OK_AND_ASSIGN(const WriteResult written,
                       second->Upsert("c", std::move(records), kNoCancel));
  EXPECT_GT(written.as_of, result.as_of);
  const SeenRows after = Contents(*second, "c");
  second.reset();
  ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyDirectory(there, true, kNoCancel));
  EXPECT_TRUE(report.sound());
  second = OpenOrDie(there);
  EXPECT_EQ(Contents(*second, "c"), after);
  EXPECT_GE(second->GetInfo().as_of, written.as_of);
}

TEST_F(RestoreSnapshotTest, OfOneCollectionOfTheWholeStore) {
  MakeCollection("c");
  MakeCollection("d", 200);
  Snapshot("", "all");
  const SeenRows c = Contents(*db_, "c");
  const SeenRows d = Contents(*db_, "d");
  ASSERT_OK(db_->DropCollection("d", false, kNoCancel));
  Put("c", 0, 100);
  Settle();
  EXPECT_THAT(Restore("all", ""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("whole store")));
  EXPECT_THAT(Restore("all", "x", false, "nothing"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'nothing'")));
  ASSERT_OK(Restore("all", "", false, "d"));
  EXPECT_THAT(result_.warnings, IsEmpty());
  ASSERT_OK(Restore("all", "e", false, "c"));
  EXPECT_EQ(Contents(*db_, "d"), d);
  EXPECT_EQ(Contents(*db_, "e"), c);
  ExpectSound();
  EXPECT_EQ(Contents(*db_, "e"), c);
}

TEST_F(RestoreSnapshotTest, AnEmptyCollectionAndOneThatOnlyGrows) {
  ASSERT_OK(db_->CreateCollection("empty", testing::SmallSchema(4), false, kNoCancel));
  ASSERT_OK(db_->CreateCollection("small", testing::SmallSchema(4), false, kNoCancel));
  Put("small", 0, 10);
  Snapshot("empty", "a");
  Snapshot("small", "b");
  ASSERT_OK(Restore("a", "empty2"));
  ASSERT_OK(Restore("b", "small2"));
  EXPECT_THAT(Contents(*db_, "empty2"), IsEmpty());
  EXPECT_EQ(Contents(*db_, "small2"), Contents(*db_, "small"));
  Put("empty2", 0, 5);
  Put("small2", 5, 10);
  EXPECT_THAT(Contents(*db_, "empty2"), SizeIs(5));
  EXPECT_THAT(Contents(*db_, "small2"), SizeIs(15));
  ExpectSound();
}

TEST_F(RestoreSnapshotTest, ABadSegmentFileCostsNoRows) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  FlipByte(AnySegment(info_.id), 5000);
  ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("s", kNoCancel));
  EXPECT_THAT(report.problems, ::testing::Not(IsEmpty()));
  EXPECT_TRUE(report.restorable);
  ASSERT_OK(Restore("s", "d"));
  EXPECT_THAT(result_.warnings, SizeIs(1));
  EXPECT_EQ(Contents(*db_, "d"), rows);
  Settle();
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("d"));
  EXPECT_EQ(stats.unindexed_rows, 0U);
  EXPECT_EQ(Contents(*db_, "d"), rows);
  ExpectSound();
}

TEST_F(RestoreSnapshotTest, AMissingSegmentFileCostsNoRows) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  std::filesystem::remove(AnySegment(info_.id));
  // By its id: the list has it as damaged.
  ASSERT_OK(Restore(info_.id, "d"));
  EXPECT_THAT(result_.warnings, SizeIs(1));
  EXPECT_EQ(Contents(*db_, "d"), rows);
}

TEST_F(RestoreSnapshotTest, BadRowsAreRefusedBeforeAnythingIsTouched) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  const Seq as_of = db_->GetInfo().as_of;
  const size_t files = SegmentFiles();
  const std::string path = FolderOf(info_.id) + "/rows.dat";
  const size_t size = std::filesystem::file_size(path);
  for (const size_t offset : {size_t{3}, size_t{30}, size / 2, size - 1}) {
    FlipByte(path, offset);
    EXPECT_THAT(Restore("s", "d"), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Restore("s", "c", true), StatusIs(absl::StatusCode::kDataLoss));
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("s", kNoCancel));
    EXPECT_FALSE(report.restorable);
    FlipByte(path, offset);
  }
  EXPECT_EQ(db_->GetInfo().as_of, as_of);
  EXPECT_EQ(SegmentFiles(), files);
  EXPECT_EQ(Contents(*db_, "c"), rows);
  EXPECT_OK(Restore("s", "d"));
}

TEST_F(RestoreSnapshotTest, AFailureAtAnyStepLeavesNothing) {
  MakeCollection("c");
  Snapshot("c", "s");
  Put("c", 0, 10);
  const SeenRows rows = Contents(*db_, "c");
  const size_t files = SegmentFiles();
  for (const Failpoint point : {Failpoint::kRestoreAfterReserve, Failpoint::kRestoreMidRows,
                                Failpoint::kRestoreMidFiles, Failpoint::kRestoreBeforeCatalog}) {
    for (const char* target : {"d", "c"}) {
      SetFailpointHook(point, [] { return absl::ResourceExhaustedError("no room"); });
      EXPECT_THAT(Restore("s", target, /*overwrite=*/true),
                  StatusIs(absl::StatusCode::kResourceExhausted))
          << FailpointName(point);
      SetFailpointHook(point, nullptr);
      EXPECT_EQ(SegmentFiles(), files) << FailpointName(point);
      EXPECT_THAT(Left(), ::testing::ElementsAre(info_.id)) << FailpointName(point);
      EXPECT_EQ(Contents(*db_, "c"), rows);
      EXPECT_THAT(db_->Count("d", {}, kNoCancel), StatusIs(absl::StatusCode::kNotFound));
    }
  }
  EXPECT_OK(db_->CheckWritable());
  ExpectSound();
  EXPECT_OK(Restore("s", "d"));
}

TEST_F(RestoreSnapshotTest, WhatAFullDiskKeepsItFromRemovingGoesWhenThereIsRoom) {
  MakeCollection("c");
  Snapshot("c", "s");
  const size_t files = SegmentFiles();
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, [] {
    SetFailpointHook(Failpoint::kCommitBeforeLog,
                     [] { return absl::ResourceExhaustedError("no room"); });
    return absl::ResourceExhaustedError("no room");
  });
  EXPECT_THAT(Restore("s", "d"), StatusIs(absl::StatusCode::kResourceExhausted));
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, nullptr);
  EXPECT_GT(SegmentFiles(), files);
  EXPECT_THAT(Left(), SizeIs(2));
  Work();
  EXPECT_GT(SegmentFiles(), files);
  SetFailpointHook(Failpoint::kCommitBeforeLog, nullptr);
  Work();
  EXPECT_EQ(SegmentFiles(), files);
  EXPECT_THAT(Left(), ::testing::ElementsAre(info_.id));
  ExpectSound();
  EXPECT_OK(Restore("s", "d"));
}

// The database goes away where the process would: what is written stays as it is.
TEST_F(RestoreSnapshotTest, AStartRemovesWhatARestoreLeftUnfinished) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, [&] {
    std::filesystem::copy(options_.data_dir, dir_.path() + "-dead",
                          std::filesystem::copy_options::recursive);
    return absl::AbortedError("dead");
  });
  EXPECT_THAT(Restore("s", "d"), StatusIs(absl::StatusCode::kAborted));
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, nullptr);
  db_.reset();
  std::filesystem::remove_all(options_.data_dir);
  std::filesystem::rename(dir_.path() + "-dead", options_.data_dir);
  EXPECT_THAT(Left(), SizeIs(2));
  db_ = OpenOrDie(options_);
  EXPECT_THAT(Left(), ::testing::ElementsAre(info_.id));
  EXPECT_THAT(db_->Count("d", {}, kNoCancel), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(Contents(*db_, "c"), rows);
  ExpectSound();
  ASSERT_OK(Restore("s", "d"));
  EXPECT_EQ(Contents(*db_, "d"), rows);
}

TEST_F(RestoreSnapshotTest, ANameThatIsMadeMeanwhileWins) {
  MakeCollection("c");
  Snapshot("c", "s");
  const size_t files = SegmentFiles();
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, [&] {
    EXPECT_OK(db_->CreateCollection("d", testing::SmallSchema(4), false, kNoCancel));
    return absl::OkStatus();
  });
  EXPECT_THAT(Restore("s", "d"), StatusIs(absl::StatusCode::kAlreadyExists));
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, nullptr);
  EXPECT_THAT(Contents(*db_, "d"), IsEmpty());
  EXPECT_EQ(SegmentFiles(), files);
  ExpectSound();
}

TEST_F(RestoreSnapshotTest, ADropOfTheTargetMeanwhileIsNoHindrance) {
  MakeCollection("c");
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  SetFailpointHook(Failpoint::kRestoreMidFiles, [&] {
    EXPECT_OK(db_->DropCollection("c", /*if_exists=*/true, kNoCancel));
    return absl::OkStatus();
  });
  ASSERT_OK(Restore("s", "c", true));
  SetFailpointHook(Failpoint::kRestoreMidFiles, nullptr);
  EXPECT_EQ(Contents(*db_, "c"), rows);
  ExpectSound();
}

TEST_F(RestoreSnapshotTest, ChecksRestoresAndRemovalsAtOnceAreDoneOrRefusedByName) {
  MakeCollection("c", 200);
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  constexpr int kRounds = 30;
  std::atomic<int> done{0};
  const auto repeat = [&](const std::function<absl::Status()>& call) {
    return std::thread([&, call] {
      for (int i = 0; i < kRounds; ++i) {
        const absl::Status status = call();
        if (status.ok()) {
          ++done;
        } else if (!absl::IsAborted(status)) {
          EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("does not exist")));
        }
      }
    });
  };
  std::vector<std::thread> threads;
  threads.push_back(repeat([&] { return db_->VerifySnapshot("s", kNoCancel).status(); }));
  threads.push_back(repeat([&] { return db_->DeleteSnapshot("s"); }));
  threads.push_back(repeat([&] {
    const absl::Status made = db_->CreateSnapshot("c", "s", kNoCancel).status();
    return absl::IsAlreadyExists(made) ? absl::OkStatus() : made;
  }));
  threads.push_back(repeat([&] {
    return db_->RestoreSnapshot({.snapshot = "s", .target = "d", .overwrite = true}, kNoCancel)
        .status();
  }));
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(done.load(), 0);
  if (db_->DescribeCollection("d").ok()) {
    EXPECT_EQ(Contents(*db_, "d"), rows);
  }
  ExpectSound();
}

TEST_F(RestoreSnapshotTest, RetirementsThatTheMemoryIsNotForAreRefusedByACheckToo) {
  MakeCollection("c", 40);
  Snapshot("c", "s");
  ChangeManifest(
      [](storage::SnapshotManifest& manifest) { manifest.next_row = RowId{uint64_t{1} << 47}; });
  const auto refused =
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("bytes of memory to know"));
  EXPECT_THAT(db_->VerifySnapshot("s", kNoCancel), refused);
  EXPECT_THAT(Restore("s", "d"), refused);
}

TEST_F(RestoreSnapshotTest, NamesThatAreNoneAreRefused) {
  MakeCollection("c", 40);
  Snapshot("c", "s");
  for (const char* name : {"../d", "a/b", "1", "a b"}) {
    EXPECT_THAT(Restore("s", name),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("target_name")));
    EXPECT_THAT(Restore("s", "d", false, name),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("collection")));
  }
  EXPECT_THAT(Restore("s", "d", false, "e"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("of collection 'c'")));
}

TEST_F(RestoreSnapshotTest, RecordsThatEndAreSweptAfterIt) {
  MakeCollection("c", 40);
  const std::vector<float> vector = RandomVector();
  std::vector<RecordInput> records;
  records.push_back(testing::MakeRecord(1000, 1, vector));
  records.back().expires_at_unix_us = clock_.NowUnixMicros() + 5'000'000;
  ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
  Snapshot("c", "s");
  ASSERT_OK(Restore("s", "d"));
  EXPECT_EQ(Contents(*db_, "d").count(1000), 1U);
  clock_.AdvanceMillis(6000);
  EXPECT_EQ(Contents(*db_, "d").count(1000), 0U);
  Settle();
  ExpectSound();
}

}  // namespace
}  // namespace azimuth::engine
