#include "storage/row_entries.h"

#include "storage/store.h"
#include "tests/storage/rows.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using Entry = std::tuple<RowEntryKind, std::string, std::string>;

std::unique_ptr<Store> OpenOrDie(const std::string& path, bool read_only = false) {
  StoreOptions options;
  options.write_buffer_bytes = uint64_t{1} << 20;
  options.read_only = read_only;
  auto store = Store::Open(path, options);
  EXPECT_OK(store);
  return *std::move(store);
}

std::vector<Entry> EntriesOf(const Store& store, RowStoreId row_store,
                             const ReadSnapshot* snapshot = nullptr,
                             RowId end = RowId{~uint64_t{0}}) {
  std::vector<Entry> entries;
  EXPECT_OK(ScanRowEntries(
      store, row_store, end,
      [&](RowEntryKind kind, std::string_view key, std::string_view value) {
        entries.emplace_back(kind, key, value);
        return absl::OkStatus();
      },
      snapshot));
  return entries;
}

void Fill(Store& store, RowStoreId row_store, uint64_t rows, uint64_t first = 0) {
  std::mt19937_64 random(first + 1);
  CommitBatch batch;
  for (uint64_t i = first; i < first + rows; ++i) {
    StoredRow row = RandomRow(random);
    row.key = static_cast<int64_t>(i);
    const std::vector<float> vector = {1.0F, static_cast<float>(i)};
    batch.PutRow(row_store, RowId{i}, row);
    batch.PutVector(row_store, FieldId{3}, RowId{i}, vector);
    batch.PutKey(row_store, row.key, {.row = RowId{i}, .insert_seq = row.insert_seq});
    if (i % 3 == 0) batch.PutRetired(row_store, RowId{i}, Seq{i + 1});
  }
  batch.PutAppliedSeq(Seq{first + rows});
  ASSERT_OK(store.Commit(batch, /*sync=*/true));
}

TEST(RowEntries, AreThoseOfOneRowStoreKindByKindInOrderOfKey) {
  const TempDir dir;
  const auto store = OpenOrDie(dir.File("rocks"));
  Fill(*store, RowStoreId{1}, 10);
  Fill(*store, RowStoreId{2}, 50);
  Fill(*store, RowStoreId{3}, 10);
  const std::vector<Entry> entries = EntriesOf(*store, RowStoreId{2});
  EXPECT_EQ(entries.size(), 50U + 50 + 50 + 17);
  EXPECT_TRUE(std::is_sorted(entries.begin(), entries.end()));
  EXPECT_TRUE(EntriesOf(*store, RowStoreId{7}).empty());
  // Keys are without the row store.
  Fill(*store, RowStoreId{4}, 50);
  EXPECT_TRUE(EntriesOf(*store, RowStoreId{4}) == entries);
}

TEST(RowEntries, AreThoseOfASnapshotOfTheStore) {
  const TempDir dir;
  const auto store = OpenOrDie(dir.File("rocks"));
  Fill(*store, RowStoreId{1}, 10);
  const auto snapshot = store->TakeSnapshot();
  const std::vector<Entry> before = EntriesOf(*store, RowStoreId{1});
  Fill(*store, RowStoreId{1}, 10, 10);
  EXPECT_TRUE(EntriesOf(*store, RowStoreId{1}, snapshot.get()) == before);
  EXPECT_GT(EntriesOf(*store, RowStoreId{1}).size(), before.size());
}

// As of tables whose commit comes later, or never came.
TEST(RowEntries, LeaveOutWhatNoCommitGaveOut) {
  const TempDir dir;
  const auto store = OpenOrDie(dir.File("rocks"));
  Fill(*store, RowStoreId{1}, 10);
  const std::vector<Entry> before = EntriesOf(*store, RowStoreId{1});
  const auto tables = store->NewRowTables();
  const std::vector<float> vector = {1.0F, 2.0F};
  tables->PutEncodedRow(RowStoreId{1}, RowId{10}, EncodeRow({.key = int64_t{10}}));
  tables->PutVector(RowStoreId{1}, FieldId{3}, RowId{10}, vector);
  tables->PutVector(RowStoreId{1}, FieldId{4}, RowId{10}, vector);
  tables->PutRetired(RowStoreId{1}, RowId{10}, Seq{99});
  ASSERT_OK(store->TakeIn(*tables));
  EXPECT_EQ(EntriesOf(*store, RowStoreId{1}).size(), before.size() + 4);
  EXPECT_TRUE(EntriesOf(*store, RowStoreId{1}, nullptr, RowId{10}) == before);
}

TEST(RowEntries, KeysAreParsed) {
  const TempDir dir;
  const auto store = OpenOrDie(dir.File("rocks"));
  Fill(*store, RowStoreId{1}, 4);
  for (const auto& [kind, key, value] : EntriesOf(*store, RowStoreId{1})) {
    switch (kind) {
      case RowEntryKind::kRow:
        EXPECT_OK(ParseRowEntryKey(key));
        break;
      case RowEntryKind::kVector: {
        ASSERT_OK_AND_ASSIGN(const VectorEntryKey vector, ParseVectorEntryKey(key));
        EXPECT_EQ(vector.field, FieldId{3});
        EXPECT_LT(vector.row, RowId{4});
        break;
      }
      case RowEntryKind::kKey:
        EXPECT_OK(ParseKeyEntryKey(key));
        EXPECT_OK(ParseKeyEntryValue(value));
        break;
      case RowEntryKind::kRetired:
        EXPECT_OK(ParseRowEntryKey(key));
        EXPECT_OK(ParseRetiredValue(value));
        break;
    }
  }
  EXPECT_THAT(ParseRowEntryKey("1234567"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ParseVectorEntryKey("12345678"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ParseKeyEntryKey(""), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ParseKeyEntryKey("\x09"), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(MakeCheckpoint, HasAllThatWasCommittedAndLivesOnItsOwn) {
  const TempDir dir;
  std::vector<Entry> before;
  {
    const auto store = OpenOrDie(dir.File("rocks"));
    Fill(*store, RowStoreId{1}, 200);
    before = EntriesOf(*store, RowStoreId{1});
    ASSERT_OK(MakeCheckpoint(*store, dir.File("copy"), Files::Posix()));
    Fill(*store, RowStoreId{1}, 200, 200);
    EXPECT_FALSE(MakeCheckpoint(*store, dir.File("copy"), Files::Posix()).ok());
  }
  std::filesystem::remove_all(dir.File("rocks"));
  const auto copy = OpenOrDie(dir.File("copy"), /*read_only=*/true);
  EXPECT_TRUE(EntriesOf(*copy, RowStoreId{1}) == before);
  ASSERT_OK_AND_ASSIGN(const Seq applied, copy->GetAppliedSeq());
  EXPECT_EQ(applied, Seq{200});
}

TEST(MakeCheckpoint, ThatFailsLeavesNothingAndTheDatabaseAsItWas) {
  SimFiles disk(1);
  StoreOptions options;
  options.files = &disk.process();
  options.merges_tables = false;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Store> store, Store::Open("/rocks", options));
  Fill(*store, RowStoreId{1}, 200);
  for (const std::string what : {"write", "sync"}) {
    SCOPED_TRACE(what);
    disk.FailOnce(what, "/copy.tmp/MANIFEST", absl::UnavailableError("the disk says no"));
    EXPECT_FALSE(MakeCheckpoint(*store, "/copy", disk.process()).ok());
    EXPECT_FALSE(disk.process().KindOf("/copy").ok());
    // Links of tables, which would hold their bytes.
    EXPECT_FALSE(disk.process().KindOf("/copy.tmp").ok());
  }
  ASSERT_OK(MakeCheckpoint(*store, "/copy", disk.process()));
  options.read_only = true;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Store> copy, Store::Open("/copy", options));
  EXPECT_TRUE(EntriesOf(*copy, RowStoreId{1}) == EntriesOf(*store, RowStoreId{1}));
}

}  // namespace
}  // namespace azimuth::storage
