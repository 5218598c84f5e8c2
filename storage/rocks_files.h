// The file system as RocksDB gets it: that of storage::Files, with what this version of RocksDB
// lacks: a table that the disk cannot read is a damaged table, a log whose sync failed is given up
// (also on a full disk), a manifest that could not be written keeps its tables, and the text log
// may fail.
//
// RocksDB 7.8 makes a manifest, renames a temporary file to CURRENT, which names it, and syncs the
// directory only after both. A file system that makes the two durable in another order leaves,
// after a power failure in between, a CURRENT that leads nowhere: the database does not open any
// more. So the directory is synced before such a rename as well. It costs one sync per opening.
//
// After a failed write or sync of the manifest nobody knows what of it is on disk, but RocksDB
// removes the tables whose intake failed with it: a start would look for them in vain. So tables
// stay from then on, until a new manifest has taken the place of that one. RocksDB looks for tables
// that nobody names once it goes on after a full disk, and at each start. A copy of the database (a
// checkpoint) has a manifest of its own, of which none of this is true: it lies in another folder.
//
// Internal to storage. Thread safety: as rocksdb::Env.
#pragma once

#include "rocksdb/env.h"

#include <memory>
#include <string>

namespace azimuth::storage {

// Over `base`, which outlives it; over RocksDB's default if null. For the database in `folder`.
std::unique_ptr<rocksdb::Env> MakeOrderedEnv(rocksdb::Env* base, const std::string& folder);

}  // namespace azimuth::storage
