// Store: rows, vectors, keys and the catalog in one RocksDB, the only source of truth.
//
// One instance for the process, a fixed set of column families; rows are prefixed by a row-store
// id, so a collection costs no family of its own. RocksDB's options stand in rocks_options.cc, each
// with its reason. Key layouts: docs/FORMATS.md, "RocksDB".
//
// Ownership: the Store owns the database; a CommitBatch is the caller's.
// Thread safety: reads, SyncLog, TendFlushes and CheckTables from any number of threads. Commit is
// called by one thread at a time.
// Errors: DataLoss (checksum, a block that cannot be read, or bytes that do not decode; names the
// row store and row), ResourceExhausted (disk full), Unavailable (other errors of writing: the
// outcome is unknown).
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "base/value.h"
#include "storage/file.h"
#include "storage/row.h"
#include "storage/row_tables.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::storage {

struct StoreAccess;

// The changes of one commit, over all column families: written all or not at all.
class CommitBatch final {
 public:
  CommitBatch();
  ~CommitBatch();
  CommitBatch(CommitBatch&&) noexcept;
  CommitBatch& operator=(CommitBatch&&) noexcept;

  // Vectors go to `tables` from now on, as far as there is room for their fields, and the commit
  // takes those in first. For megabytes of vectors of rows that are new, in order of row id.
  void PutVectorsInto(std::unique_ptr<RowTables> tables);
  // RowTables::Finish of those, if there are any; after an error the batch is of no use.
  absl::Status FinishTables();

  void PutRow(RowStoreId store, RowId row, const StoredRow& value);
  // The same, of what EncodeRow made.
  void PutEncodedRow(RowStoreId store, RowId row, std::string_view encoded);
  // `vector` is dim floats.
  void PutVector(RowStoreId store, FieldId field, RowId row, std::span<const float> vector);
  void PutKey(RowStoreId store, const Key& key, const KeyEntry& entry);
  void DeleteKey(RowStoreId store, const Key& key);
  void PutRetired(RowStoreId store, RowId row, Seq retired_seq);
  // Removes a row and its vectors in `fields`; its retirement may have to outlive them.
  void DeleteRowData(RowStoreId store, RowId row, std::span<const FieldId> fields);
  void DeleteRetired(RowStoreId store, RowId row);
  void PutCounters(RowStoreId store, const RowStoreCounters& counters);
  void PutCollection(const CollectionEntry& entry);
  void DeleteCollection(CollectionId id);
  void PutSegment(const SegmentEntry& entry);
  void DeleteSegment(RowStoreId store, SegmentId id);
  // Removes everything of a row store: rows, vectors, keys, retirements, counters, segment entries.
  void DeleteRowStore(RowStoreId store);
  void PutRequest(const RequestEntry& entry);
  void DeleteRequest(std::string_view id);
  void PutNextIds(const NextIds& ids);
  // The position in the log that this commit brings the store to.
  void PutAppliedSeq(Seq seq);

  size_t byte_size() const;  // About what goes into the write-ahead log.
  // Takes back everything after SavePoint(); at most one save point at a time.
  void SetSavePoint();
  void RollBackToSavePoint();

 private:
  friend class Store;
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

// Hears of what happens below the calls. Each function may be called by any thread, also while a
// call of the Store runs; it must not call the Store.
class StoreListener {
 public:
  virtual ~StoreListener() = default;
  // A new log begins. Everything that Commit had written before is synced; what a Commit that runs
  // now writes is not.
  virtual void OnLogRotated() {}
  // A write or a sync failed, in a call or in the background: what is in memory and what is on disk
  // may differ from now on. ResourceExhausted: the disk is full; commits are taken again once it
  // is not. All else is for good.
  virtual void OnWriteError(const absl::Status& /*status*/) {}
  // A table file is damaged, found by a merge in the background. It stays as it is.
  virtual void OnDamage(const absl::Status& /*status*/) {}
};

struct StoreOptions {
  uint64_t block_cache_bytes = uint64_t{256} << 20;
  // Memtables are flushed, those of all families together, when they have once to twice as much.
  uint64_t write_buffer_bytes = uint64_t{64} << 20;
  int background_threads = 2;
  // False: table files are never merged by RocksDB's own threads, which a simulation cannot order.
  bool merges_tables = true;
  // Where the database lies; Files::Posix() if null. Outlives the Store.
  Files* files = nullptr;
  // Outlives the Store.
  StoreListener* listener = nullptr;
  // Opens a log that is damaged in its middle up to the damage, and so loses what comes after it.
  // Else such a log is refused (DataLoss).
  bool accept_log_damage = false;
  // Nothing on disk is changed; the database must be there. Commit, SyncLog and Close are refused
  // (FailedPrecondition).
  bool read_only = false;

  // The bound of block cache and memtables together; see Store::memory_past_bound.
  uint64_t memory_bytes() const { return block_cache_bytes + 4 * write_buffer_bytes; }
};

// The store as it was at one moment, for reads; but for what row tables have brought since, at row
// ids that were not given out then. Must die before its Store is closed.
// Thread safety: immutable.
class ReadSnapshot final {
 public:
  ~ReadSnapshot();
  ReadSnapshot(const ReadSnapshot&) = delete;
  ReadSnapshot& operator=(const ReadSnapshot&) = delete;

 private:
  friend class Store;
  friend struct StoreAccess;
  struct Rep;
  explicit ReadSnapshot(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

class Store final {
 public:
  // Opens or makes the database in `path`; its parent must exist (NotFound).
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path,
                                                     const StoreOptions& options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Writes the batch atomically; when it returns OK and `sync` was set, the write-ahead log is on
  // disk. After Unavailable the batch may or may not be there when the store is opened again. After
  // ResourceExhausted (the disk is full) the next call tries to go on first, which may take as long
  // as a flush. Commit and SyncLog take turns.
  absl::Status Commit(CommitBatch& batch, bool sync);

  // Everything that was committed before the call is on disk when it returns OK. Errors as Commit.
  absl::Status SyncLog();

  // For a bulk load, by any thread.
  std::unique_ptr<RowTables> NewRowTables();
  // Adds what `tables` has to the database, synced. Commit does it with those of its batch; alone
  // it is for a row store that no collection leads to yet. Takes turns with Commit. Errors as
  // Commit; then it may be there or not, and the row store is to be deleted.
  absl::Status TakeIn(RowTables& tables);
  // After a start, before anything is written: removes rows of tables whose commit never came, so
  // that their ids can be given out. `everywhere` also looks where nothing is noted: the log was
  // lost, and notes with it. On a full disk the next commit does it. Errors as Commit.
  absl::Status RemoveLeftovers(bool everywhere);
  // Row stores in which rows past the counters' next_row may be left over, up to the row that is
  // given.
  absl::StatusOr<std::vector<std::pair<RowStoreId, RowId>>> ListTablesEnds(
      const ReadSnapshot* snapshot = nullptr) const;

  // To be called ten times a second, by one thread. After a full disk RocksDB may leave memtables
  // unflushed until there are too many of them, and then writes wait for ever (rocks_resume.h):
  // this has them flushed in time, and reports a failed write if that does not help for a minute.
  void TendFlushes();

  // About the bytes that block cache and memtables take past StoreOptions::memory_bytes(): filters
  // and indexes that stay in memory, memtables that wait for their flush.
  uint64_t memory_past_bound() const;

  // Every read sees the newest state, or that of `snapshot` if it is given.

  // What the catalog has.
  absl::StatusOr<std::vector<CollectionEntry>> ListCollections(
      const ReadSnapshot* snapshot = nullptr) const;
  absl::StatusOr<std::vector<SegmentEntry>> ListSegments(
      const ReadSnapshot* snapshot = nullptr) const;
  // In order of id.
  absl::StatusOr<std::vector<RequestEntry>> ListRequests(
      const ReadSnapshot* snapshot = nullptr) const;
  // Defaults for a new store.
  absl::StatusOr<NextIds> GetNextIds(const ReadSnapshot* snapshot = nullptr) const;
  // Zero for a new store.
  absl::StatusOr<Seq> GetAppliedSeq(const ReadSnapshot* snapshot = nullptr) const;
  // Zeros if never written.
  absl::StatusOr<RowStoreCounters> GetCounters(RowStoreId store,
                                               const ReadSnapshot* snapshot = nullptr) const;

  // The store as it is now. Costs about a microsecond; keeps old versions from being compacted away
  // while it lives.
  std::unique_ptr<ReadSnapshot> TakeSnapshot() const;

  // Batched reads. Entry i is that of keys[i], nullopt if there is none.
  absl::StatusOr<std::vector<std::optional<KeyEntry>>> LookUpKeys(
      RowStoreId store, std::span<const Key> keys, const ReadSnapshot* snapshot = nullptr) const;
  // Entry i is rows[i]; nullopt if it is not there.
  absl::StatusOr<std::vector<std::optional<StoredRow>>> GetRows(
      RowStoreId store, std::span<const RowId> rows, const ReadSnapshot* snapshot = nullptr) const;
  // Entry i is the vector of rows[i]; empty if the row has none in this field.
  absl::StatusOr<std::vector<std::vector<float>>> GetVectors(
      RowStoreId store, FieldId field, std::span<const RowId> rows,
      const ReadSnapshot* snapshot = nullptr) const;

  // Visit in order of row id (of key) all entries in `range` (all); a visitor's error ends the scan
  // and is returned. Consistent as of the call. Views are valid during the visit.
  absl::Status ScanRows(RowStoreId store, RowRange range,
                        const std::function<absl::Status(RowId, StoredRow&&)>& visit,
                        const ReadSnapshot* snapshot = nullptr) const;
  absl::Status ScanVectors(RowStoreId store, FieldId field, RowRange range,
                           const std::function<absl::Status(RowId, std::span<const float>)>& visit,
                           const ReadSnapshot* snapshot = nullptr) const;
  absl::Status ScanRetired(RowStoreId store, const std::function<absl::Status(RowId, Seq)>& visit,
                           const ReadSnapshot* snapshot = nullptr) const;
  absl::Status ScanKeys(RowStoreId store,
                        const std::function<absl::Status(Key&&, const KeyEntry&)>& visit,
                        const ReadSnapshot* snapshot = nullptr) const;

  // Row stores that have rows, vectors, keys, retirements or counters; ascending. In O(row stores).
  absl::StatusOr<std::vector<RowStoreId>> ListRowStores(
      const ReadSnapshot* snapshot = nullptr) const;
  // Reads every block of every table file and compares its checksum; an entry for each file that is
  // bad. O(bytes). Cancelled and DeadlineExceeded between two files.
  absl::StatusOr<std::vector<absl::Status>> CheckTables(const CancelToken& cancel) const;

  // Flushes memtables and closes; no use after it. The destructor closes without the flush.
  absl::Status Close();

 private:
  friend struct StoreAccess;
  struct Rep;
  explicit Store(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::storage
