// RocksDB's Status to absl::Status: the only such mapping. Internal to storage.
#pragma once

#include "absl/status/status.h"
#include "rocksdb/status.h"

#include <string_view>

namespace azimuth::storage {

// OK for OK; else the code that the error has for reading and opening, and `doing`, for example
// "read row 17 of row store 3", before RocksDB's own text.
absl::Status FromRocks(std::string_view doing, const rocksdb::Status& status);

// The same for a write: ResourceExhausted if the disk is full, else Unavailable, because an error
// does not say that nothing was written.
absl::Status FromRocksWrite(std::string_view doing, const rocksdb::Status& status);

// The same for a file that nothing leads to yet: ResourceExhausted also for what else there may be
// more of later, such as descriptors.
absl::Status FromRocksNewFile(std::string_view doing, const rocksdb::Status& status);

}  // namespace azimuth::storage
