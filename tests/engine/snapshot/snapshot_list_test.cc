#include "engine/snapshot/snapshot_list.h"

#include "base/failpoint.h"
#include "base/strings.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::WriteBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const CancelToken kNoCancel{};

class SnapshotListTest : public testing::SnapshotTest {
 protected:
  std::vector<std::string> Names(const std::string& collection) {
    std::vector<std::string> names;
    const auto listed = db_->ListSnapshots(collection);
    EXPECT_OK(listed);
    for (const SnapshotInfo& info : *listed) {
      names.push_back(info.problem.empty() ? info.name : "?" + info.id);
    }
    return names;
  }
};

TEST_F(SnapshotListTest, IsInOrderOfTimeAndOfOneCollectionIfThatIsAsked) {
  EXPECT_THAT(Names(""), IsEmpty());
  MakeCollection("c", 40);
  MakeCollection("d", 40);
  Snapshot("d", "z");
  clock_.AdvanceMillis(1000);
  Snapshot("c", "y");
  clock_.AdvanceMillis(1000);
  Snapshot("", "x");
  EXPECT_THAT(Names(""), ElementsAre("z", "y", "x"));
  EXPECT_THAT(Names("c"), ElementsAre("y"));
  Reopen();
  EXPECT_THAT(Names(""), ElementsAre("z", "y", "x"));
}

TEST_F(SnapshotListTest, WhatIsDamagedIsListedWithItsProblemAndCanBeDeleted) {
  MakeCollection("c", 40);
  Snapshot("c", "a");
  const std::string id = info_.id;
  std::filesystem::create_directory(FolderOf("00000000000000ff"));
  std::filesystem::create_symlink("/etc", FolderOf("00000000000000fe"));
  WriteBytes(FolderOf("00000000000000fd"), "a file");
  std::filesystem::create_directory(FolderOf("unrelated"));
  EXPECT_THAT(Names(""),
              ElementsAre("a", "?00000000000000fd", "?00000000000000fe", "?00000000000000ff"));
  for (const char* bad : {"00000000000000fd", "00000000000000fe", "00000000000000ff"}) {
    EXPECT_FALSE(db_->RestoreSnapshot({.snapshot = bad, .target = "d"}, kNoCancel).ok());
    EXPECT_OK(db_->DeleteSnapshot(bad));
  }
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
  std::filesystem::resize_file(FolderOf(id) + "/rows.dat", 10);
  EXPECT_THAT(Names(""), ElementsAre("?" + id));
  ASSERT_OK_AND_ASSIGN(const auto listed, db_->ListSnapshots(""));
  EXPECT_THAT(listed[0].problem, HasSubstr("10 bytes instead of"));
  EXPECT_THAT(db_->DeleteSnapshot("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(db_->DeleteSnapshot(id));
  EXPECT_THAT(Left(), ElementsAre("unrelated"));
}

TEST_F(SnapshotListTest, NamesAndTimesThatNoServerWroteGetNowhere) {
  MakeCollection("c", 40);
  using Change = void (*)(storage::SnapshotManifest&);
  const Change changes[] = {
      [](storage::SnapshotManifest& manifest) { manifest.name = "a\xff"; },
      [](storage::SnapshotManifest& manifest) { manifest.collection = "\xff\xfe"; },
      [](storage::SnapshotManifest& manifest) { manifest.collection = "../c"; },
      [](storage::SnapshotManifest& manifest) { manifest.created_unix_us = INT64_MAX; },
      [](storage::SnapshotManifest& manifest) { manifest.created_unix_us = INT64_MIN; },
      [](storage::SnapshotManifest& manifest) { manifest.collection_created_unix_us = INT64_MAX; },
      [](storage::SnapshotManifest& manifest) { manifest.live_rows = UINT64_MAX; },
  };
  for (const Change change : changes) {
    Snapshot("c", "a");
    ChangeManifest(change);
    ASSERT_OK_AND_ASSIGN(const auto listed, db_->ListSnapshots(""));
    ASSERT_THAT(listed, SizeIs(1));
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot(info_.id, kNoCancel));
    EXPECT_FALSE(report.restorable);
    for (const SnapshotInfo& info : {listed[0], report.info}) {
      EXPECT_EQ(info.id, info_.id);
      EXPECT_THAT(info.problem, HasSubstr("MANIFEST"));
      EXPECT_TRUE(IsValidUtf8(info.problem));
      EXPECT_EQ(info.name + info.collection, "");
      EXPECT_EQ(info.created_unix_us, 0);
      EXPECT_EQ(info.rows, 0U);
    }
    EXPECT_THAT(db_->RestoreSnapshot({.snapshot = info_.id, .target = "d"}, kNoCancel),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("MANIFEST")));
    ASSERT_OK(db_->DeleteSnapshot(info_.id));
  }
}

TEST_F(SnapshotListTest, OneIsFoundByNameAndByIdAndACopyByItsIdOnly) {
  MakeCollection("c", 40);
  Snapshot("c", "a");
  EXPECT_THAT(db_->VerifySnapshot("b", kNoCancel), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(db_->VerifySnapshot("0000000000000001", kNoCancel),
              StatusIs(absl::StatusCode::kNotFound));
  for (const char* name : {"", "../a", "/a", "file:///a"}) {
    EXPECT_THAT(db_->VerifySnapshot(name, kNoCancel), StatusIs(absl::StatusCode::kInvalidArgument))
        << name;
    EXPECT_THAT(db_->DeleteSnapshot(name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
    EXPECT_THAT(db_->RestoreSnapshot({.snapshot = name}, kNoCancel),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << name;
  }
  EXPECT_OK(db_->VerifySnapshot("a", kNoCancel));
  EXPECT_OK(db_->VerifySnapshot(info_.id, kNoCancel));
  std::filesystem::copy(FolderOf(info_.id), FolderOf("0000000000000001"),
                        std::filesystem::copy_options::recursive);
  EXPECT_THAT(db_->VerifySnapshot("a", kNoCancel),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("0000000000000001")));
  EXPECT_OK(db_->VerifySnapshot("0000000000000001", kNoCancel));
}

TEST_F(SnapshotListTest, ADeathInTheMiddleOfADeleteLeavesNothingListed) {
  MakeCollection("c");
  Snapshot("c", "a");
  // The error ends the removal where a death would.
  SetFailpointHook(Failpoint::kSnapshotMidDelete, [] { return absl::AbortedError("dead"); });
  EXPECT_THAT(db_->DeleteSnapshot("a"), StatusIs(absl::StatusCode::kAborted));
  SetFailpointHook(Failpoint::kSnapshotMidDelete, nullptr);
  EXPECT_THAT(Names(""), IsEmpty());
  EXPECT_THAT(Left(), ElementsAre(info_.id + ".tmp"));
  Reopen();
  EXPECT_THAT(Left(), IsEmpty());
}

}  // namespace
}  // namespace azimuth::engine
