// Power is lost, or the process dies, at every operation on the disk of a snapshot, a removal and a
// restore: what is there afterwards is whole.
#include "base/failpoint.h"
#include "engine/admin/verify.h"
#include "tests/engine/manual_workers.h"
#include "tests/engine/snapshot/snapshot_fixture.h"
#include "tests/support/fake_clock.h"
#include "tests/support/sim_files.h"

#include "gtest/gtest.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FakeClock;
using ::azimuth::testing::SimFiles;
using testing::Contents;
using testing::SeenRows;

const CancelToken kNoCancel{};

// A database on a simulated disk: collection "c" with segment files and a growing segment, the
// snapshot "s" of it as it was, and changes since then.
class World final {
 public:
  explicit World(uint64_t seed, uint64_t floor_bytes = 0) : disk_(seed) {
    options_ = testing::SmallOptions("/data");
    options_.disk_floor_bytes = floor_bytes;
    options_.growing_rows_max = 48;
    options_.graph_rows_min = 16;
    options_.clock = &clock_;
    options_.random = [this] { return ++random_; };
    testing::UseManualWorkers(options_, workers_);
    Open();
    EXPECT_OK(db_->CreateCollection("c", testing::SmallSchema(2), false, kNoCancel));
    Put(0, 60);
    clock_.AdvanceMillis(1000);
    Work();
    Put(50, 20);
    EXPECT_OK(db_->CreateSnapshot("c", "s", kNoCancel));
    then_ = Contents(*db_, "c");
    Put(0, 10);
    now_ = Contents(*db_, "c");
  }

  // The new process; the old one goes when it can no longer touch the disk.
  void Open() {
    options_.files = &disk_.process();
    std::unique_ptr<Database> next = testing::OpenOrDie(options_);
    db_ = std::move(next);
  }
  void Work() {
    for (int i = 0; i < 4; ++i) {
      workers_->Tick();
      workers_->RunAll();
    }
  }
  void Put(int64_t first, int64_t count) {
    ++generation_;
    std::vector<std::vector<float>> vectors;
    for (int64_t i = 0; i < count; ++i) {
      vectors.push_back({static_cast<float>(first + i), static_cast<float>(generation_)});
    }
    std::vector<RecordInput> records;
    for (int64_t i = 0; i < count; ++i) {
      records.push_back(
          testing::MakeRecord(first + i, generation_, vectors[static_cast<size_t>(i)]));
    }
    EXPECT_OK(db_->Upsert("c", std::move(records), kNoCancel));
  }

  // Nothing half is listed, nothing is left over, and everything agrees with itself.
  void CheckWhole() {
    const auto listed = db_->ListSnapshots("");
    ASSERT_OK(listed);
    for (const SnapshotInfo& info : *listed) {
      ASSERT_EQ(info.problem, "");
      ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot(info.id, kNoCancel));
      EXPECT_TRUE(report.problems.empty()) << report.problems.front();
    }
    EXPECT_EQ(InSnapshots(), listed->size());
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, db_->Verify("", /*deep=*/true, kNoCancel));
    for (const Finding& finding : report.findings) ADD_FAILURE() << finding.message;
  }
  // Files and folders.
  size_t InSnapshots() {
    const auto names = options_.files->List("/data/snapshots");
    EXPECT_OK(names);
    return names->size();
  }
  bool Lists(const std::string& name) {
    const auto listed = db_->ListSnapshots("");
    EXPECT_OK(listed);
    return std::any_of(listed->begin(), listed->end(),
                       [&](const SnapshotInfo& info) { return info.name == name; });
  }
  bool Has(const std::string& collection) { return db_->DescribeCollection(collection).ok(); }

  SimFiles& disk() { return disk_; }
  Database& db() { return *db_; }
  const SeenRows& then() const { return then_; }
  const SeenRows& now() const { return now_; }

 private:
  SimFiles disk_;
  FakeClock clock_;
  uint64_t random_ = 1000;
  int64_t generation_ = 0;
  DatabaseOptions options_;
  testing::ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
  SeenRows then_;
  SeenRows now_;
};

// Lets `work` fail at its nth operation, for all n there are, with a death after it; `check(world,
// done)` looks at what is left.
void AtEveryOperation(const std::function<absl::Status(Database&)>& work,
                      const std::function<void(World&, bool done)>& check) {
  for (uint64_t n = 1; !::testing::Test::HasFatalFailure(); ++n) {
    SCOPED_TRACE("operation " + std::to_string(n));
    World world(n);
    world.disk().FailAfter(n);
    const absl::Status status = work(world.db());
    const bool failed = world.disk().failed();
    // What was acknowledged is there, whatever failed behind it.
    if (n % 3 == 0) {
      world.disk().KillProcess();
    } else {
      world.disk().Crash(n * 7919);
    }
    world.Open();
    world.CheckWhole();
    check(world, status.ok());
    if (!failed) {
      ASSERT_OK(status);
      break;
    }
    ASSERT_LT(n, 2000U);
  }
}

TEST(SnapshotSimulation, RoomForARestoreIsAskedForBeforeAnythingIsWritten) {
  World world(1);
  world.disk().SetFree(uint64_t{20} << 10);
  const uint64_t operations = world.disk().operations();
  for (const bool overwrite : {false, true}) {
    const auto result = world.db().RestoreSnapshot(
        {.snapshot = "s", .target = overwrite ? "c" : "d", .overwrite = overwrite}, kNoCancel);
    EXPECT_THAT(result, ::azimuth::testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                                     ::testing::HasSubstr("are free")));
  }
  EXPECT_EQ(world.disk().operations(), operations);
  world.disk().SetFree(uint64_t{2} << 30);
  EXPECT_OK(world.db().RestoreSnapshot({.snapshot = "s", .target = "d"}, kNoCancel));
}

// It is what may make room.
TEST(SnapshotSimulation, WhatAFailedRestoreCouldNotRemoveGoesFromADiskThatIsLow) {
  constexpr uint64_t kFloor = uint64_t{1} << 20;
  World world(1, kFloor);
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, [] {
    SetFailpointHook(Failpoint::kCommitBeforeLog,
                     [] { return absl::ResourceExhaustedError("no room"); });
    return absl::ResourceExhaustedError("no room");
  });
  EXPECT_FALSE(world.db().RestoreSnapshot({.snapshot = "s", .target = "d"}, kNoCancel).ok());
  SetFailpointHook(Failpoint::kRestoreBeforeCatalog, nullptr);
  SetFailpointHook(Failpoint::kCommitBeforeLog, nullptr);
  EXPECT_EQ(world.InSnapshots(), 2U);  // One is the mark of the restore.
  world.disk().SetFree(kFloor / 2);
  world.Work();
  EXPECT_EQ(world.db().GetInfo().store.state, StoreState::kDiskLow);
  EXPECT_EQ(world.InSnapshots(), 1U);
  world.CheckWhole();
}

TEST(SnapshotSimulation, ADiskThatIsFullInTheMiddleLeavesNothing) {
  int made = 0;
  int refused = 0;
  for (uint64_t kib = 0; kib < 512; kib += 8) {
    World world(kib);
    world.disk().SetFree(kib << 10);
    const auto info = world.db().CreateSnapshot("c", "t", kNoCancel);
    (info.ok() ? made : refused) += 1;
    if (!info.ok()) {
      EXPECT_THAT(info, ::azimuth::testing::StatusIs(absl::StatusCode::kResourceExhausted));
    }
    EXPECT_OK(world.db().CheckWritable());
    world.disk().SetFree(uint64_t{64} << 20);
    EXPECT_EQ(world.Lists("t"), info.ok());
    world.CheckWhole();
    EXPECT_EQ(Contents(world.db(), "c"), world.now());
  }
  EXPECT_GT(made, 0);
  EXPECT_GT(refused, 0);
}

TEST(SnapshotSimulation, OneOfACollectionIsWholeOrNotThere) {
  AtEveryOperation(
      [](Database& db) { return db.CreateSnapshot("c", "t", kNoCancel).status(); },
      [](World& world, bool done) {
        EXPECT_EQ(Contents(world.db(), "c"), world.now());
        EXPECT_TRUE(world.Lists("s"));
        if (done) {
          EXPECT_TRUE(world.Lists("t"));
        }
        if (!world.Lists("t")) return;
        ASSERT_OK(world.db().RestoreSnapshot({.snapshot = "t", .target = "d"}, kNoCancel));
        EXPECT_EQ(Contents(world.db(), "d"), world.now());
      });
}

TEST(SnapshotSimulation, OneOfTheStoreIsWholeOrNotThere) {
  AtEveryOperation([](Database& db) { return db.CreateSnapshot("", "t", kNoCancel).status(); },
                   [](World& world, bool done) {
                     EXPECT_EQ(Contents(world.db(), "c"), world.now());
                     if (done) {
                       EXPECT_TRUE(world.Lists("t"));
                     }
                     if (!world.Lists("t")) return;
                     ASSERT_OK(world.db().RestoreSnapshot(
                         {.snapshot = "t", .collection = "c", .target = "d"}, kNoCancel));
                     EXPECT_EQ(Contents(world.db(), "d"), world.now());
                   });
}

TEST(SnapshotSimulation, ARemovalLeavesItWholeOrNothing) {
  AtEveryOperation([](Database& db) { return db.DeleteSnapshot("s"); },
                   [](World& world, bool done) {
                     EXPECT_EQ(Contents(world.db(), "c"), world.now());
                     if (done) {
                       EXPECT_FALSE(world.Lists("s"));
                     }
                   });
}

TEST(SnapshotSimulation, ARestoreUnderANewNameIsWholeOrNotThere) {
  AtEveryOperation(
      [](Database& db) {
        return db.RestoreSnapshot({.snapshot = "s", .target = "d"}, kNoCancel).status();
      },
      [](World& world, bool done) {
        EXPECT_EQ(Contents(world.db(), "c"), world.now());
        if (done) {
          EXPECT_TRUE(world.Has("d"));
        }
        if (!world.Has("d")) {
          ASSERT_OK(world.db().RestoreSnapshot({.snapshot = "s", .target = "d"}, kNoCancel));
        }
        EXPECT_EQ(Contents(world.db(), "d"), world.then());
      });
}

TEST(SnapshotSimulation, ARestoreOverACollectionLeavesTheOldOrTheNewOne) {
  int old_ones = 0;
  int new_ones = 0;
  AtEveryOperation(
      [](Database& db) {
        return db.RestoreSnapshot({.snapshot = "s", .overwrite = true}, kNoCancel).status();
      },
      [&](World& world, bool done) {
        const SeenRows rows = Contents(world.db(), "c");
        const bool is_new = rows == world.then();
        EXPECT_TRUE(is_new || rows == world.now());
        if (done) {
          EXPECT_TRUE(is_new);
        }
        (is_new ? new_ones : old_ones) += 1;
      });
  EXPECT_GT(old_ones, 0);
  EXPECT_GT(new_ones, 0);
}

}  // namespace
}  // namespace azimuth::engine
