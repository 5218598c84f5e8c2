// What is inside a CommitBatch. Internal to storage: store.cc commits it.
#pragma once

#include "storage/row_tables.h"
#include "storage/store.h"

#include "rocksdb/status.h"
#include "rocksdb/write_batch.h"

#include <memory>

namespace azimuth::storage {

struct CommitBatch::Rep {
  rocksdb::WriteBatch batch;
  std::unique_ptr<RowTables> tables;  // Where vectors go; null: into `batch`.
  // The first change that RocksDB refused (a key or value of 4 GiB); Commit returns it.
  rocksdb::Status error;
  rocksdb::Status error_at_save_point;

  void Note(const rocksdb::Status& status) {
    if (error.ok() && !status.ok()) error = status;
  }
};

}  // namespace azimuth::storage
