#include "storage/rocks_options.h"

#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"
#include "rocksdb/write_buffer_manager.h"

#include <algorithm>
#include <cstdarg>
#include <memory>

namespace azimuth::storage {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

struct FamilyTuning {
  const char* name;
  bool compress;
  // Point reads are nearly all of things that are there.
  bool reads_hit;
  // Indexes and filters stay in the cache while their table is open, whatever else is read.
  bool pins_filters = false;
  size_t block_bytes;
};

constexpr FamilyTuning kFamilies[kFamilyCount] = {
    {.name = "default", .compress = false, .reads_hit = true, .block_bytes = 4096},
    {.name = "catalog", .compress = true, .reads_hit = true, .block_bytes = 4096},
    {.name = "rows", .compress = true, .reads_hit = true, .block_bytes = 8192},
    // Floats do not compress. A vector is some kilobytes: a small block would hold one and need an
    // index entry for it.
    {.name = "vectors", .compress = false, .reads_hit = true, .block_bytes = 16384},
    // Every new key is looked up in vain before it is written. Its filters, 1.25 to 2 bytes a key
    // with the indexes, must not have to give way to those of rows and vectors: without them a
    // write reads the disk for each of its keys.
    {.name = "keys",
     .compress = true,
     .reads_hit = false,
     .pins_filters = true,
     .block_bytes = 4096},
    {.name = "retired", .compress = true, .reads_hit = true, .block_bytes = 4096},
    {.name = "requests", .compress = true, .reads_hit = false, .block_bytes = 4096},
};

// LZ4 costs a few hundred MB/s of one core at most; without it in the build, nothing is compressed.
rocksdb::CompressionType RowCompression() {
  const std::vector<rocksdb::CompressionType> supported = rocksdb::GetSupportedCompressions();
  const bool has_lz4 =
      std::find(supported.begin(), supported.end(), rocksdb::kLZ4Compression) != supported.end();
  return has_lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
}

// Swallows RocksDB's text log.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

void SetLogOptions(rocksdb::DBOptions& db) {
  // A file of text that cannot be written or rolled on a full disk ends the process (7.8, with
  // assertions), one that does not roll grows without end, and its lines have keys in them. What
  // goes wrong StoreEvents tells.
  db.info_log = std::make_shared<NoLog>();
  // Statistics go to that log every ten minutes by default, and into a hidden column family.
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  // The manifest is read whole at start.
  db.max_manifest_file_size = 64 * kMiB;
}

void SetDurabilityOptions(rocksdb::DBOptions& db, const StoreOptions& options) {
  // A torn last record, which a crash leaves, is cut off; damage before it refuses to open. The
  // default mode would silently drop all acknowledged writes after the damage.
  db.wal_recovery_mode = options.accept_log_damage
                             ? rocksdb::WALRecoveryMode::kPointInTimeRecovery
                             : rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  // All families are flushed together: without its log, too, a store is whole as of one commit.
  // Else a log that went missing would leave rows without their keys, and keys without rows.
  db.atomic_flush = true;
  // Every write reaches the kernel before it returns: a killed process loses nothing.
  db.manual_wal_flush = false;
  // Syncing ranges of the log can leave holes in it after a power failure.
  db.wal_bytes_per_sync = 0;
  // A recycled log's old records could be taken for new ones by the recovery mode above.
  db.recycle_log_file_num = 0;
  // A batch must be seen whole.
  db.unordered_write = false;
  // An error of writing or of merging makes the database read-only at once.
  db.paranoid_checks = true;
  db.verify_sst_unique_id_in_manifest = true;
  // Version 7.8 reports a missing log after SyncWAL and then does not open (fixed in 7.10).
  db.track_and_verify_wals_in_manifest = false;
  // No error heals by itself (that of a full disk is StoreEvents' and Store::Commit's to heal).
  db.max_bgerror_resume_count = 0;
  // Never reached: all families are flushed together, so that a log is as short-lived as memtables.
  db.max_total_wal_size = std::max<uint64_t>(64 * options.write_buffer_bytes, 1024 * kMiB);
  // The log has it all: a stop need not wait for a flush. Store::Close flushes where it is wanted.
  db.avoid_flush_during_shutdown = true;
  // Flushed after a recovery, so that the next start does not read the same log again.
  db.avoid_flush_during_recovery = false;
}

}  // namespace

std::shared_ptr<rocksdb::Cache> MakeCache(const StoreOptions& options) {
  // Memtables take their share from the cache as they grow (dummy entries of 256 KiB), and give it
  // back to blocks when they are flushed: memory is bounded once, and what ingest does not use
  // serves reads. Blocks never have less than block_cache_bytes but for memtables that wait for
  // their flush past their own bound; a cache that is not strict takes those in and shrinks to
  // nothing instead of failing a write.
  return rocksdb::NewLRUCache(options.memory_bytes());
}

rocksdb::DBOptions MakeDbOptions(const StoreOptions& options,
                                 const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::DBOptions db;
  db.create_if_missing = !options.read_only;
  // In order of kFamilies; Store::Open checks the ids that came out.
  db.create_missing_column_families = !options.read_only;
  SetDurabilityOptions(db, options);
  SetLogOptions(db);
  // At least one flush and one merge at a time.
  db.max_background_jobs = std::max(2, options.background_threads);
  // The only bound that asks for flushes. Flushes of all families that were asked for for different
  // reasons end the process if they meet in the queue (an assertion of 7.8), which bounds of single
  // families and of the log make them do. Flushed at 7/8 of it, or at a half while a flush runs.
  db.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(2 * options.write_buffer_bytes, cache);
  // Leaves most of a limit of 1,024 descriptors to connections and segment files.
  db.max_open_files = 512;
  // Under that bound a start opens at most 16 tables of a family in advance. RocksDB would start as
  // many threads for them, for a family without tables too: 7 ms of an open of 10.
  db.max_file_opening_threads = 1;
  // Sizes and presence of all table files are checked at start, their statistics need not be read.
  db.skip_checking_sst_file_sizes_on_db_open = false;
  db.skip_stats_update_on_db_open = true;
  // Evens out the writing of table files, so that a log sync does not wait behind a large one.
  db.bytes_per_sync = kMiB;
  return db;
}

std::vector<rocksdb::ColumnFamilyDescriptor> MakeFamilies(
    const StoreOptions& options, const std::shared_ptr<rocksdb::Cache>& cache) {
  // Ten bits for each key: one in a hundred look-ups of a missing key reads a block in vain.
  const std::shared_ptr<const rocksdb::FilterPolicy> bloom(rocksdb::NewBloomFilterPolicy(10));
  const rocksdb::CompressionType compression = RowCompression();

  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const FamilyTuning& tuning : kFamilies) {
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = cache;
    table.block_size = tuning.block_bytes;
    table.filter_policy = bloom;
    // Indexes and filters count against the cache. Those that are pinned it keeps beyond its
    // capacity, too: of keys 1.25 to 2 bytes each, of the tables that are open. What is past the
    // bound the store tells (Store::memory_past_bound), and writes and builds have the less.
    table.cache_index_and_filter_blocks = true;
    table.pin_l0_filter_and_index_blocks_in_cache = true;
    if (tuning.pins_filters) {
      table.metadata_cache_options.unpartitioned_pinning = rocksdb::PinningTier::kAll;
    }
    table.format_version = 5;

    rocksdb::ColumnFamilyOptions family;
    family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    family.compression = tuning.compress ? compression : rocksdb::kNoCompression;
    // A filter on the last level is only of use to look-ups that find nothing.
    family.optimize_filters_for_hits = tuning.reads_hit;
    // Past what all have together with one group of commits more, so that the bound of all comes
    // first; only a recovery, which does not ask for that one, meets it.
    family.write_buffer_size = std::max<size_t>(4 * options.write_buffer_bytes, 256 * kMiB);
    family.arena_block_size = std::min<size_t>(kMiB, options.write_buffer_bytes / 8);
    // A third one takes writes while two are flushed.
    family.max_write_buffer_number = 3;
    // Nine tenths of the data on the last level: little space lost to what was overwritten.
    family.level_compaction_dynamic_level_bytes = true;
    family.force_consistency_checks = true;
    family.disable_auto_compactions = !options.merges_tables;
    families.emplace_back(tuning.name, family);
  }
  return families;
}

rocksdb::ReadOptions MakeScanOptions() {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  // Past RocksDB's own 256 KiB: rows and vectors are read in order by the hundred megabytes.
  read.readahead_size = kMiB;
  return read;
}

}  // namespace azimuth::storage
