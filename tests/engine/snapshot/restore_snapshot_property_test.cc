// Random writes, builds, reopens, snapshots and restores against plain maps: a snapshot has what
// the map had at its moment, under whatever name and however much later it is restored. The seed is
// printed; AZIMUTH_SEED replays it.
#include "base/failpoint.h"
#include "engine/admin/verify.h"
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "gtest/gtest.h"

#include <cstdlib>
#include <map>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

using testing::Contents;
using testing::SeenRows;

const CancelToken kNoCancel{};

class RestoreProperty : public testing::SnapshotTest {
 protected:
  void Run(uint64_t seed, int steps) {
    SCOPED_TRACE("AZIMUTH_SEED=" + std::to_string(seed));
    random_.seed(seed);
    ASSERT_OK(
        db_->CreateCollection("c", testing::SmallSchema(testing::kSnapshotDim), false, kNoCancel));
    for (int i = 0; i < steps && !HasFatalFailure(); ++i) Step();
    if (HasFatalFailure()) return;
    for (const auto& [name, rows] : models_) EXPECT_EQ(Contents(*db_, name), rows) << name;
    ASSERT_OK_AND_ASSIGN(const VerifyReport report, db_->Verify("", /*deep=*/true, kNoCancel));
    EXPECT_TRUE(report.sound());
  }

 private:
  int64_t RandomKey() { return static_cast<int64_t>(random_() % 400); }
  void Write() {
    const uint64_t choice = random_() % 10;
    if (choice < 6) {
      Put("c", RandomKey(), static_cast<int64_t>(1 + random_() % 80));
    } else if (choice < 9) {
      Delete("c", RandomKey(), static_cast<int64_t>(1 + random_() % 40));
    } else {
      Settle();
    }
    models_["c"] = Contents(*db_, "c");
  }
  void Take() {
    const std::string name = "s" + std::to_string(taken_++);
    const bool of_store = random_() % 3 == 0;
    SeenRows then;
    // Writes come while it is made; one of them may be the last that it has.
    const Failpoint point =
        of_store ? Failpoint::kSnapshotBeforeManifest : Failpoint::kSnapshotMidRows;
    then = models_["c"];
    SetFailpointHook(point, [&] {
      Write();
      return absl::OkStatus();
    });
    Snapshot(of_store ? "" : "c", name);
    SetFailpointHook(point, nullptr);
    snapshots_[name] = std::move(then);
  }
  void Restore() {
    if (snapshots_.empty()) return;
    auto it = snapshots_.begin();
    std::advance(it, static_cast<int64_t>(random_() % snapshots_.size()));
    const bool over = random_() % 3 == 0;
    const std::string target = over ? "c" : "r" + std::to_string(random_() % 3);
    ASSERT_OK(db_->RestoreSnapshot(
        {.snapshot = it->first, .collection = "c", .target = target, .overwrite = true},
        kNoCancel));
    models_[target] = it->second;
    ASSERT_EQ(Contents(*db_, target), it->second) << it->first << " as " << target;
  }
  void Step() {
    const uint64_t choice = random_() % 100;
    if (choice < 60) {
      Write();
    } else if (choice < 72) {
      Take();
    } else if (choice < 84) {
      Restore();
    } else if (choice < 90) {
      Reopen();
    } else if (choice < 93 && !snapshots_.empty()) {
      ASSERT_OK(db_->DeleteSnapshot(snapshots_.begin()->first));
      snapshots_.erase(snapshots_.begin());
    } else {
      for (const auto& [name, rows] : models_) ASSERT_EQ(Contents(*db_, name), rows) << name;
    }
  }

  int taken_ = 0;
  std::map<std::string, SeenRows> models_;
  std::map<std::string, SeenRows> snapshots_;
};

TEST_F(RestoreProperty, ASnapshotHasWhatTheModelHad) {
  const char* given = std::getenv("AZIMUTH_SEED");
  Run(given != nullptr ? std::strtoull(given, nullptr, 10) : 1, 200);
}

TEST_F(RestoreProperty, ASnapshotHasWhatTheModelHadForAnotherSeed) {
  Run(20261127, 200);
}

}  // namespace
}  // namespace azimuth::engine
