#include "engine/snapshot/create_snapshot.h"

#include "base/failpoint.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using testing::Contents;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using testing::SeenRows;
using ::testing::SizeIs;

const CancelToken kNoCancel{};

using CreateSnapshotTest = testing::SnapshotTest;

TEST_F(CreateSnapshotTest, SaysWhatItHas) {
  MakeCollection("c");
  Snapshot("c", "first");
  EXPECT_EQ(info_.name, "first");
  EXPECT_EQ(info_.collection, "c");
  EXPECT_EQ(info_.rows, 475U);
  EXPECT_EQ(info_.as_of, db_->GetInfo().as_of);
  EXPECT_EQ(info_.incarnation, db_->GetInfo().incarnation);
  EXPECT_GT(info_.files, 1U);
  uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(FolderOf(info_.id))) {
    if (file.path().filename() != "MANIFEST") bytes += file.file_size();
  }
  EXPECT_EQ(info_.bytes, bytes);
  ASSERT_OK_AND_ASSIGN(const auto listed, db_->ListSnapshots(""));
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0].id, info_.id);
  EXPECT_EQ(listed[0].rows, 475U);
  EXPECT_THAT(listed[0].problem, IsEmpty());
}

TEST_F(CreateSnapshotTest, SharesSegmentFilesWithTheStore) {
  MakeCollection("c");
  Snapshot("c", "first");
  int segments = 0;
  for (const auto& file : std::filesystem::directory_iterator(FolderOf(info_.id))) {
    if (file.path().extension() != ".seg") continue;
    ++segments;
    EXPECT_EQ(std::filesystem::hard_link_count(file.path()), 2U);
  }
  EXPECT_GT(segments, 0);
  // They stay when the store does not need them any more.
  ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("first", kNoCancel));
  EXPECT_THAT(report.problems, IsEmpty());
}

TEST_F(CreateSnapshotTest, ANameIsGivenByTheClockAndNotTwice) {
  MakeCollection("c", 40);
  Snapshot("c", "");
  EXPECT_THAT(info_.name, MatchesRegex("c-[0-9]{8}-[0-9]{6}"));
  const std::string first = info_.name;
  Snapshot("c", "");
  EXPECT_EQ(info_.name, first + "-2");
  Snapshot("c", "");
  EXPECT_EQ(info_.name, first + "-3");
  EXPECT_THAT(db_->CreateSnapshot("c", first, kNoCancel),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(first)));
  Snapshot("", "");
  EXPECT_THAT(info_.name, MatchesRegex("store-[0-9]{8}-[0-9]{6}"));
}

TEST_F(CreateSnapshotTest, NamesThatAreNoneAreRefused) {
  MakeCollection("c", 40);
  for (const char* name : {"../x", "/etc/passwd", "a/b", "..", ".", "1a", "a b", "file:///x",
                           "http://169.254.169.254", "abcdefabcdefabcd"}) {
    EXPECT_THAT(db_->CreateSnapshot("c", name, kNoCancel),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no name")))
        << name;
  }
  EXPECT_THAT(db_->CreateSnapshot("c", std::string("a\0b", 3), kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(db_->CreateSnapshot("c", std::string(256, 'a'), kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(db_->CreateSnapshot("d", "x", kNoCancel), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(db_->CreateSnapshot("../c", "x", kNoCancel),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(CreateSnapshotTest, IsAsOfOneCommitWhateverIsWrittenMeanwhile) {
  MakeCollection("c");
  SeenRows before;
  int visits = 0;
  SetFailpointHook(Failpoint::kSnapshotMidRows, [&] {
    // The first block is about to be written.
    if (visits++ == 0) {
      before = Contents(*db_, "c");
      Put("c", 0, 100);
      Delete("c", 100, 50);
      Put("c", 1000, 200);
      Settle();  // Merges replace and remove files.
    }
    return absl::OkStatus();
  });
  Snapshot("c", "s");
  SetFailpointHook(Failpoint::kSnapshotMidRows, nullptr);
  EXPECT_GT(visits, 1);
  ASSERT_OK(db_->RestoreSnapshot({.snapshot = "s", .target = "d"}, kNoCancel));
  EXPECT_EQ(Contents(*db_, "d"), before);
  EXPECT_NE(Contents(*db_, "c"), before);
}

TEST_F(CreateSnapshotTest, OutlivesADropOfItsSourceMeanwhile) {
  for (const std::string& of : {std::string("c"), std::string()}) {
    MakeCollection("c");
    const SeenRows before = Contents(*db_, "c");
    int visits = 0;
    const auto drop = [&] {
      if (visits++ == 0) {
        EXPECT_OK(db_->DropCollection("c", false, kNoCancel));
      }
      return absl::OkStatus();
    };
    const Failpoint point =
        of.empty() ? Failpoint::kSnapshotBeforeManifest : Failpoint::kSnapshotMidRows;
    SetFailpointHook(point, drop);
    Snapshot(of, "s");
    SetFailpointHook(point, nullptr);
    EXPECT_GT(visits, 0);
    ASSERT_OK(db_->RestoreSnapshot({.snapshot = "s", .collection = "c"}, kNoCancel));
    EXPECT_EQ(Contents(*db_, "c"), before);
    ASSERT_OK(db_->DeleteSnapshot("s"));
    ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  }
}

TEST_F(CreateSnapshotTest, TwoAtATimeAreRefused) {
  MakeCollection("c");
  std::vector<absl::Status> statuses;
  SetFailpointHook(Failpoint::kSnapshotBeforeManifest, [&] {
    statuses.push_back(db_->CreateSnapshot("c", "b", kNoCancel).status());
    statuses.push_back(
        db_->RestoreSnapshot({.snapshot = "first", .target = "d"}, kNoCancel).status());
    statuses.push_back(db_->VerifySnapshot("first", kNoCancel).status());
    statuses.push_back(db_->DeleteSnapshot("first"));
    EXPECT_OK(db_->ListSnapshots(""));
    return absl::OkStatus();
  });
  Snapshot("c", "first");
  statuses.clear();
  Snapshot("c", "a");
  SetFailpointHook(Failpoint::kSnapshotBeforeManifest, nullptr);
  ASSERT_THAT(statuses, SizeIs(4));
  for (const absl::Status& status : statuses) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kAborted, HasSubstr("is being made")));
  }
  Snapshot("c", "b");
}

TEST_F(CreateSnapshotTest, AFailureAtAnyStepLeavesNothing) {
  MakeCollection("c");
  for (const std::string& of : {std::string("c"), std::string()}) {
    for (const Failpoint point :
         {Failpoint::kSnapshotBeforeFiles, Failpoint::kSnapshotMidRows,
          Failpoint::kSnapshotBeforeManifest, Failpoint::kSnapshotBeforeRename,
          Failpoint::kSnapshotBeforeDirSync}) {
      if (of.empty() && point == Failpoint::kSnapshotMidRows) continue;
      SetFailpointHook(point, [] { return absl::ResourceExhaustedError("no room"); });
      EXPECT_THAT(db_->CreateSnapshot(of, "s", kNoCancel),
                  StatusIs(absl::StatusCode::kResourceExhausted))
          << FailpointName(point);
      SetFailpointHook(point, nullptr);
      EXPECT_THAT(Left(), IsEmpty()) << FailpointName(point);
    }
  }
  EXPECT_OK(db_->CheckWritable());
  Snapshot("c", "s");
}

TEST_F(CreateSnapshotTest, IsRefusedWhileTheDiskIsLow) {
  MakeCollection("c", 40);
  db_.reset();
  options_.disk_floor_bytes = uint64_t{1} << 60;
  db_ = testing::OpenOrDie(options_);
  EXPECT_THAT(db_->CreateSnapshot("c", "s", kNoCancel),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(CreateSnapshotTest, ACallThatIsCancelledLeavesNothing) {
  MakeCollection("c");
  bool cancelled = false;
  SetFailpointHook(Failpoint::kSnapshotBeforeFiles, [&] {
    cancelled = true;
    return absl::OkStatus();
  });
  const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return cancelled; });
  EXPECT_THAT(db_->CreateSnapshot("c", "s", cancel), StatusIs(absl::StatusCode::kCancelled));
  cancelled = false;
  EXPECT_THAT(db_->CreateSnapshot("", "s", cancel), StatusIs(absl::StatusCode::kCancelled));
  SetFailpointHook(Failpoint::kSnapshotBeforeFiles, nullptr);
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(CreateSnapshotTest, OfTheStoreHasOnlyFilesOfTheClosedSet) {
  MakeCollection("c");
  MakeCollection("d", 100);
  Snapshot("", "all");
  EXPECT_EQ(info_.collection, "");
  EXPECT_EQ(info_.rows, 475U + 95U);
  EXPECT_EQ(info_.as_of, db_->GetInfo().as_of);
  ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("all", kNoCancel));
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_TRUE(report.restorable);
  EXPECT_EQ(report.keys, 475U + 95U);
  EXPECT_EQ(report.bytes_read, info_.bytes);
}

// Vectors of large commits are in the database before their commit is.
TEST_F(CreateSnapshotTest, HasNoVectorsWhoseCommitHasNotCome) {
  constexpr uint32_t kDim = 4096;
  constexpr int64_t kRows = 200;
  ASSERT_OK(db_->CreateCollection("c", testing::SmallSchema(kDim), false, kNoCancel));
  const std::vector<float> vector(kDim, 1.0F);
  const auto put = [&](int64_t first) {
    std::vector<RecordInput> records;
    for (int64_t i = 0; i < kRows; ++i) {
      records.push_back(testing::MakeRecord(first + i, i, vector));
    }
    ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
  };
  put(0);
  int visits = 0;
  std::thread copies;  // The copy of the database waits for the commit.
  SetFailpointHook(Failpoint::kTablesAfterTakeIn, [&] {
    if (visits++ == 0) {
      EXPECT_OK(db_->CreateSnapshot("c", "one", kNoCancel));
      copies = std::thread([&] { EXPECT_OK(db_->CreateSnapshot("", "all", kNoCancel)); });
    }
    return absl::OkStatus();
  });
  put(kRows);
  SetFailpointHook(Failpoint::kTablesAfterTakeIn, nullptr);
  ASSERT_EQ(visits, 1);
  copies.join();
  for (const char* name : {"one", "all"}) {
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot(name, kNoCancel));
    EXPECT_THAT(report.problems, IsEmpty());
    ASSERT_OK(
        db_->RestoreSnapshot({.snapshot = name, .collection = "c", .target = name}, kNoCancel));
    const int64_t rows = name == std::string_view("one") ? kRows : 2 * kRows;
    EXPECT_THAT(Contents(*db_, name), SizeIs(static_cast<size_t>(rows)));
  }
  EXPECT_THAT(Contents(*db_, "c"), SizeIs(static_cast<size_t>(2 * kRows)));
}

}  // namespace
}  // namespace azimuth::engine
