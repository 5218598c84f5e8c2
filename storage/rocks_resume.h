// A resume of a RocksDB database that comes to an end.
//
// A flush whose turn comes while a background error stands is left in RocksDB's queue, but no
// longer counted (7.8, DBImpl::BackgroundFlush). From then on every flush that is asked for runs
// the one before it, and who waits for the last one waits for ever. So more of them are asked for
// meanwhile.
//
// Internal to storage. Thread safety: one call at a time, and no other thread writes meanwhile.
#pragma once

#include "rocksdb/db.h"

#include <vector>

namespace azimuth::storage {

// Goes on after a background error: begins a new log, and flushes everything.
rocksdb::Status ResumeDb(rocksdb::DB& db,
                         const std::vector<rocksdb::ColumnFamilyHandle*>& families);

}  // namespace azimuth::storage
