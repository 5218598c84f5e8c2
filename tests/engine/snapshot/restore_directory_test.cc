#include "engine/snapshot/restore_directory.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/admin/verify.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using testing::Contents;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SeenRows;
using ::testing::SizeIs;

const CancelToken kNoCancel{};

class RestoreDirectoryTest : public testing::SnapshotTest {
 protected:
  RestoreDirectoryTest() {
    there_ = options_;
    there_.data_dir = parent_.File("new");
    testing::UseManualWorkers(there_, workers_there_);
  }
  absl::StatusOr<DirectoryRestore> Restore() {
    return RestoreDirectory(FolderOf(info_.id), there_, kNoCancel);
  }
  // It opens, is sound, and has these.
  void ExpectHas(const std::string& collection, const SeenRows& rows) {
    auto db = testing::OpenOrDie(there_);
    EXPECT_EQ(Contents(*db, collection), rows);
    db.reset();
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyDirectory(there_, true, kNoCancel));
    for (const Finding& finding : report.findings) ADD_FAILURE() << finding.message;
  }

  const TempDir parent_;
  DatabaseOptions there_;
  testing::ManualWorkers* workers_there_ = nullptr;
};

TEST_F(RestoreDirectoryTest, OfTheStoreHasEverythingAndAnotherIncarnation) {
  MakeCollection("c");
  MakeCollection("d", 200);
  Snapshot("", "all");
  const SeenRows c = Contents(*db_, "c");
  const SeenRows d = Contents(*db_, "d");
  Put("c", 0, 100);
  ASSERT_OK_AND_ASSIGN(const DirectoryRestore restored, Restore());
  EXPECT_EQ(restored.collections, 2U);
  EXPECT_EQ(restored.snapshot.rows, c.size() + d.size());
  EXPECT_THAT(restored.warnings, IsEmpty());
  {
    const auto db = testing::OpenOrDie(there_);
    EXPECT_EQ(db->GetInfo().as_of, info_.as_of);
    EXPECT_NE(db->GetInfo().incarnation, info_.incarnation);
    ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db->GetStats("c"));
    ASSERT_FALSE(stats.segments.empty());
    EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed);
  }
  // It shares nothing with the snapshot.
  for (const auto& file : std::filesystem::recursive_directory_iterator(there_.data_dir)) {
    if (file.is_regular_file()) {
      EXPECT_EQ(file.hard_link_count(), 1U) << file.path();
    }
  }
  std::filesystem::remove_all(FolderOf(info_.id));
  ExpectHas("c", c);
  ExpectHas("d", d);
}

TEST_F(RestoreDirectoryTest, OfACollectionHasThatOne) {
  MakeCollection("c");
  MakeCollection("d", 200);
  Snapshot("c", "s");
  const SeenRows rows = Contents(*db_, "c");
  ASSERT_OK_AND_ASSIGN(const DirectoryRestore restored, Restore());
  EXPECT_EQ(restored.collections, 1U);
  ExpectHas("c", rows);
  EXPECT_THAT(testing::OpenOrDie(there_)->ListCollections(), SizeIs(1));
}

TEST_F(RestoreDirectoryTest, ADirectoryThatIsNotEmptyIsLeftAlone) {
  MakeCollection("c", 100);
  Snapshot("", "all");
  std::filesystem::create_directories(there_.data_dir);
  WriteBytes(there_.data_dir + "/note", "mine");
  EXPECT_THAT(Restore(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("'note'")));
  EXPECT_EQ(ReadBytes(there_.data_dir + "/note"), "mine");
  std::filesystem::remove(there_.data_dir + "/note");
  EXPECT_OK(Restore());
  EXPECT_THAT(Restore(), StatusIs(absl::StatusCode::kFailedPrecondition));
  ExpectHas("c", Contents(*db_, "c"));
}

TEST_F(RestoreDirectoryTest, DamagedRowsAreRefusedAndNothingIsMade) {
  MakeCollection("c");
  for (const std::string& of : {std::string("c"), std::string()}) {
    Snapshot(of, "s");
    for (const auto& file : std::filesystem::recursive_directory_iterator(FolderOf(info_.id))) {
      const std::string path = file.path();
      if (!file.is_regular_file() || path.ends_with(".seg") || file.file_size() == 0) continue;
      const std::string right = ReadBytes(path);
      std::string wrong = right;
      wrong[wrong.size() / 2] = static_cast<char>(wrong[wrong.size() / 2] ^ 1);
      std::filesystem::remove(path);
      WriteBytes(path, wrong);
      EXPECT_THAT(Restore(), StatusIs(absl::StatusCode::kDataLoss)) << path;
      EXPECT_FALSE(std::filesystem::exists(there_.data_dir)) << path;
      std::filesystem::remove(path);
      EXPECT_THAT(Restore(), ::testing::Not(::azimuth::testing::IsOk())) << path;
      EXPECT_FALSE(std::filesystem::exists(there_.data_dir)) << path;
      WriteBytes(path, right);
    }
    ASSERT_OK(db_->DeleteSnapshot("s"));
  }
}

// Nothing but the checksum of the whole file covers what is between its sections.
TEST_F(RestoreDirectoryTest, ASegmentFileWithAFlippedByteOfPaddingIsInNoCatalog) {
  MakeCollection("c");
  const SeenRows rows = Contents(*db_, "c");
  for (const std::string& of : {std::string("c"), std::string()}) {
    Snapshot(of, "s");
    const std::string name = LongestSegment();
    const std::string path = FolderOf(info_.id) + "/" + name;
    std::string bytes = ReadBytes(path);
    constexpr size_t kPadding = 4095;  // Before the first section.
    ASSERT_EQ(bytes.at(kPadding), 0);
    bytes[kPadding] = 1;
    std::filesystem::remove(path);  // It is shared with the store.
    WriteBytes(path, bytes);
    ASSERT_OK((*storage::SegmentFile::Open(path))->VerifySections(kNoCancel));
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("s", kNoCancel));
    EXPECT_THAT(report.problems, ElementsAre(HasSubstr(name)));
    EXPECT_TRUE(report.restorable);

    ASSERT_OK_AND_ASSIGN(const DirectoryRestore restored, Restore());
    EXPECT_THAT(restored.warnings, ElementsAre(HasSubstr(name)));
    {
      const auto store = storage::Store::Open(there_.data_dir + "/rocks", {});
      ASSERT_OK(store);
      ASSERT_OK_AND_ASSIGN(const auto segments, (*store)->ListSegments());
      for (const storage::SegmentEntry& segment : segments) {
        const std::string file = absl::StrFormat("%016x.seg", Raw(segment.id));
        EXPECT_TRUE(std::filesystem::exists(there_.data_dir + "/segments/" + file)) << file;
      }
      ASSERT_OK((*store)->Close());
    }
    ASSERT_OK_AND_ASSIGN(const VerifyReport sound, VerifyDirectory(there_, true, kNoCancel));
    for (const Finding& finding : sound.findings) ADD_FAILURE() << finding.message;
    ExpectHas("c", rows);
    std::filesystem::remove_all(there_.data_dir);
    ASSERT_OK(db_->DeleteSnapshot("s"));
  }
}

TEST_F(RestoreDirectoryTest, AFailureAtAnyStepLeavesNothingAndItCanBeRepeated) {
  MakeCollection("c");
  const SeenRows rows = Contents(*db_, "c");
  for (const std::string& of : {std::string("c"), std::string()}) {
    Snapshot(of, "s");
    for (const Failpoint point : {Failpoint::kCopyMidFiles, Failpoint::kCopyBeforeFormat}) {
      SetFailpointHook(point, [] { return absl::ResourceExhaustedError("no room"); });
      EXPECT_THAT(Restore(), StatusIs(absl::StatusCode::kResourceExhausted));
      SetFailpointHook(point, nullptr);
      EXPECT_FALSE(std::filesystem::exists(there_.data_dir));
    }
    EXPECT_OK(Restore());
    ExpectHas("c", rows);
    std::filesystem::remove_all(there_.data_dir);
    ASSERT_OK(db_->DeleteSnapshot("s"));
  }
}

}  // namespace
}  // namespace azimuth::engine
