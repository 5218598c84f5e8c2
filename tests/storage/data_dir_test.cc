#include "storage/data_dir.h"

#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/strings.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"
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
using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

std::vector<std::string> Names(const std::string& path) {
  return ListDirectory(path).value_or(std::vector<std::string>{"<cannot list>"});
}

TEST(DataDir, MakesAFreshDirectoryWhole) {
  const TempDir temp;
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.File("data")));
  EXPECT_THAT(Names(dir.path()), ElementsAre("FORMAT", "LOCK", "quarantine", "segments"));
  EXPECT_EQ(dir.format_version(), 4u);
  EXPECT_EQ(dir.found_version(), 4u);
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
  const std::string text = "azimuth data directory, format 5\nwhatever comes then\n";
  WriteBytes(temp.File("FORMAT"), text);
  EXPECT_THAT(DataDir::Open(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("format 5"), HasSubstr("newest"), HasSubstr(temp.path()))));
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
  std::string body = absl::StrFormat("azimuth data directory, format %d\n", version);
  if (version >= 3) body += "instance fedcba9876543210\n";
  body += "incarnation 0123456789abcdef\n";
  return body + absl::StrFormat("crc32c %08x\n", Crc32c(std::string_view(body)));
}

// That of the newest version which a directory of an older one is given: before version 3 one
// number was both.
std::string UpgradedFormatFile(int version) {
  const std::string body = absl::StrFormat(
      "azimuth data directory, format 4\ninstance %s\nincarnation 0123456789abcdef\n",
      version < 3 ? "0123456789abcdef" : "fedcba9876543210");
  return body + absl::StrFormat("crc32c %08x\n", Crc32c(std::string_view(body)));
}

TEST(DataDir, ReadsTheFormatFileOfVersionFour) {
  const TempDir temp;
  WriteBytes(temp.File("FORMAT"), FormatFile(4));
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
  EXPECT_EQ(dir.instance(), 0xfedcba9876543210u);
  EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
  EXPECT_EQ(dir.format_version(), 4u);
  EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(4));
}

TEST(DataDir, MakesADirectoryOfAnOlderVersionOneOfVersionFour) {
  for (const int version : {1, 2, 3}) {
    const TempDir temp;
    WriteBytes(temp.File("FORMAT"), FormatFile(version));
    for (int i = 0; i < 2; ++i) {
      ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
      EXPECT_EQ(dir.instance(), version < 3 ? 0x0123456789abcdefu : 0xfedcba9876543210u);
      EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
      EXPECT_EQ(dir.format_version(), 4u);
      EXPECT_EQ(dir.found_version(), i == 0 ? static_cast<uint32_t>(version) : 4u);
      EXPECT_EQ(ReadBytes(temp.File("FORMAT")), UpgradedFormatFile(version));
    }
  }
}

TEST(DataDir, LeavesADirectoryOfVersionOneAloneWhileAnotherServerHoldsIt) {
  const TempDir temp;
  WriteBytes(temp.File("FORMAT"), FormatFile(1));
  ASSERT_OK_AND_ASSIGN(const auto lock, Files::Posix().Lock(temp.File("LOCK")));
  EXPECT_THAT(DataDir::Open(temp.path()), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(1));
}

TEST(DataDir, OpensTheFixturesOfOlderVersions) {
  for (const int version : {1, 2, 3}) {
    const std::filesystem::path fixture =
        std::filesystem::canonical(__FILE__).parent_path().parent_path() / "fixtures" /
        absl::StrFormat("format-%d", version);
    const TempDir temp;
    std::filesystem::copy(fixture, temp.File("data"), std::filesystem::copy_options::recursive);
    const std::string before = ReadBytes(temp.File("data/FORMAT"));
    ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.File("data")));
    const std::string after = ReadBytes(temp.File("data/FORMAT"));
    EXPECT_THAT(before, HasSubstr(absl::StrFormat("format %d\n", version)));
    EXPECT_THAT(after, HasSubstr("format 4\n"));
    EXPECT_EQ(dir.instance() == dir.incarnation(), version < 3);
    const std::string incarnation = absl::StrFormat("\nincarnation %016x\n", dir.incarnation());
    EXPECT_THAT(before, HasSubstr(incarnation));
    EXPECT_THAT(after, HasSubstr(incarnation));
    EXPECT_THAT(Names(dir.path()),
                IsSupersetOf({"FORMAT", "LOCK", "quarantine", "rocks", "segments"}));
  }
}

TEST(DataDir, ChangesItsIncarnationAndKeepsItsInstance) {
  const TempDir temp;
  uint64_t instance = 0;
  uint64_t incarnation = 0;
  {
    ASSERT_OK_AND_ASSIGN(DataDir dir, DataDir::Open(temp.path()));
    instance = dir.instance();
    incarnation = dir.incarnation();
    EXPECT_NE(instance, incarnation);
    ASSERT_OK(dir.ChangeIncarnation());
    EXPECT_NE(dir.incarnation(), incarnation);
    incarnation = dir.incarnation();
    EXPECT_EQ(dir.instance(), instance);
    // A new one, even if chance has it the same.
    ASSERT_OK(dir.ChangeIncarnation([&] { return incarnation; }));
    EXPECT_NE(dir.incarnation(), incarnation);
    ASSERT_OK(dir.ChangeIncarnation([] { return uint64_t{42}; }));
  }
  ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open(temp.path()));
  EXPECT_EQ(dir.incarnation(), 42u);
  EXPECT_EQ(dir.instance(), instance);
}

TEST(DataDir, ChangesItsIncarnationAsAWholeOrNotAtAll) {
  int failures = 0;
  for (uint64_t n = 1;; ++n) {
    SimFiles disk(n);
    bool changed = false;
    bool failed = false;
    {
      ASSERT_OK_AND_ASSIGN(DataDir dir,
                           DataDir::Open("/data", disk.process(), [] { return uint64_t{7}; }));
      disk.FailAfter(n);
      changed = dir.ChangeIncarnation([] { return uint64_t{8}; }).ok();
      failed = disk.failed();
      EXPECT_EQ(dir.incarnation(), changed ? 8u : 7u);
      n % 2 == 0 ? disk.Crash(n) : disk.KillProcess();
    }
    ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::Open("/data", disk.process()));
    EXPECT_TRUE(dir.incarnation() == 8u || (!changed && dir.incarnation() == 7u)) << n;
    EXPECT_EQ(dir.instance(), 7u);
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 3);
}

TEST(DataDir, CanBeLookedAtWithoutAnyChange) {
  for (const int version : {1, 2, 3, 4}) {
    const TempDir temp;
    WriteBytes(temp.File("FORMAT"), FormatFile(version));
    WriteBytes(temp.File("LOCK"), "");
    ASSERT_OK_AND_ASSIGN(const DataDir dir, DataDir::OpenToRead(temp.path()));
    EXPECT_EQ(dir.format_version(), static_cast<uint32_t>(version));
    EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
    EXPECT_EQ(dir.instance(), version < 3 ? 0x0123456789abcdefu : 0xfedcba9876543210u);
    EXPECT_EQ(ReadBytes(temp.File("FORMAT")), FormatFile(version));
    EXPECT_THAT(Names(temp.path()), ElementsAre("FORMAT", "LOCK"));
    // It is held: no server may change it meanwhile.
    EXPECT_THAT(DataDir::Open(temp.path()),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another")));
  }
}

TEST(DataDir, IsNotLookedAtWhileAServerHoldsItOrWhereNoneIs) {
  const TempDir temp;
  EXPECT_THAT(DataDir::OpenToRead(temp.File("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(temp.File("none"))));
  EXPECT_THAT(DataDir::OpenToRead(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("FORMAT")));
  WriteBytes(temp.File("FORMAT"), FormatFile(3));
  EXPECT_THAT(DataDir::OpenToRead(temp.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("LOCK")));
  EXPECT_THAT(Names(temp.path()), ElementsAre("FORMAT"));
  ASSERT_OK_AND_ASSIGN(const DataDir server, DataDir::Open(temp.path()));
  EXPECT_THAT(DataDir::OpenToRead(temp.path()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another")));
  const TempDir other;
  WriteBytes(other.File("LOCK"), "");
  WriteBytes(other.File("FORMAT"), "azimuth data directory, format 5\n");
  EXPECT_THAT(DataDir::OpenToRead(other.path()), StatusIs(absl::StatusCode::kFailedPrecondition));
  WriteBytes(other.File("FORMAT"), "azimuth data directory, format 4\n");
  EXPECT_THAT(DataDir::OpenToRead(other.path()), StatusIs(absl::StatusCode::kDataLoss));
}

#ifdef AZ_FAILPOINTS_ENABLED
TEST(DataDir, ResumesAnUpgradeThatDiedBeforeOrAfterTheNewFormat) {
  const std::pair<const char*, std::string> points[] = {
      {"upgrade.before_format=error", FormatFile(2)},
      {"upgrade.after_format=error", UpgradedFormatFile(1)}};
  for (const auto& [point, left] : points) {
    const TempDir temp;
    WriteBytes(temp.File("FORMAT"), FormatFile(2));
    ASSERT_OK(ArmFailpoints(point));
    EXPECT_FALSE(DataDir::Open(temp.path()).ok()) << point;
    ASSERT_OK(ArmFailpoints(""));
    EXPECT_EQ(ReadBytes(temp.File("FORMAT")), left) << point;
    ASSERT_OK(DataDir::Open(temp.path()));
    EXPECT_EQ(ReadBytes(temp.File("FORMAT")), UpgradedFormatFile(1));
  }
}
#endif

TEST(DataDir, TakesIncarnationAndInstanceFromTheRandomNumbersThatItIsGiven) {
  const TempDir temp;
  uint64_t number = 41;
  ASSERT_OK_AND_ASSIGN(const DataDir dir,
                       DataDir::Open(temp.path(), Files::Posix(), [&] { return ++number; }));
  EXPECT_EQ(dir.incarnation(), 42u);
  EXPECT_EQ(dir.instance(), 43u);
}

}  // namespace
}  // namespace azimuth::storage
