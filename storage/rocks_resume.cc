#include "storage/rocks_resume.h"

#include "base/mutex.h"

#include <chrono>
#include <thread>

namespace azimuth::storage {
namespace {

// So long one flush may take before another one is asked for.
constexpr std::chrono::milliseconds kPatience{500};

}  // namespace

rocksdb::Status ResumeDb(rocksdb::DB& db,
                         const std::vector<rocksdb::ColumnFamilyHandle*>& families) {
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
  rocksdb::Status status = db.Resume();
  {
    MutexLock lock(mu);
    done = true;
  }
  ended.NotifyOne();
  asking.join();
  return status;
}

}  // namespace azimuth::storage
