#include "storage/watermark.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using Mark = Watermark::Mark;

constexpr uint64_t kInstance = 0x0123456789abcdef;

// What a new process finds. An error of the disk counts as a failed test.
Watermark::Found Find(const std::string& path, Files& files = Files::Posix(),
                      uint64_t instance = kInstance) {
  const absl::StatusOr<Watermark::Found> found = Watermark::Read(path, instance, files);
  EXPECT_OK(found);
  return found.value_or(Watermark::Found{});
}

std::unique_ptr<Watermark> Open(const std::string& path, Files& files = Files::Posix()) {
  auto watermark = Watermark::Open(path, kInstance, files);
  EXPECT_OK(watermark);
  return watermark.ok() ? *std::move(watermark) : nullptr;
}

TEST(Watermark, IsMadeWithMarksOfZero) {
  const TempDir dir;
  EXPECT_TRUE(Find(dir.File("W")).missing);
  EXPECT_FALSE(std::filesystem::exists(dir.File("W")));
  {
    const auto watermark = Open(dir.File("W"));
    EXPECT_TRUE(watermark->found().missing);
    EXPECT_FALSE(watermark->found().damaged);
    EXPECT_EQ(watermark->found().mark, std::nullopt);
    EXPECT_EQ(watermark->written(), kSeqZero);
  }
  const auto found = Find(dir.File("W"));
  EXPECT_FALSE(found.missing);
  EXPECT_FALSE(found.damaged);
  EXPECT_EQ(found.mark, Mark{});
}

TEST(Watermark, HasTheBytesOfTheTable) {
  const TempDir dir;
  const auto watermark = Open(dir.File("W"));
  ASSERT_OK(watermark->Write(Seq{5}, /*clean=*/false));
  ASSERT_OK(watermark->Write(Seq{0x1122334455667788}, /*clean=*/true));
  const auto slot = [](uint64_t seq, uint8_t clean, uint32_t counter) {
    std::string bytes = "AZMK";
    PutLittle(bytes, uint8_t{1});
    PutLittle(bytes, clean);
    PutLittle(bytes, uint16_t{0});
    PutLittle(bytes, seq);
    PutLittle(bytes, kInstance);
    PutLittle(bytes, counter);
    PutLittle(bytes, Crc32c(std::string_view(bytes)));
    return bytes;
  };
  EXPECT_EQ(ReadBytes(dir.File("W")), slot(5, 0, 2) + slot(0x1122334455667788, 1, 3));
}

TEST(Watermark, IsFoundAsItWasLastWritten) {
  const TempDir dir;
  const std::vector<Mark> marks = {{Seq{1}, false}, {Seq{7}, false}, {Seq{7}, true},
                                   {Seq{7}, false}, {Seq{8}, true},  {Seq{1000}, false}};
  for (const Mark& mark : marks) {
    const auto watermark = Open(dir.File("W"));
    ASSERT_OK(watermark->Write(mark.seq, mark.clean));
    EXPECT_EQ(watermark->written(), mark.seq);
    EXPECT_EQ(Find(dir.File("W")).mark, mark);
    EXPECT_FALSE(Find(dir.File("W")).damaged);
  }
  EXPECT_EQ(ReadBytes(dir.File("W")).size(), 64u);
}

TEST(Watermark, NeverGoesBackAndDoesNotWriteTheSameTwice) {
  const TempDir dir;
  const auto watermark = Open(dir.File("W"));
  ASSERT_OK(watermark->Write(Seq{10}, /*clean=*/true));
  const std::string bytes = ReadBytes(dir.File("W"));
  ASSERT_OK(watermark->Write(Seq{9}, /*clean=*/false));
  ASSERT_OK(watermark->Write(Seq{10}, /*clean=*/true));
  EXPECT_EQ(ReadBytes(dir.File("W")), bytes);
  EXPECT_EQ(watermark->written(), Seq{10});
}

TEST(Watermark, BeginsAgainInBothSlotsWhenItIsReset) {
  const TempDir dir;
  const auto watermark = Open(dir.File("W"));
  ASSERT_OK(watermark->Write(Seq{50}, /*clean=*/false));
  ASSERT_OK(watermark->Write(Seq{60}, /*clean=*/true));
  ASSERT_OK(watermark->Reset(Seq{20}));
  EXPECT_EQ(watermark->written(), Seq{20});
  const std::string bytes = ReadBytes(dir.File("W"));
  for (const size_t damaged : {size_t{10}, size_t{42}}) {
    std::string copy = bytes;
    copy[damaged] = static_cast<char>(copy[damaged] ^ 1);
    WriteBytes(dir.File("W"), copy);
    EXPECT_TRUE(Find(dir.File("W")).damaged);
    EXPECT_EQ(Find(dir.File("W")).mark, (Mark{Seq{20}, false}));
  }
  WriteBytes(dir.File("W"), bytes);
  ASSERT_OK(watermark->Write(Seq{21}, /*clean=*/false));
  EXPECT_EQ(Find(dir.File("W")).mark, (Mark{Seq{21}, false}));
}

TEST(Watermark, OfAnotherDirectoryIsDamaged) {
  const TempDir dir;
  ASSERT_OK(Open(dir.File("W"))->Write(Seq{10}, /*clean=*/true));
  const auto found = Find(dir.File("W"), Files::Posix(), kInstance + 1);
  EXPECT_TRUE(found.damaged);
  EXPECT_EQ(found.mark, std::nullopt);
}

// Makes the file anew. In memory: there are thousands of them.
void Put(Files& files, std::string_view bytes) {
  static_cast<void>(files.Remove("/W"));
  const auto file = files.Create("/W");
  ASSERT_OK(file);
  ASSERT_OK((*file)->Append(std::as_bytes(std::span(bytes.data(), bytes.size()))));
}

// Marks 7 in the older slot and 9 (clean) in the newer one.
std::string TwoMarks(Files& files) {
  const auto watermark = Open("/W", files);
  EXPECT_OK(watermark->Write(Seq{7}, /*clean=*/false));
  EXPECT_OK(watermark->Write(Seq{9}, /*clean=*/true));
  return files.ReadSmall("/W").value_or("");
}

TEST(Watermark, UsesTheOtherSlotWhicheverBitsAreFlipped) {
  SimFiles disk(1);
  Files& files = disk.process();
  const std::string bytes = TwoMarks(files);
  ASSERT_EQ(bytes.size(), 64u);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    Put(files, damaged);
    const auto found = Find("/W", files);
    EXPECT_TRUE(found.damaged) << bit;
    EXPECT_EQ(found.mark, bit < 256 ? (Mark{Seq{9}, true}) : (Mark{Seq{7}, false})) << bit;
  }
}

TEST(Watermark, FindsNoMarkThatWasNotWrittenInAnyTruncatedOrGarbledFile) {
  SimFiles disk(1);
  Files& files = disk.process();
  const std::string bytes = TwoMarks(files);
  for (size_t size = 0; size < bytes.size(); ++size) {
    Put(files, bytes.substr(0, size));
    const auto found = Find("/W", files);
    EXPECT_TRUE(found.damaged) << size;
    EXPECT_FALSE(found.missing);
    EXPECT_EQ(found.mark, size < 32 ? std::nullopt : std::optional(Mark{Seq{7}, false})) << size;
  }
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string garbled = bytes;
    for (uint64_t count = 1 + random() % 8; count > 0; --count) {
      garbled[random() % garbled.size()] = static_cast<char>(random());
    }
    Put(files, garbled);
    const auto found = Find("/W", files);
    EXPECT_EQ(found.damaged, garbled != bytes);
    EXPECT_TRUE(!found.mark.has_value() || *found.mark == (Mark{Seq{7}, false}) ||
                *found.mark == (Mark{Seq{9}, true}));
  }
  // One slot in the place of the other, or in both.
  for (const std::string& swapped :
       {bytes.substr(32) + bytes.substr(0, 32), bytes.substr(32) + bytes.substr(32)}) {
    Put(files, swapped);
    EXPECT_TRUE(Find("/W", files).damaged);
  }
  Put(files, std::string(64, '\0'));
  EXPECT_TRUE(Find("/W", files).damaged);
  EXPECT_EQ(Find("/W", files).mark, std::nullopt);
}

TEST(Watermark, IsRightAgainAfterOneWriteWhateverWasDamaged) {
  SimFiles disk(1);
  Files& files = disk.process();
  const std::string bytes = TwoMarks(files);
  std::vector<std::string> damaged = {"", bytes.substr(0, 32), bytes.substr(0, 45),
                                      std::string(64, 'x'), std::string(200, 'y')};
  for (const size_t at : {size_t{0}, size_t{32}}) {
    damaged.push_back(bytes);
    damaged.back()[at] = 'x';
  }
  for (const std::string& content : damaged) {
    Put(files, content);
    const auto watermark = Open("/W", files);
    EXPECT_TRUE(watermark->found().damaged);
    EXPECT_EQ(files.ReadSmall("/W").value_or(""), content) << "opening changed it";
    const Seq seq = watermark->found().mark.value_or(Mark{}).seq;
    EXPECT_EQ(watermark->written(), seq);
    // Also when it says nothing new.
    ASSERT_OK(watermark->Write(seq, /*clean=*/false));
    EXPECT_EQ(Find("/W", files).mark, (Mark{seq, false}));
    EXPECT_FALSE(Find("/W", files).damaged);
  }
}

TEST(Watermark, CanBeOpenedAfterAFailureAtAnyOperationOfItsMaking) {
  int failures = 0;
  for (uint64_t n = 1;; ++n) {
    SimFiles disk(n);
    disk.FailAfter(n);
    static_cast<void>(Watermark::Open("/W", kInstance, disk.process()).ok());
    const bool failed = disk.failed();
    disk.Crash(n);
    const auto watermark = Open("/W", disk.process());
    ASSERT_NE(watermark, nullptr);
    EXPECT_FALSE(watermark->found().damaged) << n;
    ASSERT_OK(watermark->Write(Seq{1}, /*clean=*/false));
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 3);
}

TEST(Watermark, HasAfterAPowerFailureTheLastMarkOrThatWhichWasBeingWritten) {
  int torn = 0;
  int newer = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    SimFiles disk(seed);
    std::mt19937_64 random(seed);
    auto watermark = Open("/W", disk.process());
    Mark last;
    Mark attempted;
    disk.FailAfter(1 + random() % 20);
    while (!disk.failed()) {
      attempted = {.seq = Seq{Raw(last.seq) + random() % 3}, .clean = random() % 2 == 0};
      const bool reset = random() % 5 == 0;
      if (reset) attempted = {.seq = Seq{random() % 100}};
      const absl::Status status = reset ? watermark->Reset(attempted.seq)
                                        : watermark->Write(attempted.seq, attempted.clean);
      EXPECT_EQ(status.ok(), !disk.failed());
      if (status.ok()) last = attempted;
    }
    EXPECT_EQ(watermark->written() == last.seq || watermark->written() == attempted.seq, true);
    disk.Crash(random());
    const auto found = Find("/W", disk.process());
    ASSERT_TRUE(found.mark.has_value());
    EXPECT_TRUE(*found.mark == last || *found.mark == attempted) << Raw(found.mark->seq);
    torn += found.damaged ? 1 : 0;
    newer += *found.mark == last ? 0 : 1;
  }
  EXPECT_GT(torn, 20);
  EXPECT_GT(newer, 20);
}

TEST(Watermark, WritesNothingAfterAFailedWrite) {
  SimFiles disk(1);
  Files& files = disk.process();
  const auto watermark = Open("/W", files);
  ASSERT_OK(watermark->Write(Seq{5}, /*clean=*/false));
  disk.FailAfter(2);  // The sync.
  const absl::Status failed = watermark->Write(Seq{6}, /*clean=*/false);
  EXPECT_THAT(failed, StatusIs(absl::StatusCode::kUnavailable));
  const uint64_t operations = disk.operations();
  EXPECT_EQ(watermark->Write(Seq{7}, /*clean=*/false), failed);
  EXPECT_EQ(watermark->Reset(Seq{1}), failed);
  EXPECT_EQ(disk.operations(), operations);
  EXPECT_EQ(watermark->written(), Seq{5});
}

TEST(Watermark, GoesOnWhenAFullDiskHasRoomAgain) {
  SimFiles disk(1);
  Files& files = disk.process();
  const auto watermark = Open("/W", files);
  ASSERT_OK(watermark->Write(Seq{5}, /*clean=*/false));
  // Somebody cut the file, and there is no room for what is missing of it.
  { ASSERT_OK(files.Allocate("/W", 40)); }
  disk.SetFree(0);
  EXPECT_THAT(watermark->Write(Seq{6}, /*clean=*/false),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(watermark->written(), Seq{5});
  EXPECT_EQ(Find("/W", files).mark, (Mark{Seq{5}, false}));
  disk.SetFree(1000);
  ASSERT_OK(watermark->Write(Seq{6}, /*clean=*/false));
  EXPECT_EQ(Find("/W", files).mark, (Mark{Seq{6}, false}));
  EXPECT_FALSE(Find("/W", files).damaged);
}

}  // namespace
}  // namespace azimuth::storage
