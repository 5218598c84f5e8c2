#include "engine/disk_guard.h"

#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"

#include "gtest/gtest.h"

#include <string>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;

constexpr uint64_t kMiB = uint64_t{1} << 20;

class DiskGuardTest : public ::testing::Test {
 protected:
  DiskGuardTest() { EXPECT_OK(files().MakeDir("/data")); }
  storage::Files& files() { return disk_.process(); }
  // Fills the disk up to so many bytes that are left.
  void LeaveFree(uint64_t bytes) {
    files().Remove("/data/filler").IgnoreError();
    const auto space = files().Space("/data");
    ASSERT_OK(space.status());
    ASSERT_OK(files().Allocate("/data/filler", space->free_bytes - bytes));
  }
  SimFiles disk_{1};
};

TEST_F(DiskGuardTest, TakesItsBallastOnADiskWithRoomAndGivesItUpWhenAWriteFindsNone) {
  disk_.SetCapacity(64 * kMiB);
  DiskGuard guard("/data", "/data/BALLAST", files(),
                  {.floor_bytes = kMiB, .ballast_bytes = 2 * kMiB});
  guard.Refresh();
  EXPECT_EQ(guard.info().ballast_bytes, 2 * kMiB);
  EXPECT_OK(guard.AdmitWrite());
  LeaveFree(kMiB / 2);
  guard.NoteFull();
  guard.Refresh();
  EXPECT_EQ(guard.info().ballast_bytes, 0);
  EXPECT_GE(guard.info().free_bytes, 2 * kMiB);
  // The room that it made is not for new data.
  EXPECT_THAT(guard.AdmitWrite(), StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(files().Remove("/data/filler"));
  guard.Refresh();
  EXPECT_EQ(guard.info().ballast_bytes, 2 * kMiB);
  EXPECT_OK(guard.AdmitWrite());
}

TEST_F(DiskGuardTest, StopsBuildsBeforeWrites) {
  disk_.SetCapacity(64 * kMiB);
  DiskGuard guard("/data", "/data/BALLAST", files(), {.floor_bytes = 4 * kMiB});
  LeaveFree(5 * kMiB);
  guard.Refresh();
  EXPECT_FALSE(guard.BuildsAllowed());
  EXPECT_OK(guard.AdmitWrite());
  LeaveFree(3 * kMiB);
  guard.Refresh();
  EXPECT_THAT(guard.AdmitWrite(), StatusIs(absl::StatusCode::kResourceExhausted));
  // A little room is not enough to begin again at once.
  LeaveFree(4 * kMiB + 1);
  guard.Refresh();
  EXPECT_FALSE(guard.AdmitWrite().ok());
  LeaveFree(8 * kMiB);
  guard.Refresh();
  EXPECT_OK(guard.AdmitWrite());
  EXPECT_TRUE(guard.BuildsAllowed());
}

TEST_F(DiskGuardTest, TheFloorIsATwentiethOfASmallDisk) {
  disk_.SetCapacity(100 * kMiB);
  DiskGuard guard("/data", "/data/BALLAST", files(), {.ballast_bytes = 64 * kMiB});
  guard.Refresh();
  EXPECT_EQ(guard.info().floor_bytes, 5 * kMiB);
  EXPECT_EQ(guard.info().ballast_bytes, 100 * kMiB / 16);
}

TEST_F(DiskGuardTest, ALookThatFailsChangesNothing) {
  disk_.SetCapacity(64 * kMiB);
  DiskGuard guard("/elsewhere", "/data/BALLAST", files(), {.floor_bytes = 63 * kMiB});
  guard.Refresh();
  EXPECT_OK(guard.AdmitWrite());
  EXPECT_TRUE(guard.BuildsAllowed());
}

TEST_F(DiskGuardTest, TakesTheBlocksOfABallastThatACrashLeftWithoutThem) {
  disk_.SetCapacity(64 * kMiB);
  {
    // Of the right length, and all of it a hole.
    const auto file = files().OpenForUpdate("/data/BALLAST");
    ASSERT_OK(file.status());
    const std::byte last[] = {std::byte{0}};
    ASSERT_OK((*file)->WriteAt(4 * kMiB - 1, last));
  }
  DiskGuard guard("/data", "/data/BALLAST", files(),
                  {.floor_bytes = kMiB, .ballast_bytes = 4 * kMiB});
  EXPECT_EQ(guard.info().ballast_bytes, 0U);
  const uint64_t before = disk_.operations();
  guard.Refresh();
  EXPECT_EQ(guard.info().ballast_bytes, 4 * kMiB);
  EXPECT_GT(disk_.operations(), before);
  // Once is enough.
  const uint64_t after = disk_.operations();
  guard.Refresh();
  EXPECT_EQ(disk_.operations(), after);
}

}  // namespace
}  // namespace azimuth::engine
