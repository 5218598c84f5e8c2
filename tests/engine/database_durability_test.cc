// What is promised of a write once it is acknowledged, on a disk that loses power, loses its log,
// fails, or is full.

#include "engine/database.h"
#include "storage/data_dir.h"
#include "tests/engine/manual_workers.h"
#include "tests/engine/open_database.h"
#include "tests/support/fake_clock.h"
#include "tests/support/sim_files.h"

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FakeClock;
using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;
using testing::MakeRecord;
using testing::ManualWorkers;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;
constexpr uint32_t kDim = 4;

class Durable : public ::testing::Test {
 protected:
  Durable() {
    options_ = SmallOptions("/data");
    options_.clock = &clock_;
    testing::UseManualWorkers(options_, workers_);
    Open();
    EXPECT_OK(db_->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  }

  void Open() {
    options_.files = &disk_.process();
    db_ = OpenOrDie(options_);
  }
  void Kill() {
    disk_.KillProcess();
    db_.reset();
    Open();
  }
  void LosePower(uint64_t seed) {
    disk_.Crash(seed);
    db_.reset();
    Open();
  }
  // A round of maintenance, `millis` later.
  void Tick(int64_t millis) {
    clock_.AdvanceMillis(millis);
    workers_->Tick();
  }

  absl::StatusOr<WriteResult> Put(int64_t key, bool relaxed = false) {
    std::vector<RecordInput> batch;
    batch.push_back(MakeRecord(key, key, vectors_.emplace_back(kDim, static_cast<float>(key))));
    return db_->Upsert("c", std::move(batch), kNoCancel, {.relaxed = relaxed});
  }
  // Keys from `first` on, with enough vectors for row tables.
  absl::StatusOr<WriteResult> PutBulk(int64_t first) {
    std::vector<RecordInput> batch;
    for (int64_t key = first; key < first + 40; ++key) {
      batch.push_back(MakeRecord(key, key, vectors_.emplace_back(kDim, static_cast<float>(key))));
    }
    return db_->Upsert("c", std::move(batch), kNoCancel);
  }
  int64_t Count() {
    const auto count = db_->Count("c", {}, kNoCancel);
    EXPECT_OK(count.status());
    return count.ok() ? static_cast<int64_t>(count->count) : -1;
  }
  // Removes the files of RocksDB's log, as somebody might who takes them for logs.
  void RemoveLogs() {
    storage::Files& files = disk_.process();
    const auto names = files.List("/data/rocks");
    ASSERT_OK(names.status());
    for (const std::string& name : *names) {
      if (!name.ends_with(".log")) continue;
      ASSERT_OK(files.Remove("/data/rocks/" + name));
    }
  }

  SimFiles disk_{1};
  FakeClock clock_;
  DatabaseOptions options_;
  ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
  std::deque<std::vector<float>> vectors_;  // What the inputs look at.
};

TEST_F(Durable, ARelaxedWriteSaysSoAndIsSyncedWithinASecond) {
  const auto synced = Put(1);
  ASSERT_OK(synced.status());
  EXPECT_TRUE(synced->synced);
  const auto relaxed = Put(2, /*relaxed=*/true);
  ASSERT_OK(relaxed.status());
  EXPECT_FALSE(relaxed->synced);
  EXPECT_LT(db_->GetInfo().store.synced, relaxed->as_of);
  for (int i = 0; i < 9; ++i) Tick(100);
  EXPECT_EQ(db_->GetInfo().store.synced, relaxed->as_of);
  LosePower(7);
  EXPECT_EQ(Count(), 2);
}

TEST_F(Durable, RelaxedWritesSurviveTheDeathOfTheProcess) {
  for (int64_t key = 0; key < 20; ++key) ASSERT_OK(Put(key, /*relaxed=*/true).status());
  Kill();
  EXPECT_EQ(Count(), 20);
}

TEST_F(Durable, APowerFailureLeavesAPrefixOfTheRelaxedWritesAndAllSyncedOnes) {
  int lost = 0;
  int64_t key = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const int64_t before = Count();
    for (int i = 0; i < 3; ++i) ASSERT_OK(Put(key++).status());
    const int64_t synced = key;
    for (int i = 0; i < 6; ++i) ASSERT_OK(Put(key++, /*relaxed=*/true).status());
    LosePower(seed);
    ASSERT_EQ(db_->CheckWritable(), absl::OkStatus());
    const int64_t now = Count();
    ASSERT_GE(now, before + 3) << "seed " << seed;
    ASSERT_LE(now, before + 9) << "seed " << seed;
    // The keys that are there are the first ones of what was written.
    key = synced + (now - before - 3);
    std::vector<Key> keys;
    for (int64_t k = 0; k < key; ++k) keys.emplace_back(k);
    const auto found = db_->Get("c", keys, {}, kNoCancel);
    ASSERT_OK(found.status());
    ASSERT_EQ(found->missing, std::vector<Key>()) << "seed " << seed;
    lost += now < before + 9 ? 1 : 0;
  }
  EXPECT_GT(lost, 0) << "no power failure took anything: the test shows nothing";
}

TEST_F(Durable, ALogThatIsGoneIsNoticedAndTheRestIsServed) {
  for (int64_t key = 0; key < 10; ++key) ASSERT_OK(Put(key).status());
  Kill();  // Recovered and flushed: these do not need the log any more.
  for (int64_t key = 10; key < 20; ++key) ASSERT_OK(Put(key).status());
  Tick(1000);
  const Seq mark = db_->GetInfo().store.watermark;
  const uint64_t incarnation = db_->GetInfo().incarnation;
  disk_.KillProcess();
  db_.reset();
  RemoveLogs();
  Open();
  EXPECT_EQ(Count(), 10);
  const DatabaseInfo info = db_->GetInfo();
  EXPECT_EQ(info.store.state, StoreState::kDataLoss);
  EXPECT_THAT(info.store.reason, HasSubstr(absl::StrFormat("--accept-data-loss=%d", Raw(mark))));
  EXPECT_EQ(info.incarnation, incarnation);
  EXPECT_THAT(Put(30).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("synced")));
  EXPECT_THAT(db_->CreateCollection("d", SmallSchema(kDim), false, kNoCancel).status(),
              StatusIs(absl::StatusCode::kDataLoss));
  for (int i = 0; i < 20; ++i) Tick(100);
  workers_->RunAll();
  EXPECT_EQ(Count(), 10);
}

TEST_F(Durable, OnlyTheLossThatIsNamedIsAccepted) {
  ASSERT_OK(Put(1).status());
  Kill();
  ASSERT_OK(Put(2).status());
  Tick(1000);
  const DatabaseInfo before = db_->GetInfo();
  const Seq mark = before.store.watermark;
  disk_.KillProcess();
  db_.reset();
  RemoveLogs();
  options_.accept_data_loss = Seq{Raw(mark) - 1};
  Open();
  EXPECT_THAT(db_->CheckWritable(), StatusIs(absl::StatusCode::kDataLoss));
  db_.reset();
  options_.accept_data_loss = mark;
  Open();
  EXPECT_OK(db_->CheckWritable());
  EXPECT_NE(db_->GetInfo().incarnation, before.incarnation);
  const auto put = Put(3);
  ASSERT_OK(put.status());
  EXPECT_GT(put->as_of, mark) << "a sequence number that was given out before";
  EXPECT_EQ(Count(), 2);
  // Accepted once: the next start finds nothing to accept.
  const uint64_t incarnation = db_->GetInfo().incarnation;
  Kill();
  EXPECT_OK(db_->CheckWritable());
  EXPECT_EQ(db_->GetInfo().incarnation, incarnation);
  EXPECT_EQ(Count(), 2);
}

TEST_F(Durable, ACleanStopLeavesNothingToNotice) {
  for (int64_t key = 0; key < 5; ++key) ASSERT_OK(Put(key).status());
  ASSERT_OK(db_->Close());
  db_.reset();
  RemoveLogs();
  disk_.KillProcess();
  Open();
  EXPECT_OK(db_->CheckWritable());
  EXPECT_EQ(Count(), 5);
}

TEST_F(Durable, AFailedWriteStopsAllLaterOnesAndReadsGoOn) {
  ASSERT_OK(Put(1).status());
  disk_.FailAfter(1);
  EXPECT_THAT(Put(2).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("outcome: unknown")));
  EXPECT_THAT(Put(3).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("restart")));
  EXPECT_THAT(db_->CheckWritable(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(db_->GetInfo().store.state, StoreState::kFailed);
  EXPECT_EQ(Count(), 1);
  Kill();
  EXPECT_OK(db_->CheckWritable());
  EXPECT_GE(Count(), 1);
  EXPECT_LE(Count(), 2);
}

TEST_F(Durable, WritesButDeletesAreRefusedBelowTheFloorOfFreeDisk) {
  constexpr uint64_t kFloor = uint64_t{1} << 20;
  options_.disk_floor_bytes = kFloor;
  disk_.SetCapacity(uint64_t{1} << 30);
  Kill();
  for (int64_t key = 0; key < 10; ++key) ASSERT_OK(Put(key).status());
  Tick(100);
  const StoreInfo before = db_->GetInfo().store;
  EXPECT_EQ(before.state, StoreState::kWritable);
  const uint64_t used = before.disk_capacity_bytes - before.disk_free_bytes;
  disk_.SetCapacity(used + kFloor / 2);
  Tick(100);
  EXPECT_EQ(db_->GetInfo().store.state, StoreState::kDiskLow);
  EXPECT_THAT(Put(12).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("outcome: not_applied")));
  EXPECT_OK(db_->CheckWritable());
  EXPECT_OK(db_->DeleteKeys("c", {Key(int64_t{1})}, kNoCancel).status());
  EXPECT_OK(db_->CreateCollection("d", SmallSchema(kDim), false, kNoCancel).status());
  disk_.SetCapacity(uint64_t{1} << 30);
  Tick(100);
  EXPECT_OK(Put(12).status());
  EXPECT_EQ(Count(), 10);
}

TEST_F(Durable, TheWatermarkFollowsOnceASecond) {
  const auto put = Put(1);
  ASSERT_OK(put.status());
  Tick(1000);
  EXPECT_EQ(db_->GetInfo().store.watermark, put->as_of);
  const auto second = Put(2);
  ASSERT_OK(second.status());
  Tick(100);
  EXPECT_EQ(db_->GetInfo().store.watermark, put->as_of);
  Tick(900);
  EXPECT_EQ(db_->GetInfo().store.watermark, second->as_of);
}

// Nothing led to it yet.
TEST_F(Durable, ARowTableThatCannotBeWrittenIsNotAppliedAndChangesNothingElse) {
  const std::pair<absl::Status, absl::StatusCode> errors[] = {
      {absl::UnavailableError("While open a file for appending: Too many open files"),
       absl::StatusCode::kResourceExhausted},
      {absl::ResourceExhaustedError("No space left on device"),
       absl::StatusCode::kResourceExhausted},
      {absl::UnavailableError("Input/output error"), absl::StatusCode::kUnavailable},
  };
  ASSERT_OK(PutBulk(0).status());
  int64_t rows = 40;
  for (const std::string what : {"create", "write", "sync"}) {
    for (const auto& [error, code] : errors) {
      disk_.FailOnce(what, "/intake/", error);
      EXPECT_THAT(PutBulk(1000).status(),
                  StatusIs(code, ::testing::AllOf(HasSubstr(std::string(error.message())),
                                                  HasSubstr("outcome: not_applied"))))
          << what;
      ASSERT_OK(db_->CheckWritable());
      EXPECT_EQ(Count(), rows);
      ASSERT_OK(PutBulk(rows).status());
      rows += 40;
      EXPECT_EQ(Count(), rows);
    }
  }
  LosePower(3);
  EXPECT_EQ(Count(), rows);
  EXPECT_TRUE(db_->Verify("", /*deep=*/true, kNoCancel)->sound());
}

TEST_F(Durable, WithoutItsWatermarkADirectoryIsStillOpened) {
  ASSERT_OK(Put(1).status());
  disk_.KillProcess();
  db_.reset();
  ASSERT_OK(disk_.process().Remove("/data/WATERMARK"));
  Open();
  EXPECT_OK(db_->CheckWritable());
  EXPECT_EQ(Count(), 1);
  EXPECT_GT(db_->GetInfo().store.watermark, kSeqZero);
}

}  // namespace
}  // namespace azimuth::engine
