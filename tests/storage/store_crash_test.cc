// What a store has after its write-ahead log was cut or damaged as a crash or a bad disk would.
//
// Method: commits are written, the store goes away without a flush, and the log's bytes are changed
// in a copy of the directory. Every commit writes all column families and its own number as the
// applied position, so that one look tells which commits are there and whether each is whole.
#include "storage/store.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;

constexpr RowStoreId kStore{1};
constexpr FieldId kField{1};
constexpr uint64_t kCommits = 8;
constexpr StoreOptions kSmall{.block_cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20};

// Commits 1 to kCommits: commit n writes row n in every family.
void MakeStore(const std::string& path) {
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(path, kSmall));
  for (uint64_t n = 1; n <= kCommits; ++n) {
    CommitBatch batch;
    const Key key = static_cast<int64_t>(n);
    batch.PutRow(kStore, RowId{n}, {.insert_seq = Seq{n}, .key = key});
    batch.PutVector(kStore, kField, RowId{n}, std::vector<float>(100, static_cast<float>(n)));
    batch.PutKey(kStore, key, {.row = RowId{n}});
    batch.PutRetired(kStore, RowId{n}, Seq{n + 1});
    batch.PutSegment({.id = SegmentId{n}, .row_store = kStore});
    batch.PutAppliedSeq(Seq{n});
    ASSERT_OK(store->Commit(batch, n % 2 == 0));
  }
}

// The log that has the commits: the largest.
std::string LogOf(const std::string& path) {
  std::string found;
  uint64_t largest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() != ".log" || entry.file_size() < largest) continue;
    found = entry.path().filename().string();
    largest = entry.file_size();
  }
  return found;
}

// Expects commits 1 to the applied position in all families and nothing else; returns the position.
uint64_t WholeCommits(const Store& store) {
  const uint64_t applied = Raw(store.GetAppliedSeq().value_or(Seq{999}));
  std::vector<RowId> rows;
  std::vector<Key> keys;
  for (uint64_t n = 1; n <= kCommits; ++n) {
    rows.push_back(RowId{n});
    keys.emplace_back(static_cast<int64_t>(n));
  }
  const auto stored = store.GetRows(kStore, rows);
  const auto vectors = store.GetVectors(kStore, kField, rows);
  const auto entries = store.LookUpKeys(kStore, keys);
  const auto segments = store.ListSegments();
  uint64_t retired = 0;
  EXPECT_OK(store.ScanRetired(kStore, [&](RowId, Seq) {
    ++retired;
    return absl::OkStatus();
  }));
  EXPECT_OK(stored);
  EXPECT_OK(vectors);
  EXPECT_OK(entries);
  EXPECT_OK(segments);
  if (!stored.ok() || !vectors.ok() || !entries.ok() || !segments.ok()) return 999;
  EXPECT_EQ(retired, applied);
  EXPECT_EQ(segments->size(), applied);
  for (uint64_t n = 1; n <= kCommits; ++n) {
    EXPECT_EQ((*stored)[n - 1].has_value(), n <= applied) << n;
    EXPECT_EQ((*vectors)[n - 1].empty(), n > applied) << n;
    EXPECT_EQ((*entries)[n - 1].has_value(), n <= applied) << n;
  }
  return applied;
}

TEST(StoreCrash, ACutLogLeavesWholeCommitsOnly) {
  const TempDir dir;
  const std::string origin = dir.File("origin");
  MakeStore(origin);
  const std::string log = LogOf(origin);
  const std::string bytes = ReadBytes(origin + "/" + log);
  ASSERT_GT(bytes.size(), kCommits * 400);
  uint64_t most = 0;
  uint64_t least = kCommits;
  for (size_t cut = 0; cut < bytes.size(); cut += 1 + bytes.size() / 60) {
    SCOPED_TRACE(cut);
    const std::string copy = dir.File("copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(origin, copy);
    WriteBytes(copy + "/" + log, std::string_view(bytes).substr(0, bytes.size() - cut));
    ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(copy, kSmall));
    const uint64_t applied = WholeCommits(*store);
    if (cut == 0) {
      EXPECT_EQ(applied, kCommits);
    }
    most = std::max(most, applied);
    least = std::min(least, applied);
  }
  // The cuts were where they matter.
  EXPECT_EQ(most, kCommits);
  EXPECT_LE(least, 1u);
}

TEST(StoreCrash, ADamagedLogIsRefusedAndNotSilentlyCut) {
  const TempDir dir;
  const std::string origin = dir.File("origin");
  MakeStore(origin);
  const std::string log = LogOf(origin);
  const std::string bytes = ReadBytes(origin + "/" + log);
  for (const size_t place : {bytes.size() / 4, bytes.size() / 2}) {
    SCOPED_TRACE(place);
    const std::string copy = dir.File("copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(origin, copy);
    std::string damaged = bytes;
    damaged[place] = static_cast<char>(damaged[place] ^ 0x40);
    WriteBytes(copy + "/" + log, damaged);
    EXPECT_THAT(Store::Open(copy, kSmall), StatusIs(absl::StatusCode::kDataLoss));
  }
}

}  // namespace
}  // namespace azimuth::storage
