// What is inside a Store and a ReadSnapshot. Internal to storage: the files store*.cc share it.
#pragma once

#include "base/mutex.h"
#include "base/status.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_options.h"
#include "storage/rocks_resume.h"
#include "storage/rocks_status.h"
#include "storage/row_tables_rep.h"
#include "storage/store.h"
#include "storage/store_events.h"

#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/write_batch.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {

// Keys of one MultiGet: bounds what it pins in memory.
inline constexpr size_t kMultiGetKeysMax = 1000;
// Folder of row tables inside that of the database.
inline constexpr std::string_view kIntakeName = "intake";

inline std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

struct ReadSnapshot::Rep {
  rocksdb::DB* db;
  const rocksdb::Snapshot* snapshot;
};

struct Store::Rep {
  std::unique_ptr<rocksdb::Env> env;  // Outlives the database.
  std::unique_ptr<rocksdb::DB> db;
  std::shared_ptr<StoreEvents> events;
  std::shared_ptr<rocksdb::Cache> cache;
  bool read_only = false;
  // One thread at a time writes and syncs the log: RocksDB takes a sync of a log that a write has
  // just failed to for a mistake of the program.
  Mutex log_mu;
  std::atomic<bool> resumed = false;  // After a full disk, since it was opened.
  std::string intake_path;            // Where row tables are written.
  std::atomic<uint64_t> tables_made = 0;
  // Rows of tables may stand up to here; synced. By row store.
  std::map<RowStoreId, RowId> tables_ends AZ_GUARDED_BY(log_mu);
  // Ranges of tables whose commit failed or never came: deleted before the next commit.
  std::vector<RowTables::Range> unwanted AZ_GUARDED_BY(log_mu);
  // Of TendFlushes, by its one thread: looks in a row that found something wrong.
  int looks = 0;
  uint64_t flushes_seen = 0;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;  // By Family; they die before the database.

  ~Rep() { Release().PermitUncheckedError(); }

  // Closes the handles and the database, once.
  rocksdb::Status Release() {
    if (db == nullptr) return rocksdb::Status::OK();
    rocksdb::Status first;
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      const rocksdb::Status status = db->DestroyColumnFamilyHandle(handle);
      if (first.ok()) first = status;
    }
    handles.clear();
    if (events != nullptr) events->SetDb(nullptr);
    const rocksdb::Status status = db->Close();
    if (first.ok()) first = status;
    db.reset();
    return first;
  }

  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return handles[static_cast<size_t>(family)];
  }

  static rocksdb::ReadOptions OptionsAt(const ReadSnapshot* snapshot,
                                        rocksdb::ReadOptions options = {}) {
    options.snapshot = snapshot == nullptr ? nullptr : snapshot->rep_->snapshot;
    return options;
  }

  absl::Status CheckWritable() const {
    if (!read_only) return absl::OkStatus();
    return absl::FailedPreconditionError("the database was opened to be read only");
  }

  absl::Status CheckNotFailed() const {
    if (!events->failed()) return absl::OkStatus();
    return absl::UnavailableError("a write or a sync has failed");
  }

  // Puts something into the memtables, so that they are not empty when the log meets a full disk.
  // To resume begins a new log if there is something to flush; but if there is nothing RocksDB
  // would go on with the old one, which it must not.
  absl::Status FillMemtables() {
    AZ_ASSIGN_OR_RETURN(const auto applied,
                        Get(Family::kMeta, AppliedSeqKey(), "the applied position", nullptr));
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    // The same value once more, or what a new store answers.
    const rocksdb::Status put = db->Put(unlogged, handle(Family::kMeta), AppliedSeqKey(),
                                        applied.value_or(EncodeSeq(kSeqZero)));
    AZ_RETURN_IF_ERROR(Noted(FromRocksWrite("write a memtable", put)));
    events->MemtablesFilled();
    return absl::OkStatus();
  }

  absl::Status Resume() {
    return FromRocksWrite("go on after a full disk", ResumeDb(*db, handles, [this] {
                            // Else it is full again, and the resume comes to its end.
                            if (!events->needs_resume()) events->GiveUp();
                          }));
  }

  // Before the log is touched. Unavailable after a failure for good. After a full disk the database
  // is resumed, which begins a new log and flushes all that the old one has; ResourceExhausted
  // while there is no room for that.
  absl::Status Heal() AZ_REQUIRES(log_mu) {
    AZ_RETURN_IF_ERROR(CheckNotFailed());
    if (!events->needs_resume()) return absl::OkStatus();
    events->BeginResume();
    resumed.store(true);
    const absl::Status status = ResumeAll();
    if (!status.ok()) events->NeedResume();
    events->EndResume();
    return status;
  }

  absl::Status ResumeAll() {
    // Then the log was not left, though a write to it has failed: see FillMemtables.
    const bool same_log = events->memtables_empty();
    AZ_RETURN_IF_ERROR(Resume());
    if (!same_log) return absl::OkStatus();
    AZ_RETURN_IF_ERROR(FillMemtables());
    return Resume();
  }

  // The status of a write or a sync of the log. RocksDB may have told of a full disk before it
  // stored that error, so that it was not resumed from.
  absl::Status Noted(absl::Status status) const {
    if (absl::IsResourceExhausted(status)) events->NeedResume();
    return status;
  }

  // One value; nullopt if the key is not there.
  absl::StatusOr<std::optional<std::string>> Get(Family family, const std::string& key,
                                                 std::string_view what,
                                                 const ReadSnapshot* snapshot) const {
    std::string value;
    const rocksdb::Status status = db->Get(OptionsAt(snapshot), handle(family), key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return FromRocks(absl::StrFormat("read %s", what), status);
    return std::optional<std::string>(std::move(value));
  }

  // Before anything is written. Errors as Store::Commit.
  absl::Status Prepare() AZ_REQUIRES(log_mu);
  // Takes in the tables; what they have stands in `unwanted` until a commit that leads there
  // succeeds.
  absl::Status TakeIn(RowTables::Rep& tables) AZ_REQUIRES(log_mu);
  // Notes, synced, that rows of tables may stand up to the ends.
  absl::Status Reserve(const std::map<RowStoreId, RowId>& ends) AZ_REQUIRES(log_mu);
  // Deletes them, unless there are none. After Prepare.
  absl::Status DeleteUnwanted() AZ_REQUIRES(log_mu);
  // Adds all that is there of the rows from `first` on: themselves, vectors, retirements.
  absl::Status FindRowsFrom(RowStoreId store, RowId first,
                            std::vector<RowTables::Range>& ranges) const;

  // Calls visit(key, value) for every entry of the range, in order, as of the call.
  template <typename Visit>
  absl::Status Scan(Family family, const KeyRange& range, std::string_view what,
                    const ReadSnapshot* snapshot, const Visit& visit) const {
    rocksdb::ReadOptions options = OptionsAt(snapshot, MakeScanOptions());
    const rocksdb::Slice end(range.end);
    if (!range.end.empty()) options.iterate_upper_bound = &end;
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, handle(family)));
    for (it->Seek(range.first); it->Valid(); it->Next()) {
      AZ_RETURN_IF_ERROR(visit(ToView(it->key()), ToView(it->value())));
    }
    // An iterator that met an error is not valid either.
    return FromRocks(absl::StrFormat("scan %s", what), it->status());
  }

  // Adds the row stores that a family has entries of.
  absl::Status ListRowStores(Family family, const ReadSnapshot* snapshot,
                             std::set<RowStoreId>& stores) const {
    const std::unique_ptr<rocksdb::Iterator> it(
        db->NewIterator(OptionsAt(snapshot), handle(family)));
    for (it->SeekToFirst(); it->Valid();) {
      AZ_ASSIGN_OR_RETURN(const RowStoreId store, RowStoreOfKey(ToView(it->key())));
      stores.insert(store);
      it->Seek(RowStoreRange(store).end);
    }
    return FromRocks("list the row stores", it->status());
  }

  // Reads `count` keys in chunks. append_key(i, buffer) appends key i; take(i, value) is called for
  // each that is there; place(i) names it in errors.
  template <typename AppendKey, typename Take, typename Place>
  absl::Status MultiGet(Family family, const ReadSnapshot* snapshot, size_t count,
                        const AppendKey& append_key, const Take& take, const Place& place) const {
    const rocksdb::ReadOptions options = OptionsAt(snapshot);
    const size_t chunk_max = std::min(count, kMultiGetKeysMax);
    std::string buffer;
    std::vector<size_t> ends(chunk_max);
    std::vector<rocksdb::Slice> keys(chunk_max);
    std::vector<rocksdb::PinnableSlice> values(chunk_max);
    std::vector<rocksdb::Status> statuses(chunk_max);
    for (size_t first = 0; first < count; first += chunk_max) {
      const size_t chunk = std::min(chunk_max, count - first);
      buffer.clear();
      for (size_t i = 0; i < chunk; ++i) {
        append_key(first + i, buffer);
        ends[i] = buffer.size();
      }
      // Only now: the buffer no longer moves.
      for (size_t i = 0; i < chunk; ++i) {
        const size_t begin = i == 0 ? 0 : ends[i - 1];
        keys[i] = rocksdb::Slice(buffer.data() + begin, ends[i] - begin);
      }
      db->MultiGet(options, handle(family), chunk, keys.data(), values.data(), statuses.data());
      for (size_t i = 0; i < chunk; ++i) {
        if (statuses[i].IsNotFound()) continue;
        if (!statuses[i].ok()) return FromRocks("read " + place(first + i), statuses[i]);
        if (absl::Status taken = take(first + i, ToView(values[i])); !taken.ok()) {
          return AtPlace(place(first + i), taken);
        }
        values[i].Reset();
      }
    }
    return absl::OkStatus();
  }
};

}  // namespace azimuth::storage
