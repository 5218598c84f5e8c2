// RocksDB's options and the column families, all in one place. Internal to storage.
//
// Thread safety: functions only.
#pragma once

#include "storage/store.h"

#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::storage {

// The column families; the number is RocksDB's own id of the family, given in order of creation and
// kept in its manifest. New ones go to the end; never renumber.
enum class Family : uint32_t {
  kMeta = 0,  // RocksDB's "default": applied position, next ids, counters.
  kCatalog = 1,
  kRows = 2,
  kVectors = 3,
  kKeys = 4,
  kRetired = 5,
  kRequests = 6,  // Remembered request ids.
};
inline constexpr size_t kFamilyCount = 7;

// The one cache of a database: its blocks and its memtables are charged to it.
std::shared_ptr<rocksdb::Cache> MakeCache(const StoreOptions& options);

rocksdb::DBOptions MakeDbOptions(const StoreOptions& options,
                                 const std::shared_ptr<rocksdb::Cache>& cache);

// One for each Family, in order.
std::vector<rocksdb::ColumnFamilyDescriptor> MakeFamilies(
    const StoreOptions& options, const std::shared_ptr<rocksdb::Cache>& cache);

// For scans of a range, which must not push the point reads' blocks out of the cache.
rocksdb::ReadOptions MakeScanOptions();

}  // namespace azimuth::storage
