// A whole store on SimFiles: what is acknowledged survives every power failure and a full disk.

#include "storage/store.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"

#include "gtest/gtest.h"

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace azimuth::testing {
namespace {

constexpr RowStoreId kStore{1};
constexpr FieldId kField{1};
constexpr size_t kKeys = 20;

// Opens the store of the process that runs, which must work.
std::unique_ptr<storage::Store> OpenStore(SimFiles& disk) {
  auto store = storage::Store::Open(
      "/data/rocks",
      {.block_cache_bytes = 1 << 20, .write_buffer_bytes = 64 << 10, .files = &disk.process()});
  EXPECT_OK(store);
  return store.ok() ? *std::move(store) : nullptr;
}

// Commit n puts, for each key that it takes, its own number into a row, a vector and the key entry,
// and into the applied position.
void Fill(storage::CommitBatch& batch, uint64_t n, const std::vector<uint64_t>& keys) {
  const std::vector<float> vector(200, static_cast<float>(n));
  for (const uint64_t key : keys) {
    const Key name = static_cast<int64_t>(key);
    batch.PutRow(kStore, RowId{key}, {.insert_seq = Seq{n}, .key = name});
    batch.PutVector(kStore, kField, RowId{key}, vector);
    batch.PutKey(kStore, name, {.row = RowId{key}, .insert_seq = Seq{n}});
  }
  batch.PutAppliedSeq(Seq{n});
}

// What a store has: applied position, and the number of the commit that last put each key.
struct Image {
  uint64_t applied = 0;
  std::array<uint64_t, kKeys> of_key{};
  friend bool operator==(const Image&, const Image&) = default;
};

// Expects row, vector and key entry of each key to be of one commit.
Image Read(const storage::Store& store) {
  Image image{.applied = Raw(store.GetAppliedSeq().value())};
  std::vector<RowId> rows;
  std::vector<Key> keys;
  for (size_t key = 0; key < kKeys; ++key) {
    rows.push_back(RowId{key});
    keys.emplace_back(static_cast<int64_t>(key));
  }
  const auto stored = store.GetRows(kStore, rows).value();
  const auto vectors = store.GetVectors(kStore, kField, rows).value();
  const auto entries = store.LookUpKeys(kStore, keys).value();
  for (size_t key = 0; key < kKeys; ++key) {
    EXPECT_EQ(stored[key].has_value(), entries[key].has_value()) << key;
    EXPECT_EQ(stored[key].has_value(), !vectors[key].empty()) << key;
    if (!stored[key].has_value() || !entries[key].has_value() || vectors[key].empty()) continue;
    image.of_key[key] = Raw(stored[key]->insert_seq);
    EXPECT_EQ(entries[key]->insert_seq, stored[key]->insert_seq) << key;
    EXPECT_EQ(vectors[key][199], static_cast<float>(image.of_key[key])) << key;
  }
  return image;
}

TEST(SimFiles, FindEveryAcknowledgedCommitOfAStoreWholeAfterEachOf200PowerFailures) {
  SimFiles disk(7);
  ASSERT_OK(disk.process().MakeDir("/data"));
  ASSERT_OK(disk.process().SyncDir("/"));
  std::mt19937_64 random(7);
  Image model;
  std::unique_ptr<storage::Store> store = OpenStore(disk);
  ASSERT_NE(store, nullptr);
  int unknown = 0;
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    // Sometimes in the middle of what follows, sometimes after it.
    if (random() % 4 != 0) disk.FailAfter(1 + random() % 30);
    Image attempted = model;
    for (uint64_t commits = 1 + random() % 10; commits > 0; --commits) {
      std::vector<uint64_t> keys;
      for (uint64_t i = random() % 6; i > 0; --i) keys.push_back(random() % kKeys);
      storage::CommitBatch batch;
      attempted.applied = model.applied + 1;
      for (const uint64_t key : keys) attempted.of_key[key] = attempted.applied;
      Fill(batch, attempted.applied, keys);
      if (!store->Commit(batch, /*sync=*/true).ok()) {
        ++refused;
        break;
      }
      model = attempted;
    }
    if (random() % 8 == 0) {
      disk.KillProcess();
    } else {
      disk.Crash(random());
    }
    const std::unique_ptr<storage::Store> dead = std::move(store);
    store = OpenStore(disk);
    ASSERT_NE(store, nullptr);
    const Image found = Read(*store);
    // The commit that was refused may be there, but then all of it.
    EXPECT_TRUE(found == model || found == attempted) << found.applied << " of " << model.applied;
    if (found != model) ++unknown;
    model = found;
  }
  EXPECT_GT(model.applied, 200u);
  EXPECT_GT(refused, 20);
  EXPECT_GT(unknown, 0);
}

TEST(SimFiles, FindTheFirstSoManyCommitsOfAStoreThatDidNotSyncThem) {
  SimFiles disk(8);
  ASSERT_OK(disk.process().MakeDir("/data"));
  ASSERT_OK(disk.process().SyncDir("/"));
  std::mt19937_64 random(8);
  std::vector<Image> history(1);
  int lost = 0;
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    const std::unique_ptr<storage::Store> store = OpenStore(disk);
    ASSERT_NE(store, nullptr);
    const Image found = Read(*store);
    ASSERT_LT(found.applied, history.size());
    EXPECT_EQ(found, history[found.applied]);
    if (found.applied + 1 < history.size()) ++lost;
    history.resize(found.applied + 1);
    for (uint64_t commits = random() % 40; commits > 0; --commits) {
      std::vector<uint64_t> keys;
      for (uint64_t i = random() % 6; i > 0; --i) keys.push_back(random() % kKeys);
      Image next = history.back();
      ++next.applied;
      for (const uint64_t key : keys) next.of_key[key] = next.applied;
      storage::CommitBatch batch;
      Fill(batch, next.applied, keys);
      ASSERT_OK(store->Commit(batch, /*sync=*/false));
      history.push_back(next);
    }
    disk.Crash(random());
  }
  EXPECT_GT(lost, 10);
}

TEST(SimFiles, KeepEveryAcknowledgedCommitOfAStoreOnADiskThatIsFull) {
  SimFiles disk(9);
  ASSERT_OK(disk.process().MakeDir("/data"));
  ASSERT_OK(disk.process().SyncDir("/"));
  std::mt19937_64 random(9);
  Image model;
  int refused = 0;
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    disk.SetCapacity(uint64_t{1} << 40);
    const std::unique_ptr<storage::Store> store = OpenStore(disk);
    ASSERT_NE(store, nullptr);
    ASSERT_EQ(Read(*store), model);
    disk.SetFree(random() % 20'000);
    absl::Status status;
    for (int commits = 0; commits < 40 && status.ok(); ++commits) {
      Image next = model;
      ++next.applied;
      const uint64_t key = random() % kKeys;
      next.of_key[key] = next.applied;
      storage::CommitBatch batch;
      Fill(batch, next.applied, {key});
      status = store->Commit(batch, /*sync=*/true);
      if (status.ok()) model = next;
    }
    if (!status.ok()) {
      ++refused;
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    }
    disk.Crash(random());
  }
  EXPECT_GT(refused, 10);
}

TEST(SimFiles, OpenAStoreAfterAFailureAtAnyOperationOfItsMaking) {
  int failures = 0;
  for (uint64_t n = 1; n < 400; ++n) {
    SCOPED_TRACE(n);
    SimFiles disk(n);
    ASSERT_OK(disk.process().MakeDir("/data"));
    ASSERT_OK(disk.process().SyncDir("/"));
    disk.FailAfter(n);
    auto first = storage::Store::Open("/data/rocks", {.files = &disk.process()});
    const bool failed = disk.failed();
    disk.Crash(n);
    ASSERT_NE(OpenStore(disk), nullptr);
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 20);
  EXPECT_LT(failures, 399);
}

}  // namespace
}  // namespace azimuth::testing
