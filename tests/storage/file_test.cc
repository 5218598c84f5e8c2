#include "storage/file.h"

#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>

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

}  // namespace
}  // namespace azimuth::storage
