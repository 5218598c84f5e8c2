// Snapshots as the engine's callers see them. docs/OPERATIONS.md, "Snapshots and backups".
//
// Thread safety: plain values.
#pragma once

#include "base/ids.h"

#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::engine {

struct SnapshotInfo {
  std::string id;  // Of 16 hexadecimal digits: the name of its folder.
  std::string name;
  std::string collection;  // Empty: it is of the whole store.
  Seq as_of{};             // It has exactly the commits up to this one.
  uint64_t incarnation = 0;
  int64_t created_unix_us = 0;
  uint64_t bytes = 0;  // Of all its files; those that it shares with the store take no room twice.
  uint64_t files = 0;
  uint64_t rows = 0;    // Records.
  std::string problem;  // Not empty: it is damaged, and only `id` is sure.
};

// What a check of a snapshot found.
struct SnapshotReport {
  SnapshotInfo info;
  uint64_t bytes_read = 0;
  uint64_t rows = 0;  // Versions of records, also those that were replaced or deleted.
  uint64_t keys = 0;
  uint64_t vectors = 0;
  // Each with the file. What is wrong with a segment file costs time at a restore, and no rows; and
  // counters and ids that are wrong are put right. `restorable` is false if rows cannot be
  // restored; of a snapshot of the whole store: if it cannot be as a whole (RestoreDirectory). Then
  // some of its collections may be all the same.
  std::vector<std::string> problems;
  bool restorable = true;
};

struct RestoreSpec {
  std::string snapshot = {};    // Its name or id.
  std::string collection = {};  // Which one of a snapshot of the whole store.
  std::string target = {};      // The name that it gets; empty: its own.
  // A collection of that name is replaced, in the commit that makes this one.
  bool overwrite = false;
};

struct RestoreResult {
  std::string collection;
  CollectionId id{};
  uint64_t rows = 0;  // Records.
  Seq as_of{};        // Of the commit that made it.
  // Segment files that were bad or missing: their rows are scanned until they are built again.
  std::vector<std::string> warnings;
};

}  // namespace azimuth::engine
