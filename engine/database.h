// Database: the whole of Azimuth without a network. The server calls this and nothing else.
//
// Ownership: owns the data directory, the store, all collections and the background workers.
// Thread safety: every function may be called from any number of threads, Close excepted (once,
// when no other call runs). Promise: when a write returns OK it is synced to disk and every later
// read sees it, whole. Errors common to all: InvalidArgument (the message names place, value and
// what is allowed), NotFound (collection), DeadlineExceeded and Cancelled (by the token; a write
// may only give them before it was applied); of writes: FailedPrecondition (the store is read-only
// after a failed write), Unavailable (that failing write itself: outcome unknown),
// ResourceExhausted (the disk is full or low), DataLoss (read-only since synced commits are
// missing).
#pragma once

#include "base/clock.h"
#include "base/deadline.h"
#include "base/ids.h"
#include "engine/query/request.h"
#include "engine/record.h"
#include "engine/schema.h"
#include "engine/snapshot/snapshot_info.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {
class Files;
}  // namespace azimuth::storage

namespace azimuth::engine {

class Workers;

struct DatabaseOptions {
  std::string data_dir;
  // The seams: what the engine needs of the world. Defaults: the system's clock and files, random
  // numbers of the system, threads of our own. Each must outlive the database. Who brings workers
  // brings all of them: then RocksDB does not merge its table files either.
  const Clock* clock = &Clock::System();
  storage::Files* files = nullptr;
  std::function<uint64_t()> random = {};
  std::function<std::unique_ptr<Workers>(int threads)> make_workers = {};
  // Rows that a growing segment takes before it is closed and built.
  uint32_t growing_rows_max = 8192;
  // A growing segment of at least this many rows is closed when no write came for growing_idle_ms;
  // a smaller one is scanned as it is: a graph would not answer faster. Also the least number of
  // rows for which index kind `auto` builds a graph.
  uint32_t graph_rows_min = 1024;
  int64_t growing_idle_ms = 500;
  // A segment file is not merged into one of more rows than this.
  uint64_t segment_rows_max = uint64_t{4} << 20;
  int build_threads = 0;  // 0: as many as there are cores.
  // One budget for memtables, block cache, growing rows, builds and scratch. 0: three fifths of the
  // machine's memory (or of its control group's).
  uint64_t memory_bytes = 0;
  // Rows of a collection that wait for a segment file: writes are slowed down past the first number
  // and refused past the second.
  uint64_t unindexed_rows_slow = uint64_t{1} << 20;
  uint64_t unindexed_rows_max = uint64_t{4} << 20;
  // A group of commits with at least so many bytes of vectors writes them to table files of their
  // own (storage/row_tables.h). Each takes a few syncs and stays a file of its own, so smaller
  // groups go the way of the log.
  uint64_t bulk_commit_bytes = uint64_t{2} << 20;
  // Less free disk than the floor: writes but deletes are refused. 0: the smaller of 5 % of the
  // disk and 1 GiB. The ballast is given up when the disk is full (0: none).
  uint64_t disk_floor_bytes = 0;
  uint64_t ballast_bytes = 0;
  // Every segment file is read and compared with its checksums so often, and once after a start.
  int64_t scrub_interval_ms = int64_t{7} * 24 * 3600 * 1000;
  // Goes on without commits that were synced and are missing, up to this number: the one that the
  // refusal named. Every sequence number of what follows is new.
  std::optional<Seq> accept_data_loss = {};
  // Nothing that was deleted or has ended is removed from disk: for a repair.
  bool keep_rows = false;
  // Locks and syncs of a network file system may mean nothing: such a directory is refused unless
  // this is set.
  bool allow_network_files = false;
  uint64_t block_cache_bytes = uint64_t{256} << 20;
  uint64_t write_buffer_bytes = uint64_t{64} << 20;
};

struct CreateResult {
  CollectionId id{};
  bool created = false;  // False if it was there (if_not_exists).
  Seq as_of{};
};

struct DropResult {
  bool dropped = false;
  Seq as_of{};
};

struct CollectionInfo {
  CollectionId id{};
  std::string name;
  Schema schema;
  int64_t created_unix_us = 0;
};

struct CollectionSummary {
  CollectionId id{};
  std::string name;
  uint64_t row_count = 0;
};

struct TruncateResult {
  uint64_t removed = 0;  // Records that there were.
  Seq as_of{};
};

enum class SegmentState : uint8_t { kGrowing, kBuilding, kSealed };

// What a segment's file is made of, in bytes, apart from what aligns its parts.
struct SegmentParts {
  uint64_t vectors = 0;
  uint64_t codes = 0;
  uint64_t graph = 0;
  uint64_t columns = 0;  // All else: keys and fields, and what says where rows are.
};

struct SegmentVectorStats {
  std::string field;
  std::optional<Quantization> walked_by{};  // Never auto; nullopt if there is no graph.
};

struct SegmentStats {
  SegmentId id{};  // Zero without a file.
  SegmentState state = SegmentState::kGrowing;
  uint64_t rows = 0;
  uint64_t retired_rows = 0;
  uint64_t file_bytes = 0;
  uint64_t memory_bytes = 0;
  SegmentParts parts{};                       // Zero without a file.
  std::vector<SegmentVectorStats> vectors{};  // One for each vector field, in their order.
};

struct CollectionStats {
  uint64_t row_count = 0;       // Live rows at as_of.
  uint64_t unindexed_rows = 0;  // Rows that wait for a segment file.
  // Rows that were found unreadable since the start: searches lack them, a get of one is DataLoss.
  uint64_t damaged_rows = 0;
  std::vector<SegmentStats> segments;
  Seq as_of{};
  std::string index_error;  // Of the last background build, if it failed.
};

// What Optimize has come to.
struct OptimizeProgress {
  uint32_t segments = 0;      // Of the collection now.
  uint64_t rows_waiting = 0;  // Rows in segments that are still to be built or merged.
  uint64_t rows = 0;          // Rows in all segments.
  bool done = false;          // The last report.
  std::string error;          // Of the last build, if it failed; it is tried again.
  Seq as_of{};
};

// Conditions and identity of a write.
struct WriteOptions {
  // A retry with the same id and the same digest gets the first reply again instead of a second
  // write, for ten minutes or until kRequestsMax younger ids came, whichever is first. Empty: none.
  // At most kRequestIdBytesMax.
  std::string request_id = {};
  // Of the request's content: stable, at most 64 bytes.
  std::string request_digest = {};
  // Every record of the batch must be at this version now (zero: must not exist), else Aborted.
  std::optional<Seq> if_version = {};
  // The batch is number `load_batch` of the bulk load of this name, and is applied once, after
  // those before it (engine/write/ingest.h). Empty: of none.
  std::string load = {};
  uint64_t load_batch = 0;
  // May be acknowledged before it is synced, which then happens within a second: it survives the
  // death of the process, but not that of the machine (WriteResult::synced says what it was).
  bool relaxed = false;
};

struct ReadOptions {
  // The read waits until the store has come to this number, up to its deadline (kMinSeqWaitMs
  // without one); then DeadlineExceeded.
  Seq min_seq{};
};

enum class MissingKeys { kRefuse, kSkip };

// A bulk load: batches of records in order, each of them atomic, that can be resumed.
struct IngestSpec {
  std::string collection;
  bool insert = false;  // Else upsert.
  std::string load;     // Its name, 1 to kLoadNameBytesMax bytes.
  bool relaxed = false;
};
struct IngestBatch {
  uint64_t number = 0;
  std::vector<RecordInput> records = {};
  bool skip = false;  // Without records: the number is passed over.
};
// How far a load has come. Zeros for a new one.
struct IngestState {
  uint64_t last_batch = 0;
  uint64_t inserted = 0;
  uint64_t replaced = 0;
  Seq as_of{};  // Of the last batch.
  // Of the last batches, up to last_batch (kLoadMadeKeysMax of them at most); none if the
  // collection does not make keys.
  std::vector<MadeKeys> made = {};
};

// What the server says of itself.
struct MemoryInfo {
  uint64_t budget_bytes = 0;
  uint64_t rocks_bytes = 0;    // Block cache and memtables: their bound, not their use.
  uint64_t growing_bytes = 0;  // Rows without a segment file.
  uint64_t build_bytes = 0;    // What running builds have reserved.
  uint64_t scratch_bytes = 0;
  uint64_t resident_bytes = 0;  // Copies of graphs and codes in huge pages.
};
// How safe the data is.
enum class StoreState : uint8_t {
  kWritable,
  kDiskLow,   // Deletes only, until there is room.
  kFailed,    // Read-only after a failed write: the process stops, a restart recovers.
  kDataLoss,  // Read-only: synced commits are missing.
};
struct StoreInfo {
  StoreState state = StoreState::kWritable;
  std::string reason;  // Empty while it is writable.
  Seq synced{};        // Every commit up to here is on disk.
  Seq watermark{};     // ... and this is noted outside of the log.
  uint64_t disk_capacity_bytes = 0;
  uint64_t disk_free_bytes = 0;
  uint64_t disk_floor_bytes = 0;
  uint64_t ballast_bytes = 0;
  uint64_t damaged_rows = 0;
  uint64_t segments_set_aside = 0;  // Since the start.
};
struct DatabaseInfo {
  StoreInfo store;
  MemoryInfo memory;
  uint64_t unindexed_rows = 0;
  uint64_t commits_waiting = 0;  // In the queue, those that run included.
  uint64_t incarnation = 0;
  Seq as_of{};
};

// What Verify found. docs/OPERATIONS.md has what to do about it.
enum class FindingSeverity : uint8_t {
  kNotice,   // Worth a look; nothing is wrong.
  kDerived,  // Can be made again from the rows: repair does it, and so does a start.
  kSource,   // Rows, keys or vectors are damaged or missing: restore them, or accept the loss.
};

struct Finding {
  FindingSeverity severity = FindingSeverity::kNotice;
  std::string kind;     // One word, stable: "segment.checksum", "key.row_missing", ...
  std::string place;    // Names collection, row, key, segment or file.
  std::string message;  // What was expected and what was found.
};

struct VerifyReport {
  bool deep = false;
  uint64_t incarnation = 0;
  Seq applied{};
  Seq watermark{};
  uint64_t collections = 0;
  uint64_t rows = 0;
  uint64_t keys = 0;
  uint64_t vectors = 0;
  uint64_t retired = 0;
  uint64_t segments = 0;
  uint64_t segment_rows_compared = 0;  // With all their columns and vectors.
  uint64_t graph_nodes = 0;
  uint64_t unreachable_nodes = 0;   // Over level 0 from the entry point.
  uint64_t bytes_read = 0;          // Of segment files.
  std::vector<Finding> findings{};  // At most 100 of a kind; the last of it says how many more.
  std::vector<std::string> repairs{};

  // No finding but notices.
  bool sound() const;
};

class Database final {
 public:
  // Locks and opens the directory, recovers, starts the workers. Errors: those of the storage
  // layer.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const DatabaseOptions& options);
  ~Database();  // Closes without a flush, as a crash would; nothing acknowledged is lost.
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // AlreadyExists if the name is taken (with if_not_exists: unless the definition is the same).
  absl::StatusOr<CreateResult> CreateCollection(std::string_view name, const Schema& schema,
                                                bool if_not_exists, const CancelToken& cancel);
  absl::StatusOr<DropResult> DropCollection(std::string_view name, bool if_exists,
                                            const CancelToken& cancel);
  absl::StatusOr<CollectionInfo> DescribeCollection(std::string_view name) const;
  std::vector<CollectionSummary> ListCollections() const;  // In order of name.
  absl::StatusOr<CollectionStats> GetStats(std::string_view name) const;

  // Removes all records at once; the collection stays, with its id.
  absl::StatusOr<TruncateResult> TruncateCollection(std::string_view name,
                                                    const CancelToken& cancel);
  // Closes the growing segment, builds and merges until there are as few segments as
  // segment_rows_max allows. Calls `report` about ten times a second, and a last time with `done`;
  // an error of `report` ends the wait (the work goes on). Writes may go on meanwhile: rows that
  // come after the call may be left in a growing segment.
  absl::Status Optimize(std::string_view name,
                        const std::function<absl::Status(const OptimizeProgress&)>& report,
                        const CancelToken& cancel);

  // Writes. Common errors: Aborted (if_version; names the record and the version that it has),
  // ResourceExhausted (more rows wait for their index, or more memory is in use, than is allowed:
  // retry later; deletes are never refused for it), InvalidArgument (a request_id that came with
  // another digest). A record whose time has passed (expires_at) is absent for all of them.

  // Where the server makes the keys (Schema::auto_id): an insert takes records without a key only;
  // an upsert adds those without, and replaces those with one, which must exist (NotFound).
  // WriteResult::made has the new keys.

  // AlreadyExists names the first key that exists; InvalidArgument a key that comes twice.
  absl::StatusOr<WriteResult> Insert(std::string_view collection, std::vector<RecordInput> records,
                                     const CancelToken& cancel, const WriteOptions& options = {});
  // Of a key that comes twice the last record wins.
  absl::StatusOr<WriteResult> Upsert(std::string_view collection, std::vector<RecordInput> records,
                                     const CancelToken& cancel, const WriteOptions& options = {});
  // Opens a bulk load, or goes on with one: it is remembered for kLoadMemoryMicros after its last
  // batch, unless the collection is truncated.
  absl::StatusOr<IngestState> OpenIngest(const IngestSpec& spec, const CancelToken& cancel);
  // Applies the next batches of a load, in order, together where they fit into one commit; an entry
  // for each. A batch that was applied before is `repeated`, and has as_of and counts of the load
  // so far; its `made` is told again while IngestState::made has it.
  // After the first one that fails none is applied, and FailedPrecondition says so: the load goes
  // on with the number that failed. InvalidArgument, NotFound, AlreadyExists, ResourceExhausted as
  // Insert and Upsert.
  std::vector<absl::StatusOr<WriteResult>> Ingest(const IngestSpec& spec,
                                                  std::vector<IngestBatch> batches,
                                                  const CancelToken& cancel);
  // How hard writers to a collection are held back now: 0, not at all, to 1, refused. NotFound.
  absl::StatusOr<double> WritePressure(std::string_view collection) const;
  // Changes the fields and vectors that are given and keeps all others, and the expiry unless it is
  // given. NotFound names the first key without a record (unless they are skipped),
  // InvalidArgument a key that comes twice.
  absl::StatusOr<WriteResult> Update(std::string_view collection, std::vector<RecordInput> records,
                                     MissingKeys missing, const CancelToken& cancel,
                                     const WriteOptions& options = {});
  // Keys without a record are no error.
  absl::StatusOr<WriteResult> DeleteKeys(std::string_view collection, std::vector<Key> keys,
                                         const CancelToken& cancel,
                                         const WriteOptions& options = {});
  // Chooses rows at one sequence number; rows that were replaced or deleted before the commit are
  // left alone. An empty filter is InvalidArgument unless `all`, which takes no filter. Atomic up
  // to kDeleteRowsMax rows; more are deleted in several commits (WriteResult::commits). With
  // `dry_run` nothing is deleted: the result says how many rows would be. if_version is refused.
  absl::StatusOr<WriteResult> DeleteMatching(std::string_view collection, const FilterText& filter,
                                             bool all, const CancelToken& cancel,
                                             const WriteOptions& options = {},
                                             bool dry_run = false);

  absl::StatusOr<GetResult> Get(std::string_view collection, std::span<const Key> keys,
                                const Projection& projection, const CancelToken& cancel,
                                const ReadOptions& options = {}) const;
  absl::StatusOr<QueryResult> Query(std::string_view collection, const FilterText& filter,
                                    uint32_t limit, const Projection& projection,
                                    const CancelToken& cancel,
                                    const ReadOptions& options = {}) const;
  absl::StatusOr<CountResult> Count(std::string_view collection, const FilterText& filter,
                                    const CancelToken& cancel,
                                    const ReadOptions& options = {}) const;
  // `queries` holds one or more vectors of the field's dimension, one after the other; all are
  // answered at one sequence number.
  absl::StatusOr<SearchResult> Search(std::string_view collection, std::span<const float> queries,
                                      const SearchSpec& spec, const CancelToken& cancel,
                                      const ReadOptions& options = {}) const;
  // How many floats one query of that field has; for callers that must cut a block of queries.
  absl::StatusOr<uint32_t> QueryDimension(std::string_view collection,
                                          std::string_view vector_field) const;

  // Compares what is on disk with itself while everything goes on (engine/admin/verify.h); one
  // collection, or all if the name is empty.
  absl::StatusOr<VerifyReport> Verify(std::string_view collection, bool deep,
                                      const CancelToken& cancel) const;

  // Snapshots (docs/OPERATIONS.md). One is made, checked, restored or removed at a time, else
  // Aborted; writes and searches go on. `snapshot` is a name or an id.

  // Of one collection, or of the whole store if it is empty. An empty name: one with the time in
  // it. AlreadyExists (the name), ResourceExhausted (the disk), DataLoss (rows cannot be read).
  absl::StatusOr<SnapshotInfo> CreateSnapshot(std::string_view collection, std::string_view name,
                                              const CancelToken& cancel);
  // The oldest first, then those that are damaged; those of one collection if it is not empty.
  absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(std::string_view collection) const;
  // Reads all of it. What is wrong with it is no error. ResourceExhausted (the memory is not for
  // what a restore of it would hold).
  absl::StatusOr<SnapshotReport> VerifySnapshot(std::string_view snapshot,
                                                const CancelToken& cancel);
  // Checks all of it before anything is touched. AlreadyExists (the target, without overwrite),
  // DataLoss (rows are damaged), ResourceExhausted (room on the disk, or memory).
  absl::StatusOr<RestoreResult> RestoreSnapshot(const RestoreSpec& spec, const CancelToken& cancel);
  // The same from a folder that lies elsewhere.
  absl::StatusOr<RestoreResult> RestoreFolder(const std::string& folder, const RestoreSpec& spec,
                                              const CancelToken& cancel);
  absl::Status DeleteSnapshot(std::string_view snapshot);

  DatabaseInfo GetInfo() const;

  // OK while writes are taken (a full disk does not count). FailedPrecondition after a failed write
  // or sync: the process should drain and exit, so that a restart recovers. DataLoss when synced
  // commits are missing: reads go on.
  absl::Status CheckWritable() const;

  // Stops the workers and flushes; builds that run are given up. No use after it.
  absl::Status Close();

 private:
  struct Rep;
  explicit Database(std::unique_ptr<Rep> rep);
  absl::StatusOr<WriteResult> Put(std::string_view collection, std::vector<RecordInput> records,
                                  bool insert, const CancelToken& cancel,
                                  const WriteOptions& options);
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::engine
