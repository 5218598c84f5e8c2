// What is inside RowTables. Internal to storage: store.cc takes it in.
#pragma once

#include "storage/rocks_options.h"
#include "storage/row_tables.h"

#include "absl/status/status.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "rocksdb/sst_file_writer.h"
#include "rocksdb/status.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::storage {

// Keys of one family, half-open.
struct RowTables::Range {
  Family family{};
  std::string first;
  std::string end;
};

struct RowTables::Rep {
  // What stands in one run of files: a family, and the start that all its keys have.
  struct Run {
    std::unique_ptr<rocksdb::SstFileWriter> writer;  // Null between two files.
    std::vector<std::string> files;                  // The one being written included.
    std::string first_key;
    std::string last_key;
  };

  rocksdb::DB* db = nullptr;
  const std::vector<rocksdb::ColumnFamilyHandle*>* handles = nullptr;  // By Family.
  std::string path_prefix;                                             // Of the files.
  std::map<std::pair<Family, std::string>, Run> runs;
  std::map<RowStoreId, RowId> ends;  // Past the last row of each row store that has rows here.
  size_t files_made = 0;
  uint64_t bytes = 0;
  rocksdb::Status error;  // The first.

  // `common`: how many bytes of the key the keys of a run share.
  void Put(Family family, size_t common, std::string_view key, std::string_view value);
  void NoteRow(RowStoreId store, RowId row);
  // As RowTables::Finish.
  absl::Status Finish();
  std::vector<Range> Ranges() const;
  // For DB::IngestExternalFiles.
  std::vector<rocksdb::IngestExternalFileArg> Arguments() const;
};

}  // namespace azimuth::storage
