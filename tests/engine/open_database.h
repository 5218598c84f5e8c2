// A database in a temporary directory with settings so small that seals, builds and merges happen
// all the time, and the few calls that most tests make of it.
#pragma once

#include "engine/database.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gtest/gtest.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine::testing {

inline DatabaseOptions SmallOptions(const std::string& path) {
  DatabaseOptions options;
  options.data_dir = path;
  options.growing_rows_max = 96;
  options.graph_rows_min = 32;
  options.growing_idle_ms = 20;
  options.build_threads = 2;
  options.bulk_commit_bytes = 256;
  options.block_cache_bytes = uint64_t{8} << 20;
  options.write_buffer_bytes = uint64_t{1} << 20;
  return options;
}

// int64 keys; `n` int64, `color` string; one vector field `v`.
inline Schema SmallSchema(uint32_t dim, Metric metric = Metric::kL2) {
  Schema schema;
  schema.fields.push_back({.name = "n", .type = FieldType::kInt64});
  schema.fields.push_back({.name = "color", .type = FieldType::kString});
  schema.vectors.push_back({.name = "v", .dim = dim, .metric = metric});
  return schema;
}

// A record of SmallSchema; `vector` must outlive it.
inline RecordInput MakeRecord(int64_t key, int64_t n, const std::vector<float>& vector) {
  RecordInput record;
  record.key = key;
  record.fields.push_back({"n", Value{n}});
  record.vectors.push_back({"v", vector});
  return record;
}

// Waits until no row waits for a segment file. False after a minute.
inline bool WaitIndexed(const Database& db, const std::string& collection) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (std::chrono::steady_clock::now() < deadline) {
    const auto stats = db.GetStats(collection);
    if (!stats.ok()) return false;
    if (stats->unindexed_rows == 0) return true;
    std::this_thread::yield();
  }
  return false;
}

inline std::unique_ptr<Database> OpenOrDie(const DatabaseOptions& options) {
  auto db = Database::Open(options);
  if (!db.ok()) {
    ADD_FAILURE() << db.status();
    std::abort();
  }
  return *std::move(db);
}

}  // namespace azimuth::engine::testing
