// What the tests of snapshots share: collections of SmallSchema(kDim) with random rows, and all
// that a reader can see of one, to be compared.
#pragma once

#include "tests/engine/manual_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine::testing {

inline constexpr uint32_t kSnapshotDim = 4;

struct SeenRow {
  int64_t n = 0;
  std::vector<float> vector;
  Seq version{};
  friend bool operator==(const SeenRow&, const SeenRow&) = default;
};
using SeenRows = std::map<int64_t, SeenRow>;

// All records of a collection of at most kLimitMax.
inline SeenRows Contents(const Database& db, const std::string& collection) {
  SeenRows rows;
  const auto result =
      db.Query(collection, {}, 16384, {.fields = {{"n"}}, .vectors = {"v"}}, CancelToken());
  EXPECT_OK(result);
  if (!result.ok()) return rows;
  for (const RecordOutput& record : result->records) {
    SeenRow row;
    if (const auto n = record.fields.find("n"); n != record.fields.end()) {
      row.n = std::get<int64_t>(n->second.data);
    }
    if (const auto v = record.vectors.find("v"); v != record.vectors.end()) row.vector = v->second;
    row.version = record.version;
    rows[std::get<int64_t>(record.key)] = std::move(row);
  }
  return rows;
}

// Keys and distances of the nearest, by the walk that a search takes by itself.
inline std::vector<std::pair<int64_t, float>> Nearest(const Database& db,
                                                      const std::string& collection,
                                                      const std::vector<float>& query,
                                                      SearchPath* path = nullptr) {
  std::vector<std::pair<int64_t, float>> hits;
  const auto result = db.Search(collection, query, {.limit = 10}, CancelToken());
  EXPECT_OK(result);
  if (!result.ok()) return hits;
  for (const SearchHit& hit : result->queries[0].hits) {
    hits.emplace_back(std::get<int64_t>(hit.record.key), hit.distance);
  }
  if (path != nullptr) *path = result->queries[0].work.path;
  return hits;
}

class SnapshotTest : public ManualDatabaseTest {
 protected:
  std::vector<float> RandomVector() {
    std::vector<float> vector(kSnapshotDim);
    for (float& x : vector) x = static_cast<float>(random_() % 1000);
    return vector;
  }
  // Writes keys [first, first + count); n is random.
  void Put(const std::string& collection, int64_t first, int64_t count) {
    std::vector<std::vector<float>> vectors;
    for (int64_t i = 0; i < count; ++i) vectors.push_back(RandomVector());
    std::vector<RecordInput> records;
    for (int64_t i = 0; i < count; ++i) {
      records.push_back(MakeRecord(first + i, static_cast<int64_t>(random_() % 100),
                                   vectors[static_cast<size_t>(i)]));
    }
    ASSERT_OK(db_->Upsert(collection, std::move(records), CancelToken()));
  }
  void Delete(const std::string& collection, int64_t first, int64_t count) {
    std::vector<Key> keys;
    for (int64_t i = 0; i < count; ++i) keys.emplace_back(first + i);
    ASSERT_OK(db_->DeleteKeys(collection, std::move(keys), CancelToken()));
  }
  // Sealed segments with graphs, some rows that were replaced or deleted, and a growing segment.
  void MakeCollection(const std::string& name, int64_t rows = 500) {
    ASSERT_OK(db_->CreateCollection(name, SmallSchema(kSnapshotDim), false, CancelToken()));
    Put(name, 0, rows);
    Settle();
    Put(name, rows / 4, rows / 10);
    Delete(name, rows / 2, rows / 20);
  }
  void Snapshot(const std::string& collection, const std::string& name) {
    ASSERT_OK_AND_ASSIGN(info_, db_->CreateSnapshot(collection, name, CancelToken()));
  }
  std::string FolderOf(const std::string& id) const {
    return options_.data_dir + "/snapshots/" + id;
  }
  // Names in snapshots/.
  std::vector<std::string> Left() const {
    std::vector<std::string> names;
    std::error_code none;
    for (const auto& entry :
         std::filesystem::directory_iterator(options_.data_dir + "/snapshots", none)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  // Files of segments.
  size_t SegmentFiles() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.data_dir + "/segments")) {
      count += entry.is_regular_file() ? 1 : 0;
    }
    return count;
  }

  std::mt19937_64 random_{7};
  SnapshotInfo info_;
};

}  // namespace azimuth::engine::testing
