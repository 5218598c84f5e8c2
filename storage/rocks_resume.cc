#include "storage/rocks_resume.h"

#include "base/mutex.h"

#include <chrono>
#include <functional>
#include <thread>

namespace azimuth::storage {
namespace {

// So long one flush may take before another one is asked for.
constexpr std::chrono::milliseconds kPatience{500};

// Runs `work`, which waits for flushes.
rocksdb::Status RunWithFlushes(rocksdb::DB& db,
                               const std::vector<rocksdb::ColumnFamilyHandle*>& families,
                               const std::function<rocksdb::Status()>& work) {
  Mutex mu;
  CondVar ended;
  bool done = false;
  std::thread asking([&] {
    MutexLock lock(mu);
    while (!done) {
      if (ended.WaitUntil(mu, std::chrono::steady_clock::now() + kPatience) || done) continue;
      rocksdb::FlushOptions options;
      options.wait = false;
      options.allow_write_stall = true;
      db.Flush(options, families).PermitUncheckedError();
    }
  });
  rocksdb::Status status = work();
  {
    MutexLock lock(mu);
    done = true;
  }
  ended.NotifyOne();
  asking.join();
  return status;
}

}  // namespace

rocksdb::Status ResumeDb(rocksdb::DB& db,
                         const std::vector<rocksdb::ColumnFamilyHandle*>& families) {
  return RunWithFlushes(db, families, [&db] { return db.Resume(); });
}

rocksdb::Status FlushDb(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families,
                        bool may_be_behind) {
  const auto flush = [&] { return db.Flush(rocksdb::FlushOptions(), families); };
  return may_be_behind ? RunWithFlushes(db, families, flush) : flush();
}

}  // namespace azimuth::storage
