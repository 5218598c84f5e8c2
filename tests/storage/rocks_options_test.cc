#include "storage/rocks_options.h"

#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/listener.h"
#include "rocksdb/write_batch.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::TempDir;

TEST(RocksOptions, ChargeMemtablesAndBlocksToOneCache) {
  constexpr size_t kMiB = size_t{1} << 20;
  const StoreOptions options{.block_cache_bytes = 8 * kMiB, .write_buffer_bytes = 4 * kMiB};
  const auto cache = MakeCache(options);
  EXPECT_EQ(cache->GetCapacity(), options.memory_bytes());
  EXPECT_EQ(options.memory_bytes(), 24 * kMiB);

  const TempDir dir;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(MakeDbOptions(options, cache), dir.File("rocks"),
                                MakeFamilies(options, cache), &handles, &raw)
                  .ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  rocksdb::ColumnFamilyHandle* vectors = handles[static_cast<size_t>(Family::kVectors)];
  const size_t empty = cache->GetUsage();
  // Small enough for one of the cache's shards.
  const std::string value(kMiB / 8, 'v');
  for (int i = 0; i < 24; ++i) {
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), vectors, std::to_string(i), value).ok());
  }
  const size_t filled = cache->GetUsage();
  EXPECT_GE(filled, empty + 3 * kMiB);
  ASSERT_TRUE(db->Flush(rocksdb::FlushOptions(), vectors).ok());
  // Freed by whoever held the memtable last, which may be a thread of RocksDB, and block by block.
  const size_t mostly_free = empty + kMiB;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (cache->GetUsage() >= mostly_free && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_LT(cache->GetUsage(), mostly_free);
  // A block that is read stands in the same cache.
  const size_t flushed = cache->GetUsage();
  std::string read;
  ASSERT_TRUE(db->Get(rocksdb::ReadOptions(), vectors, "7", &read).ok());
  EXPECT_EQ(read, value);
  EXPECT_GE(cache->GetUsage(), flushed + value.size());
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
}

// Counts flushes by what they were asked for.
class FlushReasons final : public rocksdb::EventListener {
 public:
  void OnFlushCompleted(rocksdb::DB* /*db*/, const rocksdb::FlushJobInfo& info) override {
    (info.flush_reason == rocksdb::FlushReason::kWriteBufferManager ? by_bound_ : others_)++;
  }
  size_t by_bound() const { return by_bound_; }
  size_t others() const { return others_; }

 private:
  std::atomic<size_t> by_bound_{0};
  std::atomic<size_t> others_{0};
};

// RocksDB 7.8 ends the process where requests for different reasons meet in its queue.
TEST(RocksOptions, FlushesAreAskedForByTheBoundOfAllMemtablesOnly) {
  const StoreOptions options{.block_cache_bytes = 0, .write_buffer_bytes = size_t{64} << 10};
  const auto cache = MakeCache(options);
  const auto reasons = std::make_shared<FlushReasons>();
  rocksdb::DBOptions db_options = MakeDbOptions(options, cache);
  db_options.listeners.push_back(reasons);
  const TempDir dir;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(
      rocksdb::DB::Open(db_options, dir.File("rocks"), MakeFamilies(options, cache), &handles, &raw)
          .ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  // Each write fills a family to more than the bound of all.
  const std::string value(size_t{1} << 10, 'v');
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (reasons->by_bound() < 20 && reasons->others() == 0 &&
         std::chrono::steady_clock::now() < deadline) {
    rocksdb::WriteBatch batch;
    for (int j = 0; j < 200; ++j) {
      const Family family = j % 2 == 0 ? Family::kVectors : Family::kRows;
      ASSERT_TRUE(batch.Put(handles[static_cast<size_t>(family)], std::to_string(j), value).ok());
    }
    ASSERT_TRUE(db->Write(rocksdb::WriteOptions(), &batch).ok());
  }
  EXPECT_GE(reasons->by_bound(), 20U);
  EXPECT_EQ(reasons->others(), 0U);
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
}

// What is pinned once a family of small entries was merged to its last level and opened anew.
size_t PinnedBytes(Family family, size_t entries) {
  const StoreOptions options{.block_cache_bytes = size_t{8} << 20,
                             .write_buffer_bytes = size_t{4} << 20};
  const TempDir dir;
  size_t pinned = 0;
  for (const bool fill : {true, false}) {
    const auto cache = MakeCache(options);
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    EXPECT_TRUE(rocksdb::DB::Open(MakeDbOptions(options, cache), dir.File("rocks"),
                                  MakeFamilies(options, cache), &handles, &raw)
                    .ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    rocksdb::ColumnFamilyHandle* handle = handles[static_cast<size_t>(family)];
    for (size_t i = 0; fill && i < entries; ++i) {
      EXPECT_TRUE(db->Put(rocksdb::WriteOptions(), handle, std::to_string(i), "value").ok());
    }
    rocksdb::CompactRangeOptions all;
    all.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
    if (fill) {
      EXPECT_TRUE(db->CompactRange(all, handle, nullptr, nullptr).ok());
    }
    std::string read;
    EXPECT_TRUE(db->Get(rocksdb::ReadOptions(), handle, "7", &read).ok());
    pinned = cache->GetPinnedUsage();
    for (rocksdb::ColumnFamilyHandle* each : handles) {
      EXPECT_TRUE(db->DestroyColumnFamilyHandle(each).ok());
    }
  }
  return pinned;
}

TEST(RocksOptions, PinTheFiltersOfKeysAndOfNothingElse) {
  constexpr size_t kEntries = 200'000;
  const size_t rows = PinnedBytes(Family::kRows, kEntries);
  const size_t keys = PinnedBytes(Family::kKeys, kEntries);
  EXPECT_GE(keys, rows + kEntries * 10 / 8);
  EXPECT_LE(keys, rows + kEntries * 2);
}

TEST(RocksOptions, FiltersOfKeysStayPastTheBoundAndTheStoreSaysSo) {
  constexpr uint64_t kKeys = 400'000;
  constexpr uint64_t kBatch = 20'000;
  constexpr uint64_t kBuffer = uint64_t{64} << 10;
  const TempDir dir;
  StoreOptions options{.block_cache_bytes = 0, .write_buffer_bytes = kBuffer};
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Store> store, Store::Open(dir.File("rocks"), options));
  for (uint64_t first = 0; first < kKeys; first += kBatch) {
    CommitBatch batch;
    for (uint64_t key = first; key < first + kBatch; ++key) {
      batch.PutKey(RowStoreId{1}, Key{static_cast<int64_t>(key)}, {.row = RowId{key}});
    }
    ASSERT_OK(store->Commit(batch, false));
  }
  ASSERT_OK(store->Close());
  ASSERT_OK_AND_ASSIGN(store, Store::Open(dir.File("rocks"), options));
  std::vector<Key> spread;
  for (uint64_t key = 0; key < kKeys; key += 1000) spread.emplace_back(static_cast<int64_t>(key));
  ASSERT_OK(store->LookUpKeys(RowStoreId{1}, spread));
  // More than a byte for each key; a quarter of a MiB is the bound.
  EXPECT_GT(store->memory_past_bound(), kKeys - options.memory_bytes());
  options.block_cache_bytes = uint64_t{16} << 20;
  store.reset();
  ASSERT_OK_AND_ASSIGN(store, Store::Open(dir.File("rocks"), options));
  ASSERT_OK(store->LookUpKeys(RowStoreId{1}, spread));
  EXPECT_EQ(store->memory_past_bound(), 0U);
}

}  // namespace
}  // namespace azimuth::storage
