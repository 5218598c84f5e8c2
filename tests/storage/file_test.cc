#include "storage/file.h"

#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>
#include <sys/stat.h>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(WritableFile, AppendsInOrderAndCountsBytes) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().Create(dir.File("a")));
  ASSERT_OK(file->Append(Bytes("one ")));
  ASSERT_OK(file->Append({}));
  ASSERT_OK(file->Append(Bytes("two")));
  EXPECT_EQ(file->size(), 7u);
  ASSERT_OK(file->Sync());
  ASSERT_OK(file->Close());
  EXPECT_EQ(ReadBytes(dir.File("a")), "one two");
}

TEST(WritableFile, DoesNotReplaceAFileThatExists) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "old");
  EXPECT_THAT(Files::Posix().Create(dir.File("a")),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(dir.File("a"))));
  EXPECT_EQ(ReadBytes(dir.File("a")), "old");
}

// Bytes of the disk that the file has.
uint64_t BytesOfBlocks(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

TEST(UpdatableFile, ReplacesBytesInPlaceAndGrows) {
  const TempDir dir;
  const std::string path = dir.File("a");
  WriteBytes(path, "0123456789");
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().OpenForUpdate(path));
  EXPECT_EQ(ReadBytes(path), "0123456789");
  ASSERT_OK(file->WriteAt(2, Bytes("ab")));
  ASSERT_OK(file->WriteAt(9, Bytes("xyz")));
  ASSERT_OK(file->WriteAt(14, Bytes("!")));
  ASSERT_OK(file->WriteAt(100, {}));
  ASSERT_OK(file->Sync());
  EXPECT_EQ(ReadBytes(path), std::string("01ab45678xyz\0\0!", 15));
}

TEST(UpdatableFile, IsMadeIfItIsMissing) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().OpenForUpdate(dir.File("a")));
  EXPECT_EQ(ReadBytes(dir.File("a")), "");
  EXPECT_THAT(Files::Posix().OpenForUpdate(dir.File("none/a")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir.File("none/a"))));
}

TEST(Allocate, TakesBlocksForEveryByteWhateverWasThere) {
  const TempDir dir;
  constexpr uint64_t kBytes = 1 << 20;
  const std::string path = dir.File("a");
  const auto expect_held = [&] {
    EXPECT_EQ(std::filesystem::file_size(path), kBytes);
    EXPECT_GE(BytesOfBlocks(path), kBytes);
  };
  ASSERT_OK(Files::Posix().Allocate(path, kBytes));
  expect_held();
  ASSERT_OK(Files::Posix().Allocate(path, kBytes));
  expect_held();
  // Of the right length, and a hole.
  std::filesystem::resize_file(path, 0);
  std::filesystem::resize_file(path, kBytes);
  ASSERT_LT(BytesOfBlocks(path), kBytes);
  ASSERT_OK(Files::Posix().Allocate(path, kBytes));
  expect_held();
  WriteBytes(path, std::string(kBytes + 100'000, 'x'));
  ASSERT_OK(Files::Posix().Allocate(path, kBytes));
  expect_held();
  ASSERT_OK(Files::Posix().Allocate(path, 0));
  EXPECT_EQ(BytesOfBlocks(path), 0u);
}

TEST(Allocate, LeavesNothingWhenItFails) {
  const TempDir dir;
  for (const uint64_t bytes : {uint64_t{1} << 62, UINT64_MAX}) {
    WriteBytes(dir.File("a"), "x");
    const absl::Status status = Files::Posix().Allocate(dir.File("a"), bytes);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir.File("a")));
    EXPECT_FALSE(std::filesystem::exists(dir.File("a")));
  }
}

TEST(Space, IsThatOfTheFileSystem) {
  const TempDir dir;
  const std::filesystem::space_info expected = std::filesystem::space(dir.path());
  ASSERT_OK_AND_ASSIGN(const DiskSpace space, Files::Posix().Space(dir.path()));
  EXPECT_EQ(space.capacity_bytes, expected.capacity);
  EXPECT_GT(space.free_bytes, 0u);
  EXPECT_LE(space.free_bytes, space.capacity_bytes);
  // Others write meanwhile.
  EXPECT_NEAR(static_cast<double>(space.free_bytes), static_cast<double>(expected.available), 1e9);
  ASSERT_OK_AND_ASSIGN(const DiskSpace proc, Files::Posix().Space("/proc"));
  EXPECT_EQ(proc.free_bytes, 0u);
  EXPECT_FALSE(proc.network);
  EXPECT_THAT(Files::Posix().Space(dir.File("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir.File("none"))));
}

TEST(FileErrors, SayWhetherTheDiskIsFullTheBytesAreLostOrItIsNotAllowed) {
  // A device that is always full.
  ASSERT_OK_AND_ASSIGN(const auto full, Files::Posix().OpenForUpdate("/dev/full"));
  EXPECT_THAT(full->WriteAt(0, Bytes("x")),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/dev/full")));
  // Nothing is mapped at address zero: EIO.
  EXPECT_THAT(ReadSmallFile("/proc/self/mem"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("/proc/self/mem")));
  // EPERM for root, EACCES for others.
  EXPECT_THAT(MakeDirectory("/sys/azimuth"),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("/sys/azimuth")));
}

TEST(FileLock, IsHeldUntilItGoesAway) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto first, Files::Posix().Lock(dir.File("LOCK")));
  EXPECT_THAT(Files::Posix().Lock(dir.File("LOCK")),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(dir.File("LOCK"))));
  first.reset();
  EXPECT_OK(Files::Posix().Lock(dir.File("LOCK")));
}

TEST(WriteFileAtomically, ReplacesTheContentAndLeavesNoOtherFile) {
  const TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.File("a"), "first, and longer"));
  WriteBytes(dir.File("a.tmp"), "left over from a crash");
  ASSERT_OK(WriteFileAtomically(dir.File("a"), "second"));
  EXPECT_EQ(ReadBytes(dir.File("a")), "second");
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("a"));
}

TEST(WriteFileAtomically, RemovesItsTemporaryFileWhenItFails) {
  const TempDir dir;
  // A directory of that name cannot be replaced by a file.
  ASSERT_OK(MakeDirectory(dir.File("a")));
  EXPECT_FALSE(WriteFileAtomically(dir.File("a"), "text").ok());
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("a"));
}

TEST(ReadSmallFile, GivesTheWholeContent) {
  const TempDir dir;
  std::string content;
  for (int i = 0; i < 10'000; ++i) content += std::to_string(i) + '\0';
  WriteBytes(dir.File("a"), content);
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadSmallFile(dir.File("a")));
  EXPECT_EQ(read, content);
}

TEST(ReadSmallFile, RefusesALargeFile) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "");
  std::filesystem::resize_file(dir.File("a"), (uint64_t{16} << 20) + 1);
  EXPECT_THAT(ReadSmallFile(dir.File("a")), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(FileFunctions, NameThePathAndTheReason) {
  const TempDir dir;
  const std::string path = dir.File("none");
  const auto not_there =
      StatusIs(absl::StatusCode::kNotFound,
               ::testing::AllOf(HasSubstr(path), HasSubstr("No such file or directory")));
  EXPECT_THAT(ReadSmallFile(path), not_there);
  EXPECT_THAT(RemoveFile(path), not_there);
  EXPECT_THAT(RenameFile(path, path + "2"), not_there);
  EXPECT_THAT(FileSize(path), not_there);
  EXPECT_THAT(ListDirectory(path), not_there);
  EXPECT_THAT(SyncDirectory(path), not_there);
  EXPECT_THAT(Files::Posix().Map(path), not_there);
  EXPECT_THAT(Files::Posix().Create(path + "/a"), not_there);
  EXPECT_THAT(MakeDirectory(path + "/a"), not_there);
}

TEST(RenameFile, ReplacesTheTarget) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "new");
  WriteBytes(dir.File("b"), "old");
  ASSERT_OK(RenameFile(dir.File("a"), dir.File("b")));
  EXPECT_EQ(ReadBytes(dir.File("b")), "new");
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("b"));
}

TEST(MakeDirectory, IsOkWhenTheDirectoryIsThereAndNotWhenAFileIs) {
  const TempDir dir;
  ASSERT_OK(MakeDirectory(dir.File("d")));
  EXPECT_OK(MakeDirectory(dir.File("d")));
  WriteBytes(dir.File("f"), "");
  EXPECT_THAT(MakeDirectory(dir.File("f")), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(ReadableFile, ReadsAtAnyPlaceUpToTheEnd) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "0123456789");
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().OpenToRead(dir.File("a")));
  EXPECT_EQ(file->size(), 10U);
  std::string out(4, '?');
  ASSERT_OK_AND_ASSIGN(size_t count, file->ReadAt(3, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(count, 4U);
  EXPECT_EQ(out, "3456");
  ASSERT_OK_AND_ASSIGN(count, file->ReadAt(8, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(count, 2U);
  ASSERT_OK_AND_ASSIGN(count, file->ReadAt(10, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(count, 0U);
}

TEST(ReadableFile, IsARegularFileAndNoLink) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "x");
  std::filesystem::create_symlink(dir.File("a"), dir.File("link"));
  EXPECT_THAT(Files::Posix().OpenToRead(dir.File("link")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
  EXPECT_THAT(Files::Posix().OpenToRead(dir.path()), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Files::Posix().OpenToRead("/dev/null"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Files::Posix().OpenToRead(dir.File("none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST(KindOf, IsThatOfTheNameAndNotOfWhatALinkLeadsTo) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "x");
  std::filesystem::create_symlink(dir.path(), dir.File("link"));
  Files& files = Files::Posix();
  ASSERT_OK_AND_ASSIGN(FileKind kind, files.KindOf(dir.File("a")));
  EXPECT_EQ(kind, FileKind::kFile);
  ASSERT_OK_AND_ASSIGN(kind, files.KindOf(dir.path()));
  EXPECT_EQ(kind, FileKind::kDirectory);
  ASSERT_OK_AND_ASSIGN(kind, files.KindOf(dir.File("link")));
  EXPECT_EQ(kind, FileKind::kOther);
  EXPECT_THAT(files.KindOf(dir.File("none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST(RemoveDir, TakesEmptyOnesOnly) {
  const TempDir dir;
  std::filesystem::create_directories(dir.File("a/b"));
  EXPECT_FALSE(Files::Posix().RemoveDir(dir.File("a")).ok());
  EXPECT_OK(Files::Posix().RemoveDir(dir.File("a/b")));
  EXPECT_OK(Files::Posix().RemoveDir(dir.File("a")));
  EXPECT_THAT(Files::Posix().RemoveDir(dir.File("a")), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ListDirectory, SortsNamesAndLeavesOutDots) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, IsEmpty());
  for (const char* name : {"b", "c", ".hidden", "a"}) WriteBytes(dir.File(name), "");
  ASSERT_OK_AND_ASSIGN(names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre(".hidden", "a", "b", "c"));
}

TEST(ParentDirectory, CutsTheLastName) {
  EXPECT_EQ(ParentDirectory("/a/b"), "/a");
  EXPECT_EQ(ParentDirectory("/a/b/"), "/a");
  EXPECT_EQ(ParentDirectory("/a"), "/");
  EXPECT_EQ(ParentDirectory("/"), "/");
  EXPECT_EQ(ParentDirectory("a/b"), "a");
  EXPECT_EQ(ParentDirectory("a"), ".");
}

TEST(MappedFile, ShowsTheBytesAtAPageBoundary) {
  const TempDir dir;
  const std::string content(10'000, 'x');
  WriteBytes(dir.File("a"), content);
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().Map(dir.File("a")));
  ASSERT_EQ(file->bytes().size(), content.size());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file->bytes().data()) % 4096, 0u);
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(file->bytes().data()), content.size()),
            content);
  EXPECT_THAT(FileSize(dir.File("a")), ::azimuth::testing::IsOk());
}

TEST(MappedFile, IsEmptyForAnEmptyFile) {
  const TempDir dir;
  WriteBytes(dir.File("a"), "");
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().Map(dir.File("a")));
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFile, RefusesADirectory) {
  const TempDir dir;
  EXPECT_THAT(Files::Posix().Map(dir.path()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(MappedFile, SaysWhichBytesCannotBeHadAnyMore) {
  const TempDir dir;
  const std::string path = dir.File("a");
  WriteBytes(path, std::string(200'000, 'x'));
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().Map(path));
  EXPECT_OK(file->Load(0, 200'000));
  EXPECT_OK(file->Load(200'000, 0));
  // Cut while it is mapped: a touch of what was cut off would be the end.
  std::filesystem::resize_file(path, 70'000);
  EXPECT_OK(file->Load(0, 70'000));
  EXPECT_THAT(file->Load(0, 70'001), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("truncated")));
  // Another file of that name is not the one that is mapped, and neither is none.
  std::filesystem::rename(path, dir.File("b"));
  EXPECT_THAT(file->Load(0, 1), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("removed")));
  WriteBytes(path, std::string(200'000, 'y'));
  EXPECT_THAT(file->Load(0, 1), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("replaced")));
}

}  // namespace
}  // namespace azimuth::storage
