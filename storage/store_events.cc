#include "storage/store_events.h"

#include "base/failpoint.h"
#include "storage/rocks_resume.h"
#include "storage/rocks_status.h"

#include <string_view>

namespace azimuth::storage {
namespace {

using Reason = rocksdb::BackgroundErrorReason;

std::string_view PlaceOf(Reason reason) {
  switch (reason) {
    case Reason::kFlush:
    case Reason::kFlushNoWAL:
      return "flush a memtable";
    case Reason::kCompaction:
      return "merge table files";
    case Reason::kWriteCallback:
      return "write the log";
    case Reason::kMemTable:
      return "write a memtable";
    case Reason::kManifestWrite:
    case Reason::kManifestWriteNoWAL:
      return "write the manifest";
  }
  return "write";
}

}  // namespace

void StoreEvents::OnMemTableSealed(const rocksdb::MemTableInfo& /*info*/) {
  memtables_empty_.store(true);
  rocksdb::DB* const db = db_.load();
  // A log that a write has failed to is not written again: the flush that follows has all of it.
  if (db == nullptr || log_failed_.load()) return;
  const rocksdb::Status synced = db->SyncWAL();
  AZ_FAILPOINT_VISIT(kLogAfterRotate);
  // RocksDB goes on after a failed sync of the directory, and the next one, which may say that it
  // worked, proves nothing.
  if (!synced.ok()) failed_.store(true);
  if (listener_ == nullptr) return;
  if (synced.ok()) {
    listener_->OnLogRotated();
  } else {
    listener_->OnWriteError(FromRocksWrite("sync the log", synced));
  }
}

void StoreEvents::GiveUp() {
  if (failed_.exchange(true)) return;
  if (listener_ == nullptr) return;
  listener_->OnWriteError(absl::UnavailableError("the database does not go on after a full disk"));
}

void StoreEvents::OnFlushCompleted(rocksdb::DB* /*db*/, const rocksdb::FlushJobInfo& /*info*/) {
  flushes_.fetch_add(1);
}

void StoreEvents::OnErrorRecoveryBegin(Reason /*reason*/, rocksdb::Status /*background_error*/,
                                       bool* auto_recovery) {
  *auto_recovery = false;
}

void StoreEvents::OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) {
  if (info.new_bg_error.ok()) log_failed_.store(false);
}

void StoreEvents::OnBackgroundError(Reason reason, rocksdb::Status* background_error) {
  // A close ends a flush that waits for room.
  if (background_error->IsShutdownInProgress()) return;
  const bool damage = reason == Reason::kCompaction && background_error->IsCorruption();
  const absl::Status status = damage ? FromRocks("merge table files", *background_error)
                                     : FromRocksWrite(PlaceOf(reason), *background_error);
  const bool full = absl::IsResourceExhausted(status);
  // A damaged table does not keep the others from being written; merges of it are tried again, and
  // so are those that found no room. (An error that stands, though not a hard one, would keep a
  // flush from being installed, and Resume does nothing about it.)
  const bool merge_is_tried_again = damage || (full && reason == Reason::kCompaction);
  if (merge_is_tried_again) *background_error = rocksdb::Status::OK();
  if (reason == Reason::kWriteCallback) log_failed_.store(true);
  if (full && !merge_is_tried_again) {
    // No room to begin a new log is fatal to RocksDB, but nothing was written, so nothing is lost.
    if (reason == Reason::kMemTable) {
      *background_error = rocksdb::Status(*background_error, rocksdb::Status::Severity::kHardError);
    }
    // The error stands when this returns. (During a resume flushes do begin, and are not left.)
    rocksdb::DB* const db = db_.load();
    if (db != nullptr && !needs_resume() && !resuming()) LetFlushBegin(*db);
    NeedResume();
  } else if (!merge_is_tried_again) {
    failed_.store(true);
  }
  if (listener_ == nullptr) return;
  if (damage) {
    listener_->OnDamage(status);
  } else {
    listener_->OnWriteError(status);
  }
}

}  // namespace azimuth::storage
