// StoreEvents: what RocksDB tells while it works, and what is done about it at once.
//
// Internal to storage. Thread safety: any thread.
#pragma once

#include "storage/store.h"

#include "rocksdb/db.h"
#include "rocksdb/listener.h"

#include <atomic>
#include <cstdint>

namespace azimuth::storage {

class StoreEvents final : public rocksdb::EventListener {
 public:
  // `listener` hears of it, and outlives this; null: nobody does.
  explicit StoreEvents(StoreListener* listener) : listener_(listener) {}

  // Null while there is no open database.
  void SetDb(rocksdb::DB* db) { db_.store(db); }

  // Nothing was written since the database was opened, or since the memtables were sealed.
  bool memtables_empty() const { return memtables_empty_.load(); }
  void MemtablesFilled() { memtables_empty_.store(false); }

  // The disk was full, and the database has to be resumed. RocksDB would do so by itself every five
  // seconds, but not after each of the errors that a full disk makes.
  bool needs_resume() const { return needs_resume_.load(); }
  void NeedResume() { needs_resume_.store(true); }
  // Before it is resumed: an error that comes meanwhile asks for it again.
  void BeginResume() {
    resuming_.store(true);
    needs_resume_.store(false);
  }
  void EndResume() { resuming_.store(false); }
  bool resuming() const { return resuming_.load(); }
  // Flushes that came to their end, of each family.
  uint64_t flushes() const { return flushes_.load(); }
  // A write or a sync failed for good: the log must not be touched any more.
  bool failed() const { return failed_.load(); }

  // The database cannot be resumed and hangs.
  void GiveUp();

  // Syncs the log that was written so far before the first write into the next one.
  //
  // RocksDB begins a new log whenever a memtable is full. Commits that asked for no sync would then
  // lie in two logs that the system writes out in any order, and a power failure could take commits
  // out of the middle: of the old log's end, but not of the new log. Only a lost end is no damage.
  //
  // Called by the thread that writes, after the new log was made and before it is written.
  void OnMemTableSealed(const rocksdb::MemTableInfo& info) override;

  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo& info) override;
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status background_error,
                            bool* auto_recovery) override;
  void OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) override;
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason,
                         rocksdb::Status* background_error) override;

 private:
  StoreListener* const listener_;
  std::atomic<rocksdb::DB*> db_ = nullptr;
  std::atomic<bool> log_failed_ = false;  // A write to the log failed; RocksDB did not go on yet.
  std::atomic<bool> memtables_empty_ = true;
  std::atomic<bool> needs_resume_ = false;
  std::atomic<bool> resuming_ = false;
  std::atomic<uint64_t> flushes_ = 0;
  std::atomic<bool> failed_ = false;
};

}  // namespace azimuth::storage
