#include "storage/rocks_resume.h"

#include "base/mutex.h"

#include <chrono>
#include <thread>

namespace azimuth::storage {
namespace {

// So long one flush may take before another one is asked for.
constexpr std::chrono::milliseconds kPatience{500};
// A flush of all memtables takes seconds at most.
constexpr std::chrono::seconds kGiveUpAfter{60};

// Does not wait for it.
void AskForFlush(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families) {
  rocksdb::FlushOptions options;
  options.wait = false;
  options.allow_write_stall = true;
  db.Flush(options, families).PermitUncheckedError();
}

}  // namespace

rocksdb::Status ResumeDb(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families,
                         const std::function<void()>& gave_up) {
  Mutex mu;
  CondVar ended;
  bool done = false;
  std::thread asking([&] {
    const auto end = std::chrono::steady_clock::now() + kGiveUpAfter;
    bool told = false;
    MutexLock lock(mu);
    while (!done) {
      if (ended.WaitUntil(mu, std::chrono::steady_clock::now() + kPatience) || done) continue;
      if (!told && std::chrono::steady_clock::now() >= end) {
        told = true;
        gave_up();
      }
      AskForFlush(db, families);
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

void FlushIfLeft(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families) {
  uint64_t running = 0;
  if (!db.GetIntProperty(rocksdb::DB::Properties::kNumRunningFlushes, &running) || running > 0) {
    return;
  }
  uint64_t waiting = 0;
  for (rocksdb::ColumnFamilyHandle* family : families) {
    uint64_t count = 0;
    if (db.GetIntProperty(family, rocksdb::DB::Properties::kNumImmutableMemTable, &count)) {
      waiting += count;
    }
  }
  if (waiting > 0) AskForFlush(db, families);
}

}  // namespace azimuth::storage
