// ManualDatabaseTest: a database whose time and background work the test makes happen.
#pragma once

#include "tests/engine/manual_workers.h"
#include "tests/engine/open_database.h"
#include "tests/support/fake_clock.h"

#include "gtest/gtest.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine::testing {

class ManualDatabaseTest : public ::testing::Test {
 protected:
  ManualDatabaseTest() {
    options_ = SmallOptions(dir_.path());
    options_.clock = &clock_;
    UseManualWorkers(options_, workers_);
    db_ = OpenOrDie(options_);
  }

  // As after kill -9.
  void Reopen() {
    db_.reset();
    db_ = OpenOrDie(options_);
  }
  // Lets growing segments of enough rows become idle, and does all work that there is: they are
  // built, merged, and ended records are swept.
  void Settle() {
    clock_.AdvanceMillis(1000);
    Work();
  }
  // The same without time that passes.
  void Work() {
    for (int i = 0; i < 6; ++i) {
      workers_->Tick();
      workers_->RunAll();
    }
  }
  // Makes collection "c" of SmallSchema(4) with the keys from 0 on; n is the key, and all vectors
  // are the same.
  void FillCollection(int64_t rows) {
    const std::vector<float> vector = {1, 2, 3, 4};
    ASSERT_OK(db_->CreateCollection("c", SmallSchema(4), false, CancelToken()));
    std::vector<RecordInput> records;
    for (int64_t key = 0; key < rows; ++key) records.push_back(MakeRecord(key, key, vector));
    ASSERT_OK(db_->Upsert("c", std::move(records), CancelToken()));
  }

  ::azimuth::testing::TempDir dir_;
  ::azimuth::testing::FakeClock clock_;
  DatabaseOptions options_;
  ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
};

}  // namespace azimuth::engine::testing
