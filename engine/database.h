// Database: the whole of Azimuth without a network. The server calls this and nothing else.
//
// Ownership: owns the data directory, the store, all collections and the background workers.
// Thread safety: every function may be called from any number of threads, Close excepted (once,
// when no other call runs). Promise: when a write returns OK it is synced to disk and every later
// read sees it, whole. Errors common to all: InvalidArgument (the message names place, value and
// what is allowed), NotFound (collection), DeadlineExceeded and Cancelled (by the token; a write
// may only give them before it was applied), FailedPrecondition (the store is read-only after a
// failed sync), Unavailable (that failing write itself: outcome unknown).
#pragma once

#include "base/clock.h"
#include "base/deadline.h"
#include "base/ids.h"
#include "engine/query/request.h"
#include "engine/record.h"
#include "engine/schema.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

struct DatabaseOptions {
  std::string data_dir;
  const Clock* clock = &Clock::System();
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

enum class SegmentState : uint8_t { kGrowing, kBuilding, kSealed };

struct SegmentStats {
  SegmentId id{};  // Zero without a file.
  SegmentState state = SegmentState::kGrowing;
  uint64_t rows = 0;
  uint64_t retired_rows = 0;
  uint64_t file_bytes = 0;
  uint64_t memory_bytes = 0;
};

struct CollectionStats {
  uint64_t row_count = 0;       // Live rows at as_of.
  uint64_t unindexed_rows = 0;  // Rows that wait for a segment file.
  std::vector<SegmentStats> segments;
  Seq as_of{};
  std::string index_error;  // Of the last background build, if it failed.
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

  // AlreadyExists names the first key that exists; InvalidArgument a key that comes twice.
  absl::StatusOr<WriteResult> Insert(std::string_view collection, std::vector<RecordInput> records,
                                     const CancelToken& cancel);
  // Of a key that comes twice the last record wins.
  absl::StatusOr<WriteResult> Upsert(std::string_view collection, std::vector<RecordInput> records,
                                     const CancelToken& cancel);
  // Keys without a record are no error.
  absl::StatusOr<WriteResult> DeleteKeys(std::string_view collection, std::vector<Key> keys,
                                         const CancelToken& cancel);
  // Chooses rows at one sequence number; rows that were replaced or deleted before the commit are
  // left alone. An empty filter is InvalidArgument unless `all`, which takes no filter.
  absl::StatusOr<WriteResult> DeleteMatching(std::string_view collection, const FilterText& filter,
                                             bool all, const CancelToken& cancel);

  absl::StatusOr<GetResult> Get(std::string_view collection, std::span<const Key> keys,
                                const Projection& projection, const CancelToken& cancel) const;
  absl::StatusOr<QueryResult> Query(std::string_view collection, const FilterText& filter,
                                    uint32_t limit, const Projection& projection,
                                    const CancelToken& cancel) const;
  absl::StatusOr<CountResult> Count(std::string_view collection, const FilterText& filter,
                                    const CancelToken& cancel) const;
  // `queries` holds one or more vectors of the field's dimension, one after the other; all are
  // answered at one sequence number.
  absl::StatusOr<SearchResult> Search(std::string_view collection, std::span<const float> queries,
                                      const SearchSpec& spec, const CancelToken& cancel) const;
  // How many floats one query of that field has; for callers that must cut a block of queries.
  absl::StatusOr<uint32_t> QueryDimension(std::string_view collection,
                                          std::string_view vector_field) const;

  // False once a failed sync made the store read-only: the process should drain and exit.
  bool writable() const;

  // Stops the workers and flushes; builds that run are given up. No use after it.
  absl::Status Close();

 private:
  struct Rep;
  explicit Database(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::engine
