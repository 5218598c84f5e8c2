#include "storage/snapshot_folder.h"

#include "base/status.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <span>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const CancelToken kNoCancel{};
constexpr char kId[] = "00000000000000aa";

absl::Status WriteSynced(const std::string& path, std::string_view text, Files& files) {
  AZ_ASSIGN_OR_RETURN(const auto file, files.Create(path));
  AZ_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text.data(), text.size()))));
  AZ_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::Status Make(const SnapshotFolders& folders, const std::string& id, Files& files) {
  AZ_RETURN_IF_ERROR(folders.Prepare());
  AZ_RETURN_IF_ERROR(folders.Begin(id));
  const std::string path = folders.TemporaryPathOf(id) + "/rows.dat";
  AZ_RETURN_IF_ERROR(WriteSynced(path, "some rows", files));
  SnapshotManifest manifest{
      .kind = SnapshotKind::kCollection, .name = "n", .collection = "c", .definition = "d"};
  AZ_ASSIGN_OR_RETURN(SnapshotFile file, ChecksumOf(path, "rows.dat", files, kNoCancel));
  manifest.files.push_back(std::move(file));
  return folders.Publish(id, manifest);
}

// Whether it is there and whole; what is there must be whole.
bool IsThere(const SnapshotFolders& folders, Files& files) {
  const auto ids = folders.List();
  EXPECT_OK(ids);
  if (!ids.ok() || ids->empty()) return false;
  EXPECT_THAT(*ids, ElementsAre(kId));
  const auto manifest = ReadSnapshotManifest(folders.PathOf(kId), files);
  EXPECT_OK(manifest);
  if (!manifest.ok()) return false;
  EXPECT_OK(CheckSnapshotFiles(folders.PathOf(kId), *manifest, files));
  for (const SnapshotFile& file : manifest->files) {
    EXPECT_OK(VerifySnapshotFile(folders.PathOf(kId), file, files, kNoCancel));
  }
  return true;
}

TEST(SnapshotFolders, AppearAndGoAsAWhole) {
  const TempDir dir;
  Files& files = Files::Posix();
  const SnapshotFolders folders(dir.File("snapshots"), files);
  EXPECT_FALSE(IsThere(folders, files));
  ASSERT_OK(Make(folders, kId, files));
  EXPECT_TRUE(IsThere(folders, files));
  ASSERT_OK(folders.Remove(kId));
  EXPECT_FALSE(IsThere(folders, files));
  EXPECT_THAT(folders.Remove(kId), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(const auto rest, files.List(dir.File("snapshots")));
  EXPECT_THAT(rest, IsEmpty());
}

// Power is lost at every operation of making and removing.
TEST(SnapshotFolders, APowerFailureLeavesAWholeOneOrNone) {
  int made = 0;
  int lost = 0;
  for (uint64_t n = 1; n <= 40; ++n) {
    for (const uint64_t seed : {1, 2, 3, 4, 5, 6}) {
      SimFiles disk(seed);
      const SnapshotFolders folders("/data/snapshots", disk.process());
      ASSERT_OK(disk.process().MakeDir("/data"));
      ASSERT_OK(disk.process().SyncDir("/"));
      disk.FailAfter(n);
      const absl::Status status = Make(folders, kId, disk.process());
      const absl::Status removed = status.ok() ? folders.Remove(kId) : absl::OkStatus();
      disk.Crash(seed * 100 + n);
      const SnapshotFolders after("/data/snapshots", disk.process());
      const bool there = IsThere(after, disk.process());
      EXPECT_FALSE(status.ok() && removed.ok() && there);
      made += there ? 1 : 0;
      lost += there ? 0 : 1;
      ASSERT_OK(after.RemoveUnfinished());
      const auto names = disk.process().List("/data/snapshots");
      if (names.ok()) {
        EXPECT_EQ(names->size(), there ? 1U : 0U);
      }
    }
  }
  EXPECT_GT(made, 0);
  EXPECT_GT(lost, 0);
}

TEST(SnapshotFolders, WhatIsAcknowledgedOutlivesAPowerFailure) {
  for (const uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    SimFiles disk(seed);
    ASSERT_OK(disk.process().MakeDir("/data"));
    ASSERT_OK(disk.process().SyncDir("/"));
    ASSERT_OK(Make(SnapshotFolders("/data/snapshots", disk.process()), kId, disk.process()));
    disk.Crash(seed);
    EXPECT_TRUE(IsThere(SnapshotFolders("/data/snapshots", disk.process()), disk.process()));
  }
}

TEST(SnapshotFolders, AStartRemovesWhatIsUnfinishedAndNothingElse) {
  const TempDir dir;
  const SnapshotFolders folders(dir.path(), Files::Posix());
  std::filesystem::create_directories(dir.File("00000000000000ab.tmp/rocks"));
  WriteBytes(dir.File("00000000000000ab.tmp/rocks/CURRENT"), "x");
  std::filesystem::create_symlink("/", dir.File("00000000000000ab.tmp/link"));
  std::filesystem::create_directory(dir.File("mine.tmp"));
  std::filesystem::create_directory(dir.File("00000000000000ac"));
  ASSERT_OK(folders.RemoveUnfinished());
  ASSERT_OK_AND_ASSIGN(const auto rest, Files::Posix().List(dir.path()));
  EXPECT_THAT(rest, ElementsAre("00000000000000ac", "mine.tmp"));
}

TEST(SnapshotFolders, MarksOfRowStoresAreKept) {
  const TempDir dir;
  const SnapshotFolders folders(dir.File("snapshots"), Files::Posix());
  ASSERT_OK_AND_ASSIGN(auto marked, folders.Marked());
  EXPECT_THAT(marked, IsEmpty());
  ASSERT_OK(folders.Prepare());
  ASSERT_OK(folders.Mark(RowStoreId{7}));
  ASSERT_OK(folders.Mark(RowStoreId{4294967295}));
  WriteBytes(dir.File("snapshots/07.restore"), "");
  WriteBytes(dir.File("snapshots/x.restore"), "");
  ASSERT_OK_AND_ASSIGN(marked, folders.Marked());
  EXPECT_THAT(marked, ::testing::UnorderedElementsAre(RowStoreId{7}, RowStoreId{4294967295}));
  ASSERT_OK(folders.Unmark(RowStoreId{7}));
  ASSERT_OK_AND_ASSIGN(marked, folders.Marked());
  EXPECT_THAT(marked, ElementsAre(RowStoreId{4294967295}));
}

class SnapshotFilesTest : public ::testing::Test {
 protected:
  SnapshotFilesTest() {
    std::filesystem::create_directory(dir_.File("rocks"));
    WriteBytes(dir_.File("rocks/CURRENT"), "MANIFEST-000001\n");
    manifest_.files.push_back(
        *ChecksumOf(dir_.File("rocks/CURRENT"), "rocks/CURRENT", files_, kNoCancel));
  }
  absl::Status Check() { return CheckSnapshotFiles(dir_.path(), manifest_, files_); }
  absl::Status Verify() {
    return VerifySnapshotFile(dir_.path(), manifest_.files[0], files_, kNoCancel);
  }

  const TempDir dir_;
  Files& files_ = Files::Posix();
  SnapshotManifest manifest_{.kind = SnapshotKind::kStore};
};

TEST_F(SnapshotFilesTest, WhatIsRightIsRight) {
  EXPECT_OK(Check());
  EXPECT_OK(Verify());
}

TEST_F(SnapshotFilesTest, AWrongByteALengthAndAMissingFileAreDamage) {
  WriteBytes(dir_.File("rocks/CURRENT"), "MANIFEST-000002\n");
  EXPECT_OK(Check());
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  WriteBytes(dir_.File("rocks/CURRENT"), "MANIFEST-000001\n\n");
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("17 bytes instead of 16")));
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("17 bytes instead of 16")));
  std::filesystem::remove(dir_.File("rocks/CURRENT"));
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SnapshotFilesTest, LinksFoldersAndPipesAreRefused) {
  std::filesystem::rename(dir_.File("rocks/CURRENT"), dir_.File("elsewhere"));
  std::filesystem::create_symlink(dir_.File("elsewhere"), dir_.File("rocks/CURRENT"));
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kInvalidArgument));
  std::filesystem::remove(dir_.File("rocks/CURRENT"));
  std::filesystem::create_directory(dir_.File("rocks/CURRENT"));
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument));
  std::filesystem::remove(dir_.File("rocks/CURRENT"));
  ASSERT_EQ(::mkfifo(dir_.File("rocks/CURRENT").c_str(), 0600), 0);
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(SnapshotFilesTest, AFileThatTheManifestDoesNotNameIsRefusedWhereRocksDbWouldReadIt) {
  WriteBytes(dir_.File("note.txt"), "hello");
  EXPECT_OK(Check());
  WriteBytes(dir_.File("rocks/000009.log"), "");
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("000009.log")));
}

TEST_F(SnapshotFilesTest, ACopyIsComparedAndMayHaveAnotherBeginning) {
  const std::string head = "manifest";
  ASSERT_OK(CopySnapshotFile(dir_.path(), manifest_.files[0], dir_.File("copy"),
                             std::as_bytes(std::span(head.data(), head.size())), files_,
                             kNoCancel));
  EXPECT_EQ(ReadBytes(dir_.File("copy")), "manifest-000001\n");
  std::filesystem::remove(dir_.File("copy"));
  WriteBytes(dir_.File("rocks/CURRENT"), "MANIFEST-000002\n");
  EXPECT_THAT(
      CopySnapshotFile(dir_.path(), manifest_.files[0], dir_.File("copy"), {}, files_, kNoCancel),
      StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("copy")));
}

TEST_F(SnapshotFilesTest, ACopyAsksBeforeEachPieceAndLeavesNothingWhenItIsRefused) {
  WriteBytes(dir_.File("rocks/CURRENT"), std::string(size_t{5} << 20, 'x'));
  ASSERT_OK_AND_ASSIGN(const SnapshotFile file,
                       ChecksumOf(dir_.File("rocks/CURRENT"), "rocks/CURRENT", files_, kNoCancel));
  int asked = 0;
  const auto refuse = [&] {
    return ++asked < 3 ? absl::OkStatus() : absl::ResourceExhaustedError("no room");
  };
  EXPECT_THAT(CopySnapshotFile(dir_.path(), file, dir_.File("copy"), {}, files_, kNoCancel, refuse),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(asked, 3);
  EXPECT_FALSE(std::filesystem::exists(dir_.File("copy")));
  const auto admit = [&] {
    ++asked;
    return absl::OkStatus();
  };
  EXPECT_OK(CopySnapshotFile(dir_.path(), file, dir_.File("copy"), {}, files_, kNoCancel, admit));
  EXPECT_GE(asked, 8);
}

TEST_F(SnapshotFilesTest, ALinkIsASecondName) {
  ASSERT_OK(LinkOrCopy(dir_.File("rocks/CURRENT"), dir_.File("second"), files_, kNoCancel));
  EXPECT_EQ(std::filesystem::hard_link_count(dir_.File("second")), 2U);
  EXPECT_THAT(LinkOrCopy(dir_.File("rocks/CURRENT"), dir_.File("second"), files_, kNoCancel),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(LinkOrCopy(dir_.File("nothing"), dir_.File("third"), files_, kNoCancel),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace azimuth::storage
