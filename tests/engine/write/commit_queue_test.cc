#include "engine/write/commit_queue.h"

#include "storage/store.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;

class CommitQueueTest : public ::testing::Test {
 protected:
  CommitQueueTest() {
    auto opened = storage::Store::Open(dir_.File("rocks"), storage::StoreOptions{});
    EXPECT_OK(opened);
    store_ = *std::move(opened);
    views_ = std::make_unique<ViewRegistry>(Seq{0}, store_->TakeSnapshot());
    queue_ = std::make_unique<CommitQueue>(*store_, *views_, durability_, Clock::System(), Seq{0},
                                           /*bulk_bytes=*/uint64_t{2} << 20);
  }

  TempDir dir_;
  std::unique_ptr<storage::Store> store_;
  DiskGuard disk_{dir_.path(), dir_.path() + "/BALLAST", storage::Files::Posix(), {}};
  Durability durability_{disk_};
  std::unique_ptr<ViewRegistry> views_;
  std::unique_ptr<CommitQueue> queue_;
};

// Writes one key, or fails in its resolve step.
class KeyCommit final : public Commit {
 public:
  explicit KeyCommit(int64_t key, bool fails = false) : key_(key), fails_(fails) {}
  absl::StatusOr<bool> Resolve(ResolveContext& context) override {
    if (fails_) return absl::AlreadyExistsError("no");
    storage::KeyEntry entry;
    entry.row = RowId{static_cast<uint64_t>(key_)};
    entry.insert_seq = context.seq;
    context.batch.PutKey(RowStoreId{1}, Key{key_}, entry);
    return true;
  }
  void Apply(Seq seq) override { applied_ = seq; }
  Seq applied() const { return applied_; }

 private:
  const int64_t key_;
  const bool fails_;
  Seq applied_{};
};

TEST_F(CommitQueueTest, CommitIsInTheStoreAndPublishedWhenRunReturns) {
  KeyCommit commit(5);
  ASSERT_OK_AND_ASSIGN(const Seq seq, queue_->Run(commit, CancelToken()));
  EXPECT_EQ(seq, Seq{1});
  EXPECT_EQ(commit.applied(), seq);
  EXPECT_EQ(views_->published(), seq);
  const std::vector<Key> keys = {Key{int64_t{5}}};
  ASSERT_OK_AND_ASSIGN(const auto entries, store_->LookUpKeys(RowStoreId{1}, keys));
  ASSERT_TRUE(entries[0].has_value());
  EXPECT_EQ(entries[0]->insert_seq, seq);
  ASSERT_OK_AND_ASSIGN(const Seq applied, store_->GetAppliedSeq());
  EXPECT_EQ(applied, seq);
}

TEST_F(CommitQueueTest, AFailingCommitTakesNoNumber) {
  KeyCommit bad(1, /*fails=*/true);
  EXPECT_THAT(queue_->Run(bad, CancelToken()), StatusIs(absl::StatusCode::kAlreadyExists));
  KeyCommit good(2);
  ASSERT_OK_AND_ASSIGN(const Seq seq, queue_->Run(good, CancelToken()));
  EXPECT_EQ(seq, Seq{1});
}

TEST_F(CommitQueueTest, APastDeadlineIsRefusedBeforeAnyWork) {
  KeyCommit commit(1);
  const CancelToken past(std::chrono::steady_clock::now() - std::chrono::seconds(1), nullptr);
  EXPECT_THAT(queue_->Run(commit, past), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(views_->published(), Seq{0});
}

// Blocks the leader in its resolve step until it is let go.
class GateCommit final : public Commit {
 public:
  absl::StatusOr<bool> Resolve(ResolveContext&) override {
    entered.store(true);
    while (!open.load()) std::this_thread::yield();
    return false;
  }
  void Apply(Seq) override {}
  std::atomic<bool> entered{false};
  std::atomic<bool> open{false};
};

TEST_F(CommitQueueTest, AWaiterWithdrawsAtItsDeadlineAndNothingOfItIsWritten) {
  GateCommit gate;
  std::thread leader([&] { EXPECT_OK(queue_->Run(gate, CancelToken())); });
  while (!gate.entered.load()) std::this_thread::yield();
  KeyCommit late(9);
  const CancelToken soon(std::chrono::steady_clock::now() + std::chrono::milliseconds(20), nullptr);
  EXPECT_THAT(queue_->Run(late, soon),
              StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::HasSubstr("not_applied")));
  gate.open.store(true);
  leader.join();
  EXPECT_EQ(late.applied(), Seq{0});
  EXPECT_EQ(views_->published(), Seq{0});
}

TEST_F(CommitQueueTest, WaitersThatLineUpShareAGroupAndAFailingOneDropsOutAlone) {
  GateCommit gate;
  std::thread leader([&] { EXPECT_OK(queue_->Run(gate, CancelToken())); });
  while (!gate.entered.load()) std::this_thread::yield();
  constexpr int kWaiters = 16;
  std::atomic<int> ok{0};
  std::atomic<int> refused{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < kWaiters; ++i) {
    waiters.emplace_back([&, i] {
      KeyCommit commit(i, /*fails=*/i % 4 == 0);
      const auto seq = queue_->Run(commit, CancelToken());
      if (seq.ok()) {
        EXPECT_EQ(commit.applied(), *seq);
        ok.fetch_add(1);
      } else {
        refused.fetch_add(1);
      }
    });
  }
  gate.open.store(true);
  leader.join();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(ok.load(), 12);
  EXPECT_EQ(refused.load(), 4);
  EXPECT_EQ(views_->published(), Seq{12});
}

}  // namespace
}  // namespace azimuth::engine
