#include "storage/data_dir.h"

#include "base/crc32c.h"
#include "base/strings.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Names(const std::string& path) {
  return ListDirectory(path).value_or(std::vector<std::string>{"<cannot list>"});
}

TEST(DataDir, MakesAFreshDirectoryWhole) {
  const TempDir temp;
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.File("data")));
  EXPECT_THAT(Names(dir.path()), ElementsAre("FORMAT", "LOCK", "quarantine", "segments"));
  EXPECT_EQ(dir.rocks_path(), temp.File("data/rocks"));
  EXPECT_EQ(dir.segment_path(SegmentId{0x1a}), temp.File("data/segments/000000000000001a.seg"));
}

TEST(DataDir, KeepsItsIncarnation) {
  const TempDir temp;
  std::vector<uint64_t> incarnations;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
    incarnations.push_back(dir.incarnation());
  }
  EXPECT_EQ(incarnations[0], incarnations[1]);
  EXPECT_EQ(incarnations[0], incarnations[2]);
  ASSERT_OK_AND_ASSIGN(const DataDir other, DataDir::Open(temp.File("other")));
  EXPECT_NE(other.incarnation(), incarnations[0]);
}

TEST(DataDir, IsLockedWhileItIsOpen) {
  const TempDir temp;
  std::optional<DataDir> first;
  {
    ASSERT_OK_AND_ASSIGN(DataDir dir, DataDir::Open(temp.path()));
    first = std::move(dir);
  }
  EXPECT_THAT(DataDir::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another")));
  first.reset();
  EXPECT_OK(DataDir::Open(temp.path()));
}

TEST(DataDir, RefusesANewerFormatUntouched) {
  const TempDir temp;
  const std::string text = "azimuth data directory, format 3\nwhatever comes then\n";
  WriteBytes(temp.File("FORMAT"), text);
  EXPECT_THAT(DataDir::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("format 3"), HasSubstr("newest"), HasSubstr(temp.path()))));
  EXPECT_THAT(Names(temp.path()), ElementsAre("FORMAT"));
  EXPECT_EQ(ReadBytes(temp.File("FORMAT")), text);
}

TEST(DataDir, RefusesAForeignDirectoryUntouched) {
  const TempDir temp;
  WriteBytes(temp.File("holiday.jpg"), "x");
  EXPECT_THAT(DataDir::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("holiday.jpg")));
  EXPECT_THAT(Names(temp.path()), ElementsAre("holiday.jpg"));
}

TEST(DataDir, TakesTheRootOfANewVolumeAndWhatAnEarlyDeathLeft) {
  const TempDir temp;
  ASSERT_OK(MakeDirectory(temp.File("lost+found")));
  WriteBytes(temp.File("LOCK"), "");
  WriteBytes(temp.File("FORMAT.tmp"), "azimu");
  ASSERT_OK(DataDir::Open(temp.path()));
  EXPECT_THAT(Names(temp.path()),
              ElementsAre("FORMAT", "LOCK", "lost+found", "quarantine", "segments"));
}

TEST(DataDir, NeedsTheParentDirectory) {
  const TempDir temp;
  EXPECT_THAT(DataDir::Open(temp.File("a/b")), StatusIs(absl::StatusCode::kNotFound));
}

TEST(DataDir, FindsEveryDamageOfTheFormatFile) {
  const TempDir temp;
  ASSERT_OK(DataDir::Open(temp.path()));
  const std::string text = ReadBytes(temp.File("FORMAT"));
  for (size_t length = 0; length < text.size(); ++length) {
    WriteBytes(temp.File("FORMAT"), text.substr(0, length));
    EXPECT_THAT(DataDir::Open(temp.path()), StatusIs(absl::StatusCode::kDataLoss)) << length;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    WriteBytes(temp.File("FORMAT"), damaged);
    // A flip in the version's digit may make it 0, never a newer one that we would read.
    EXPECT_FALSE(DataDir::Open(temp.path()).ok()) << i;
  }
  WriteBytes(temp.File("FORMAT"), text + "\n");
  EXPECT_THAT(DataDir::Open(temp.path()), StatusIs(absl::StatusCode::kDataLoss));
  WriteBytes(temp.File("FORMAT"), text);
  EXPECT_OK(DataDir::Open(temp.path()));
}

// FORMAT of a directory of that version.
std::string FormatFile(int version) {
  const std::string body =
      absl::StrFormat("azimuth data directory, format %d\nincarnation 0123456789abcdef\n", version);
  return body + absl::StrFormat("crc32c %08x\n", Crc32c(std::string_view(body)));
}

TEST(DataDir, ReadsTheFormatFileOfVersionTwo) {
  const TempDir temp;
  WriteBytes(temp.File("FORMAT"), FormatFile(2));
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
  EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
  EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(2));
}

TEST(DataDir, MakesADirectoryOfVersionOneOneOfVersionTwo) {
  const TempDir temp;
  WriteBytes(temp.File("FORMAT"), FormatFile(1));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
    EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
    EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(2));
  }
}

TEST(DataDir, LeavesADirectoryOfVersionOneAloneWhileAnotherServerHoldsIt) {
  const TempDir temp;
  WriteBytes(temp.File("FORMAT"), FormatFile(1));
  ASSERT_OK_AND_ASSIGN(const auto lock, Files::Posix().Lock(temp.File("LOCK")));
  EXPECT_THAT(DataDir::Open(temp.path()), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(1));
}

TEST(DataDir, OpensTheFixtureOfVersionOne) {
  const std::filesystem::path fixture =
      std::filesystem::canonical(__FILE__).parent_path().parent_path() / "fixtures" / "format-1";
  const TempDir temp;
  std::filesystem::copy(fixture, temp.File("data"), std::filesystem::copy_options::recursive);
  const std::string before = ReadBytes(temp.File("data/FORMAT"));
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.File("data")));
  const std::string after = ReadBytes(temp.File("data/FORMAT"));
  EXPECT_THAT(before, HasSubstr("format 1\n"));
  EXPECT_THAT(after, HasSubstr("format 2\n"));
  const std::string incarnation = absl::StrFormat("\nincarnation %016x\n", dir.incarnation());
  EXPECT_THAT(before, HasSubstr(incarnation));
  EXPECT_THAT(after, HasSubstr(incarnation));
  EXPECT_THAT(Names(dir.path()), ElementsAre("FORMAT", "LOCK", "quarantine", "rocks", "segments"));
}

TEST(DataDir, TakesTheIncarnationFromTheRandomNumbersThatItIsGiven) {
  const TempDir temp;
  ASSERT_OK_AND_ASSIGN(const DataDir dir,
                       DataDir::Open(temp.path(), Files::Posix(), [] { return uint64_t{42}; }));
  EXPECT_EQ(dir.incarnation(), 42u);
}

}  // namespace
}  // namespace azimuth::storage
