#include "storage/rocks_resume.h"

#include "base/mutex.h"

#include <chrono>
#include <string>
#include <thread>

namespace azimuth::storage {
namespace {

// So long one flush may take before another one is asked for.
constexpr std::chrono::milliseconds kPatience{500};
// A flush of all memtables takes seconds at most.
constexpr std::chrono::seconds kGiveUpAfter{60};

// In all families; zero if it cannot be told.
uint64_t Sum(rocksdb::DB& db, const std::string& property) {
  uint64_t sum = 0;
  return db.GetAggregatedIntProperty(property, &sum) ? sum : 0;
}

// Of the database as a whole; zero if it cannot be told.
uint64_t Number(rocksdb::DB& db, const std::string& property) {
  uint64_t number = 0;
  return db.GetIntProperty(property, &number) ? number : 0;
}

bool FlushRuns(rocksdb::DB& db) {
  return Number(db, rocksdb::DB::Properties::kNumRunningFlushes) > 0;
}

// In the background.
bool Works(rocksdb::DB& db) {
  return FlushRuns(db) || Number(db, rocksdb::DB::Properties::kNumRunningCompactions) > 0;
}

}  // namespace

rocksdb::Status ResumeDb(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families,
                         const std::function<void()>& gave_up) {
  Mutex mu;
  CondVar ended;
  bool done = false;
  std::thread asking([&] {
    const auto end = std::chrono::steady_clock::now() + kGiveUpAfter;
    MutexLock lock(mu);
    while (!done) {
      if (ended.WaitUntil(mu, std::chrono::steady_clock::now() + kPatience) || done) continue;
      if (std::chrono::steady_clock::now() >= end && !Works(db)) gave_up();
      // Not while one runs: those that fail one after the other would keep the resume from its end.
      FlushIfLeft(db, families);
    }
  });
  rocksdb::Status status = db.Resume();
  {
    MutexLock lock(mu);
    done = true;
  }
  ended.NotifyOne();
  asking.join();
  return status;
}

bool FlushIfLeft(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families) {
  if (FlushRuns(db) || Sum(db, rocksdb::DB::Properties::kNumImmutableMemTable) == 0) return false;
  rocksdb::FlushOptions options;
  options.wait = false;
  options.allow_write_stall = true;
  db.Flush(options, families).PermitUncheckedError();
  return true;
}

bool WritesHang(rocksdb::DB& db) {
  return Number(db, rocksdb::DB::Properties::kIsWriteStopped) > 0 && !Works(db);
}

void LetFlushBegin(rocksdb::DB& db) {
  constexpr std::chrono::seconds kWaitMax{2};
  constexpr std::chrono::milliseconds kStep{1};
  const auto end = std::chrono::steady_clock::now() + kWaitMax;
  Mutex mu;
  CondVar nobody;
  MutexLock lock(mu);
  while (!FlushRuns(db) && Sum(db, rocksdb::DB::Properties::kMemTableFlushPending) > 0 &&
         std::chrono::steady_clock::now() < end) {
    nobody.WaitUntil(mu, std::chrono::steady_clock::now() + kStep);
  }
}

}  // namespace azimuth::storage
