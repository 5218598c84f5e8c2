// A resume of a RocksDB database that comes to an end.
//
// A flush whose turn comes while a background error stands is left in RocksDB's queue, but no
// longer counted (7.8, DBImpl::BackgroundFlush). From then on every flush that is asked for runs
// the one before it, or one before that if it happened again, and who waits for the last one waits
// for ever. So an error is held back until a flush that is due has begun; and should one be left
// all the same, more of them are asked for: during the resume, and later whenever memtables wait
// without a flush. Else writes would stop for good once there are as many of them as there may be.
//
// Internal to storage. Thread safety: one call at a time, and no other thread writes meanwhile.
#pragma once

#include "rocksdb/db.h"

#include <functional>
#include <vector>

namespace azimuth::storage {

// Goes on after a background error: begins a new log, and flushes everything. Calls `gave_up`, on
// another thread and again and again, if that does not come to an end within a minute although
// nothing runs that it would wait for.
rocksdb::Status ResumeDb(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families,
                         const std::function<void()>& gave_up);

// Asks for a flush if memtables wait for one and none runs; true if it did.
bool FlushIfLeft(rocksdb::DB& db, const std::vector<rocksdb::ColumnFamilyHandle*>& families);

// True if writes are stopped and nothing runs that would let them go on.
bool WritesHang(rocksdb::DB& db);

// Returns when no flush is due that has not begun, or after two seconds.
void LetFlushBegin(rocksdb::DB& db);

}  // namespace azimuth::storage
