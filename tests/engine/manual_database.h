// ManualDatabaseTest: a database whose time and background work the test makes happen.
#pragma once

#include "tests/engine/manual_workers.h"
#include "tests/engine/open_database.h"
#include "tests/support/fake_clock.h"

#include "gtest/gtest.h"

#include <memory>

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
    for (int i = 0; i < 6; ++i) {
      workers_->Tick();
      workers_->RunAll();
    }
  }

  ::azimuth::testing::TempDir dir_;
  ::azimuth::testing::FakeClock clock_;
  DatabaseOptions options_;
  ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
};

}  // namespace azimuth::engine::testing
