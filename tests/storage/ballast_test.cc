#include "storage/ballast.h"

#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;

constexpr char kPath[] = "/BALLAST";
constexpr uint64_t kCapacity = 100'000;

uint64_t FreeBytes(Files& files) {
  const absl::StatusOr<DiskSpace> space = files.Space("/");
  EXPECT_OK(space);
  return space.ok() ? space->free_bytes : 0;
}

TEST(Ballast, TakesBytesFromTheDiskAndGivesThemUp) {
  SimFiles disk(1);
  disk.SetCapacity(kCapacity);
  Files& files = disk.process();
  Ballast ballast(kPath, files);
  EXPECT_EQ(ballast.held_bytes(), 0u);
  for (const uint64_t bytes : {uint64_t{40'000}, uint64_t{70'000}, uint64_t{10'000}}) {
    ASSERT_OK(ballast.Hold(bytes));
    EXPECT_EQ(ballast.held_bytes(), bytes);
    EXPECT_EQ(FreeBytes(files), kCapacity - bytes);
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(ballast.Release());
    EXPECT_EQ(ballast.held_bytes(), 0u);
    EXPECT_EQ(FreeBytes(files), kCapacity);
    EXPECT_THAT(files.Size(kPath), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST(Ballast, AsksTheDiskOnceWhileItIsHeld) {
  SimFiles disk(1);
  Ballast ballast(kPath, disk.process());
  ASSERT_OK(ballast.Hold(1000));
  const uint64_t before = disk.operations();
  ASSERT_OK(ballast.Hold(1000));
  EXPECT_EQ(disk.operations(), before);
}

TEST(Ballast, OfZeroBytesIsNoFileNotEvenAnOldOne) {
  SimFiles disk(1);
  Files& files = disk.process();
  ASSERT_OK(files.Allocate(kPath, 1000));
  Ballast ballast(kPath, files);
  ASSERT_OK(ballast.Hold(0));
  EXPECT_THAT(files.Size(kPath), StatusIs(absl::StatusCode::kNotFound));
}

TEST(Ballast, LeavesNothingOnADiskThatHasNoRoomForIt) {
  SimFiles disk(1);
  disk.SetCapacity(kCapacity);
  Files& files = disk.process();
  Ballast ballast(kPath, files);
  for (const uint64_t before : {uint64_t{0}, uint64_t{50'000}}) {
    ASSERT_OK(ballast.Hold(before));
    EXPECT_THAT(ballast.Hold(kCapacity + 1), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_EQ(ballast.held_bytes(), 0u);
    EXPECT_EQ(FreeBytes(files), kCapacity);
  }
}

TEST(Ballast, FindsWhatAnEarlierProcessLeftAndCanGiveItUpOnAFullDisk) {
  SimFiles disk(1);
  disk.SetCapacity(kCapacity);
  {
    Ballast first(kPath, disk.process());
    ASSERT_OK(first.Find());
    EXPECT_EQ(first.held_bytes(), 0u);
    ASSERT_OK(first.Hold(60'000));
  }
  disk.KillProcess();
  disk.SetFree(0);
  Files& files = disk.process();
  Ballast ballast(kPath, files);
  ASSERT_OK(ballast.Find());
  EXPECT_EQ(ballast.held_bytes(), 60'000u);
  ASSERT_OK(ballast.Release());
  EXPECT_EQ(FreeBytes(files), 60'000u);
}

TEST(Ballast, TakesAgainWhatIsOnlyFoundForItMayHaveLostItsBlocks) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimFiles disk(seed);
    disk.SetCapacity(kCapacity);
    ASSERT_OK(Ballast(kPath, disk.process()).Hold(60'000));
    seed % 2 == 0 ? disk.Crash(seed) : disk.KillProcess();
    Files& files = disk.process();
    Ballast ballast(kPath, files);
    ASSERT_OK(ballast.Find());
    if (seed % 2 == 1) {
      EXPECT_EQ(ballast.held_bytes(), 60'000u);
    }
    const uint64_t before = disk.operations();
    ASSERT_OK(ballast.Hold(60'000));
    EXPECT_GT(disk.operations(), before) << seed;
    EXPECT_EQ(FreeBytes(files), kCapacity - 60'000) << seed;
    EXPECT_EQ(files.Size(kPath).value_or(0), 60'000u) << seed;
  }
}

TEST(Ballast, HandsUpTheErrorsOfTheDisk) {
  SimFiles disk(1);
  Ballast ballast(kPath, disk.process());
  ASSERT_OK(ballast.Hold(1000));
  disk.FailAfter(1);
  EXPECT_THAT(ballast.Release(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(ballast.held_bytes(), 1000u);
  disk.KillProcess();
  EXPECT_THAT(ballast.Find(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace azimuth::storage
