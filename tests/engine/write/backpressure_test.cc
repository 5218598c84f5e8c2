#include "engine/write/backpressure.h"

#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
// So long that a test which waited for its end would fail by its time.
constexpr std::chrono::hours kForEver{1};

const CancelToken kNoCancel;

// A budget of 1 GiB, half of it RocksDB's: growing rows are slowed down from 128 MiB on and refused
// from 256 MiB on.
class BackpressureTest : public ::testing::Test {
 protected:
  BackpressureTest() : budget_(1024 * kMiB) { budget_.Add(MemoryPart::kRocks, 512 * kMiB); }

  absl::Status Admit(const CancelToken& cancel = kNoCancel) {
    return pressure_.Admit("c", rows_, 1, cancel).status();
  }

  MemoryBudget budget_;
  Backpressure pressure_{budget_, {.rows_slow = 1000, .rows_max = 3000, .delay_max = kForEver}};
  std::atomic<uint64_t> rows_{0};
};

TEST_F(BackpressureTest, PressureRisesInProportionToTheRowsThatWait) {
  EXPECT_EQ(pressure_.PressureOf(0), 0.0);
  EXPECT_EQ(pressure_.PressureOf(1000), 0.0);
  EXPECT_EQ(pressure_.PressureOf(1500), 0.25);
  EXPECT_EQ(pressure_.PressureOf(2000), 0.5);
  EXPECT_EQ(pressure_.PressureOf(3000), 1.0);
  EXPECT_EQ(pressure_.PressureOf(9000), 1.0);
}

TEST_F(BackpressureTest, PressureRisesWithTheBytesOfGrowingRowsAndTheGreaterOneCounts) {
  budget_.Add(MemoryPart::kGrowing, 127 * kMiB);
  EXPECT_FALSE(pressure_.MemoryTight());
  EXPECT_EQ(pressure_.PressureOf(0), 0.0);
  budget_.Add(MemoryPart::kGrowing, 65 * kMiB);
  EXPECT_TRUE(pressure_.MemoryTight());
  EXPECT_EQ(pressure_.PressureOf(0), 0.5);
  EXPECT_EQ(pressure_.PressureOf(1500), 0.5);
  EXPECT_EQ(pressure_.PressureOf(2500), 0.75);
  budget_.Add(MemoryPart::kGrowing, 64 * kMiB);
  EXPECT_EQ(pressure_.PressureOf(0), 1.0);
}

TEST_F(BackpressureTest, ABudgetThatIsAllRocksDbsStillTakesWrites) {
  budget_.Add(MemoryPart::kRocks, 4096 * kMiB);
  EXPECT_OK(Admit());
  budget_.Add(MemoryPart::kGrowing, 16 * kMiB);
  EXPECT_THAT(Admit(), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(BackpressureTest, BelowTheMarksAWritePassesAtOnce) {
  rows_ = 1000;
  EXPECT_OK(Admit());
  EXPECT_EQ(pressure_.waiting(), 0U);
}

TEST_F(BackpressureTest, TooManyRowsAreRefusedByTheirNumber) {
  rows_ = 3001;
  EXPECT_THAT(Admit(), StatusIs(absl::StatusCode::kResourceExhausted,
                                HasSubstr("collection 'c': 3001 rows wait for their index, at most "
                                          "3000 are allowed; retry in a few seconds")));
}

TEST_F(BackpressureTest, TooManyBytesAreRefusedByTheirNumber) {
  budget_.Add(MemoryPart::kGrowing, 300 * kMiB);
  EXPECT_THAT(Admit(), StatusIs(absl::StatusCode::kResourceExhausted,
                                AllOf(HasSubstr("314572800 bytes"),
                                      HasSubstr("at most 268435456 are allowed"))));
}

TEST_F(BackpressureTest, AWriteOnItsWayCountsAsIfItsRowsWereThere) {
  // Larger than all limits, and admitted, since nothing else waits.
  auto large = pressure_.Admit("c", rows_, static_cast<uint64_t>(5000 * kMiB), kNoCancel);
  ASSERT_OK(large);
  std::optional<Backpressure::Admission> on_its_way(*std::move(large));
  EXPECT_THAT(Admit(), StatusIs(absl::StatusCode::kResourceExhausted));
  on_its_way.reset();
  EXPECT_OK(Admit());
  EXPECT_EQ(pressure_.PressureOf(0), 0.0);
}

TEST_F(BackpressureTest, AWriteWaitsBetweenTheMarksUntilThePressureFalls) {
  rows_ = 2000;
  std::atomic<bool> relieved{false};
  std::atomic<bool> done{false};
  absl::Status status;
  bool relieved_first = false;
  std::thread writer([&] {
    status = Admit();
    relieved_first = relieved;
    done = true;
  });
  while (pressure_.waiting() == 0 && !done) std::this_thread::yield();
  relieved = true;
  rows_ = 900;
  pressure_.Relieve();
  writer.join();
  EXPECT_OK(status);
  EXPECT_TRUE(relieved_first);
  EXPECT_EQ(pressure_.waiting(), 0U);
}

TEST_F(BackpressureTest, TheDelayEndsByItselfAndTakesItsPart) {
  Backpressure pressure(
      budget_, {.rows_slow = 1000, .rows_max = 3000, .delay_max = std::chrono::milliseconds(20)});
  rows_ = 2000;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_OK(pressure.Admit("c", rows_, 1, kNoCancel).status());
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(10));
}

TEST_F(BackpressureTest, TheDelayNeverGoesPastTheDeadline) {
  rows_ = 2000;
  const CancelToken soon(std::chrono::steady_clock::now() + std::chrono::milliseconds(1), {});
  EXPECT_THAT(Admit(soon),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("outcome: not_applied")));
  EXPECT_EQ(pressure_.waiting(), 0U);
}

TEST_F(BackpressureTest, ACallerThatHasGoneIsNotWaitedFor) {
  rows_ = 2000;
  std::atomic<int> looks{0};
  const CancelToken gone(CancelToken::TimePoint::max(), [&] { return ++looks > 2; });
  EXPECT_THAT(Admit(gone),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("outcome: not_applied")));
}

TEST_F(BackpressureTest, RowsThatComeDuringTheDelayCanStillLeadToARefusal) {
  Backpressure pressure(
      budget_, {.rows_slow = 1000, .rows_max = 3000, .delay_max = std::chrono::milliseconds(200)});
  rows_ = 2000;
  // The first look comes from inside the delay.
  const CancelToken others_write(CancelToken::TimePoint::max(), [&] {
    rows_ = 5000;
    return false;
  });
  EXPECT_THAT(pressure.Admit("c", rows_, 1, others_write),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("5000 rows")));
}

TEST_F(BackpressureTest, WithoutADelayNobodyWaitsButLimitsHold) {
  Backpressure pressure(
      budget_, {.rows_slow = 1000, .rows_max = 3000, .delay_max = std::chrono::milliseconds(0)});
  rows_ = 2999;
  EXPECT_OK(pressure.Admit("c", rows_, 1, kNoCancel).status());
  rows_ = 3000;
  EXPECT_THAT(pressure.Admit("c", rows_, 1, kNoCancel),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace azimuth::engine
