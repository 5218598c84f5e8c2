#include "engine/memory_budget.h"

#include "tests/engine/manual_database.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <unistd.h>
#include <utility>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using Reservation = MemoryBudget::Reservation;

const CancelToken kNoCancel;

// A build on a thread of its own, that counts how often it looked whether it must stop.
class WaitingBuild final {
 public:
  WaitingBuild(MemoryBudget& budget, uint64_t bytes)
      : thread_([this, &budget, bytes] {
          const CancelToken cancel(CancelToken::TimePoint::max(), [this] {
            ++looks_;
            return cancelled_.load();
          });
          absl::StatusOr<Reservation> reserved = budget.ReserveForBuild(bytes, cancel);
          status_ = reserved.status();
          done_ = true;
        }) {}
  ~WaitingBuild() { thread_.join(); }

  // Until it stands in the loop (the first look comes before it), or is through.
  void WaitUntilItWaits() const {
    while (looks_ < 2 && !done_) std::this_thread::yield();
  }
  void Cancel() { cancelled_ = true; }
  bool done() const { return done_; }
  absl::Status Result() const {
    while (!done_) std::this_thread::yield();
    return status_;
  }

 private:
  std::atomic<int> looks_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> done_{false};
  absl::Status status_;
  std::thread thread_;
};

TEST(CountedBytes, StandInTheBudgetAsLongAsTheirOwner) {
  MemoryBudget budget(100);
  budget.Add(MemoryPart::kGrowing, 30);
  {
    CountedBytes counted(budget, MemoryPart::kScratch);
    EXPECT_EQ(counted.Free(), 70U);
    counted.Set(60);
    counted.Set(50);
    EXPECT_EQ(budget.used(MemoryPart::kScratch), 50U);
    EXPECT_EQ(counted.Free(), 70U);  // Its own are no other's.
    budget.Add(MemoryPart::kGrowing, 90);
    EXPECT_EQ(counted.Free(), 0U);
  }
  EXPECT_EQ(budget.used(MemoryPart::kScratch), 0U);
}

CancelToken Soon() {
  return {std::chrono::steady_clock::now() + std::chrono::milliseconds(1), {}};
}

TEST(MemoryBudget, CountsEachPartAndAllTogether) {
  MemoryBudget budget(1000);
  budget.Add(MemoryPart::kRocks, 300);
  budget.Add(MemoryPart::kGrowing, 50);
  budget.Add(MemoryPart::kScratch, 7);
  budget.Add(MemoryPart::kGrowing, -20);
  EXPECT_EQ(budget.total(), 1000U);
  EXPECT_EQ(budget.used(MemoryPart::kRocks), 300U);
  EXPECT_EQ(budget.used(MemoryPart::kGrowing), 30U);
  EXPECT_EQ(budget.used(MemoryPart::kBuild), 0U);
  EXPECT_EQ(budget.used(), 337U);
}

TEST(MemoryBudget, ABuildRunsWhenNoOtherDoesWhateverIsUsed) {
  MemoryBudget budget(1000);
  budget.Add(MemoryPart::kGrowing, 5000);
  ASSERT_OK_AND_ASSIGN(const Reservation reserved, budget.ReserveForBuild(4000, kNoCancel));
  EXPECT_EQ(reserved.bytes(), 4000U);
  EXPECT_EQ(budget.used(MemoryPart::kBuild), 4000U);
}

TEST(MemoryBudget, BuildsThatFitRunAtTheSameTime) {
  MemoryBudget budget(1000);
  budget.Add(MemoryPart::kRocks, 200);
  ASSERT_OK_AND_ASSIGN(const Reservation first, budget.ReserveForBuild(400, kNoCancel));
  ASSERT_OK_AND_ASSIGN(const Reservation second, budget.ReserveForBuild(400, kNoCancel));
  EXPECT_EQ(budget.used(MemoryPart::kBuild), 800U);
  EXPECT_THAT(budget.ReserveForBuild(1, Soon()), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(MemoryBudget, AReservationGivesBackOnceWhoeverHoldsItLast) {
  MemoryBudget budget(1000);
  {
    ASSERT_OK_AND_ASSIGN(Reservation first, budget.ReserveForBuild(400, kNoCancel));
    const Reservation second = std::move(first);
    EXPECT_EQ(second.bytes(), 400U);
    EXPECT_EQ(budget.used(MemoryPart::kBuild), 400U);
  }
  EXPECT_EQ(budget.used(MemoryPart::kBuild), 0U);
}

TEST(MemoryBudget, ABuildThatDoesNotFitWaitsUntilAnotherEnds) {
  MemoryBudget budget(1000);
  ASSERT_OK_AND_ASSIGN(Reservation first, budget.ReserveForBuild(800, kNoCancel));
  std::optional<Reservation> running(std::move(first));
  const WaitingBuild second(budget, 800);
  second.WaitUntilItWaits();
  EXPECT_FALSE(second.done());
  running.reset();
  EXPECT_OK(second.Result());
}

TEST(MemoryBudget, ACancelledBuildLeavesTheLineAndTakesNothing) {
  MemoryBudget budget(1000);
  ASSERT_OK_AND_ASSIGN(const Reservation first, budget.ReserveForBuild(800, kNoCancel));
  WaitingBuild second(budget, 800);
  second.WaitUntilItWaits();
  second.Cancel();
  EXPECT_THAT(second.Result(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(budget.used(MemoryPart::kBuild), 800U);
  // The line is empty again.
  EXPECT_OK(budget.ReserveForBuild(100, kNoCancel));
}

TEST(MemoryBudget, ASmallBuildDoesNotOvertakeALargeOneThatWaits) {
  MemoryBudget budget(1000);
  ASSERT_OK_AND_ASSIGN(const Reservation first, budget.ReserveForBuild(600, kNoCancel));
  WaitingBuild large(budget, 800);
  large.WaitUntilItWaits();
  EXPECT_THAT(budget.ReserveForBuild(10, Soon()), StatusIs(absl::StatusCode::kDeadlineExceeded));
  large.Cancel();
  EXPECT_THAT(large.Result(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(budget.ReserveForBuild(10, kNoCancel));
}

TEST(MemoryBudget, TheDefaultIsAtMostThreeFifthsOfTheMachine) {
  const auto physical =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  EXPECT_GT(MemoryBudget::DefaultTotal(), 0U);
  EXPECT_LE(MemoryBudget::DefaultTotal(), physical / 5 * 3);
}

TEST(MemoryBudget, ABuildIsEstimatedByRowsAndByTheLargestVectorField) {
  Schema schema;
  schema.vectors.push_back({.name = "small", .dim = 16, .metric = Metric::kL2});
  const uint64_t small = EstimateBuildBytes(schema, 1000);
  EXPECT_GE(small, 1000U * (4 * 16 + 8 * schema.vectors[0].index.m + 60));
  EXPECT_EQ(EstimateBuildBytes(schema, 2000), 2 * small);
  schema.vectors.push_back({.name = "large", .dim = 1024, .metric = Metric::kL2});
  const uint64_t large = EstimateBuildBytes(schema, 1000);
  EXPECT_EQ(large - small, 1000U * 4 * (1024 - 16));
  schema.vectors[1].index.kind = IndexKind::kFlat;
  EXPECT_EQ(EstimateBuildBytes(schema, 1000), small);
}

class MemoryBudgetOfADatabase : public testing::ManualDatabaseTest {
 protected:
  uint64_t RocksBytes() const { return db_->GetInfo().memory.rocks_bytes; }
};

// Memtables and pinned blocks: RocksDB refuses none.
TEST_F(MemoryBudgetOfADatabase, HasWhatRocksTakesPastItsReservation) {
  constexpr uint64_t kBuffer = uint64_t{64} << 10;
  options_.block_cache_bytes = 0;
  options_.write_buffer_bytes = kBuffer;
  Reopen();
  EXPECT_EQ(RocksBytes(), 4 * kBuffer);
  FillCollection(500);
  Reopen();  // Now there are tables.
  workers_->Tick();
  const uint64_t used = RocksBytes();
  EXPECT_GT(used, 4 * kBuffer);
  workers_->Tick();
  EXPECT_LT(RocksBytes(), 2 * used);  // Counted once.
}

}  // namespace
}  // namespace azimuth::engine
