#include "storage/row_tables.h"

#include "base/failpoint.h"
#include "storage/key_codec.h"
#include "storage/rocks_options.h"
#include "storage/store.h"
#include "storage/store_access.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"
#include "tests/support/temp_dir.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"
#include "rocksdb/metadata.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr RowStoreId kStore{7};
constexpr RowStoreId kOther{9};
constexpr FieldId kField{2};
constexpr FieldId kSecond{3};
constexpr RowRange kAllRows{RowId{0}, RowId{~uint64_t{0}}};
constexpr StoreOptions kSmall{.block_cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20};

std::unique_ptr<Store> OpenStore(const TempDir& dir) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(dir.File("rocks"), kSmall);
  EXPECT_OK(store);
  return store.ok() ? std::move(store).value() : nullptr;
}

std::vector<std::pair<uint64_t, float>> Vectors(const Store& store, RowStoreId id, FieldId field,
                                                const ReadSnapshot* snapshot = nullptr) {
  std::vector<std::pair<uint64_t, float>> found;
  EXPECT_OK(store.ScanVectors(
      id, field, kAllRows,
      [&](RowId row, std::span<const float> vector) {
        found.emplace_back(Raw(row), vector[0]);
        return absl::OkStatus();
      },
      snapshot));
  return found;
}

size_t CountTables(const std::string& path, Files& files = Files::Posix()) {
  const auto names = files.List(path);
  EXPECT_OK(names);
  return static_cast<size_t>(std::count_if(
      names->begin(), names->end(), [](const auto& name) { return name.ends_with(".sst"); }));
}

std::array<float, 3> Vector(float value) {
  return {value, 1.0f, -2.5f};
}

// Rows [first, end) of kStore with their vectors in tables, `value` in each.
CommitBatch BatchOf(Store& store, uint64_t first, uint64_t end, float value,
                    FieldId field = kField) {
  CommitBatch batch;
  batch.PutVectorsInto(store.NewRowTables());
  for (uint64_t row = first; row < end; ++row) {
    batch.PutRow(kStore, RowId{row}, {.insert_seq = Seq{1}, .key = static_cast<int64_t>(row)});
    batch.PutVector(kStore, field, RowId{row}, Vector(value));
  }
  batch.PutCounters(kStore, {RowId{end}, end});
  return batch;
}

TEST(RowTables, AreReadLikeRowsOfTheLogAndSurviveTheProcess) {
  TempDir dir;
  {
    const auto store = OpenStore(dir);
    CommitBatch logged;
    logged.PutVector(kStore, kField, RowId{0}, Vector(10));
    logged.PutVector(kStore, kField, RowId{1}, Vector(11));
    ASSERT_OK(store->Commit(logged, true));
    CommitBatch batch;
    batch.PutVectorsInto(store->NewRowTables());
    for (const uint64_t row : {2, 3}) {
      batch.PutVector(kStore, kField, RowId{row}, Vector(12));
      batch.PutVector(kStore, kSecond, RowId{row}, Vector(13));
      batch.PutVector(kOther, kField, RowId{row}, Vector(14));
    }
    ASSERT_OK(store->Commit(batch, true));
    CommitBatch after;
    after.PutVector(kStore, kField, RowId{4}, Vector(15));
    ASSERT_OK(store->Commit(after, true));
  }
  const auto store = OpenStore(dir);
  EXPECT_THAT(Vectors(*store, kStore, kField),
              ElementsAre(Pair(0, 10), Pair(1, 11), Pair(2, 12), Pair(3, 12), Pair(4, 15)));
  EXPECT_THAT(Vectors(*store, kStore, kSecond), ElementsAre(Pair(2, 13), Pair(3, 13)));
  EXPECT_THAT(Vectors(*store, kOther, kField), ElementsAre(Pair(2, 14), Pair(3, 14)));
}

// Else RocksDB writes them a second time, once no snapshot needs the numbers.
TEST(RowTables, CarryNoSequenceNumbersOfRocksDb) {
  TempDir dir;
  {
    const auto store = OpenStore(dir);
    const auto snapshot = store->TakeSnapshot();
    CommitBatch batch = BatchOf(*store, 0, 2, 1);
    ASSERT_OK(store->Commit(batch, true));
  }
  const auto cache = MakeCache(kSmall);
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  ASSERT_TRUE(rocksdb::DB::OpenForReadOnly(MakeDbOptions(kSmall, cache), dir.File("rocks"),
                                           MakeFamilies(kSmall, cache), &handles, &opened)
                  .ok());
  const std::unique_ptr<rocksdb::DB> db(opened);
  std::vector<rocksdb::LiveFileMetaData> files;
  db->GetLiveFilesMetaData(&files);
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(files[0].column_family_name, "vectors");
  EXPECT_EQ(files[0].largest_seqno, 0U);
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    EXPECT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
}

TEST(RowTables, LeaveNoFilesBehind) {
  TempDir dir;
  const auto store = OpenStore(dir);
  {
    const auto dropped = store->NewRowTables();
    dropped->PutVector(kStore, kField, RowId{0}, Vector(1));
    EXPECT_FALSE(dropped->empty());
    CommitBatch batch = BatchOf(*store, 1, 3, 2);
    ASSERT_OK(store->Commit(batch, true));
  }
  EXPECT_THAT(*ListDirectory(dir.File("rocks/intake")), IsEmpty());
  EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(1, 2), Pair(2, 2)));
}

TEST(RowTables, OutOfOrderIsRefusedWhole) {
  TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  batch.PutVectorsInto(store->NewRowTables());
  batch.PutVector(kStore, kField, RowId{5}, Vector(1));
  batch.PutVector(kStore, kField, RowId{4}, Vector(1));
  batch.PutCounters(kStore, {RowId{6}, 2});
  EXPECT_THAT(store->Commit(batch, true),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("order")));
  EXPECT_THAT(Vectors(*store, kStore, kField), IsEmpty());
  EXPECT_EQ(Raw(store->GetCounters(kStore)->next_row), 0U);
}

class RowTablesLeftOver : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Flush, RowTablesLeftOver, ::testing::Bool());

// Dies between the tables and the commit that leads to them. With a flush in between, or without.
TEST_P(RowTablesLeftOver, AreRemovedByTheNextStart) {
  TempDir dir;
  {
    const auto store = OpenStore(dir);
    CommitBatch batch = BatchOf(*store, 0, 2, 1);
    ASSERT_OK(store->Commit(batch, true));
    const auto tables = store->NewRowTables();
    tables->PutVector(kStore, kField, RowId{2}, Vector(2));
    tables->PutVector(kStore, kSecond, RowId{2}, Vector(2));
    tables->PutEncodedRow(kStore, RowId{2}, EncodeRow({.insert_seq = Seq{2}, .key = int64_t{2}}));
    tables->PutRetired(kStore, RowId{2}, Seq{3});
    ASSERT_OK(store->TakeIn(*tables));
  }
  auto store = OpenStore(dir);
  EXPECT_EQ(store->ListTablesEnds()->size(), 1U);
  ASSERT_OK(store->RemoveLeftovers(false));
  if (GetParam()) {
    ASSERT_OK(store->Close());
    store = OpenStore(dir);
  }
  EXPECT_THAT(*store->ListTablesEnds(), IsEmpty());
  EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(0, 1), Pair(1, 1)));
  EXPECT_THAT(Vectors(*store, kStore, kSecond), IsEmpty());
  EXPECT_FALSE((*store->GetRows(kStore, std::array{RowId{2}}))[0].has_value());
  // The same ids again, over what deletes them.
  CommitBatch again = BatchOf(*store, 2, 4, 3);
  ASSERT_OK(store->Commit(again, true));
  EXPECT_THAT(Vectors(*store, kStore, kField),
              ElementsAre(Pair(0, 1), Pair(1, 1), Pair(2, 3), Pair(3, 3)));
  EXPECT_THAT(Vectors(*store, kStore, kSecond), IsEmpty());
}

TEST(RowTables, AreFoundWithoutANoteToo) {
  TempDir dir;
  {
    const auto store = OpenStore(dir);
    CommitBatch batch;
    batch.PutVector(kStore, kField, RowId{3}, Vector(1));
    batch.PutVector(kStore, kSecond, RowId{4}, Vector(1));
    batch.PutVector(kOther, kField, RowId{0}, Vector(1));
    batch.PutCounters(kStore, {RowId{4}, 1});
    batch.PutCounters(kOther, {RowId{1}, 1});
    ASSERT_OK(store->Commit(batch, true));
  }
  const auto store = OpenStore(dir);
  ASSERT_OK(store->RemoveLeftovers(false));
  EXPECT_THAT(Vectors(*store, kStore, kSecond), ElementsAre(Pair(4, 1)));
  ASSERT_OK(store->RemoveLeftovers(true));
  EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(3, 1)));
  EXPECT_THAT(Vectors(*store, kStore, kSecond), IsEmpty());
  EXPECT_THAT(Vectors(*store, kOther, kField), ElementsAre(Pair(0, 1)));
}

// Which fields have vectors cannot be told: then rows stay as well.
TEST(RowTables, LeftOverOfADamagedStoreStayWhole) {
  TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch = BatchOf(*store, 0, 4, 1);
  batch.PutCounters(kStore, {RowId{2}, 2});
  ASSERT_OK(store->Commit(batch, true));
  const std::string damaged = VectorKey(kStore, kSecond, RowId{0}).substr(0, 8);
  ASSERT_TRUE(StoreAccess::Db(*store)
                  .Put({}, StoreAccess::Handle(*store, Family::kVectors), damaged, "")
                  .ok());
  ASSERT_OK(store->RemoveLeftovers(false));
  CommitBatch next;
  next.PutCounters(kOther, {RowId{1}, 1});
  ASSERT_OK(store->Commit(next, true));
  const auto rows = store->GetRows(kStore, std::array{RowId{2}, RowId{3}});
  ASSERT_OK(rows);
  EXPECT_TRUE((*rows)[0].has_value());
  EXPECT_TRUE((*rows)[1].has_value());
  EXPECT_EQ(store->ListTablesEnds()->size(), 1U);  // The next start looks again.
}

TEST(RowTables, OfACommitThatFailedAreDeletedBeforeTheNextOne) {
#ifndef AZ_FAILPOINTS_ENABLED
  GTEST_SKIP() << "this build has no failpoints";
#endif
  for (const Failpoint point : {Failpoint::kTablesBeforeTakeIn, Failpoint::kTablesAfterTakeIn}) {
    TempDir dir;
    const auto store = OpenStore(dir);
    CommitBatch first = BatchOf(*store, 0, 2, 1, kSecond);
    ASSERT_OK(ArmFailpoints(std::string(FailpointName(point)) + "=error"));
    EXPECT_FALSE(store->Commit(first, true).ok());
    ASSERT_OK(ArmFailpoints(""));
    CommitBatch next = BatchOf(*store, 2, 4, 2);
    ASSERT_OK(store->Commit(next, true));
    EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(2, 2), Pair(3, 2)));
    EXPECT_THAT(Vectors(*store, kStore, kSecond), IsEmpty()) << FailpointName(point);
    EXPECT_EQ(Raw(store->GetCounters(kStore)->next_row), 4U);
  }
}

// Of a store on a simulated disk.
std::unique_ptr<Store> OpenSimulated(SimFiles& disk) {
  StoreOptions options = kSmall;
  options.files = &disk.process();
  options.merges_tables = false;
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open("/rocks", options);
  EXPECT_OK(store);
  return store.ok() ? std::move(store).value() : nullptr;
}

// BatchOf, whose tables do not outlive the store.
absl::Status CommitTables(Store& store, uint64_t first, uint64_t end, float value,
                          FieldId field = kField) {
  CommitBatch batch = BatchOf(store, first, end, value, field);
  return store.Commit(batch, true);
}

// The first edit of the manifest that an intake makes takes file numbers, the second one names
// them.
constexpr uint64_t kEdits = 2;

// RocksDB takes them for not taken in then and removes them, and the manifest may name them.
TEST(RowTables, StayWhenTheManifestMayNameThem) {
  constexpr uint64_t kSeeds = 12;
  for (const std::string what : {"sync", "write"}) {
    for (uint64_t i = 0; i < kEdits * (1 + kSeeds); ++i) {
      const uint64_t edit = 1 + i % kEdits;
      const uint64_t seed = i / kEdits;
      SCOPED_TRACE(absl::StrCat(what, " of edit ", edit, " fails, seed ", seed));
      SimFiles disk(seed);
      auto failed = OpenSimulated(disk);
      ASSERT_OK(CommitTables(*failed, 0, 2, 1));
      disk.FailOnce(what, "/MANIFEST", absl::UnavailableError("the disk says no"), edit);
      EXPECT_THAT(CommitTables(*failed, 2, 4, 2), StatusIs(absl::StatusCode::kUnavailable));
      // What was written stays, synced or not; or as a power failure leaves it.
      seed == 0 ? disk.KillProcess() : disk.Crash(seed);
      auto store = OpenSimulated(disk);
      ASSERT_NE(store, nullptr);
      failed.reset();
      ASSERT_OK(store->RemoveLeftovers(false));
      EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(0, 1), Pair(1, 1)));
      ASSERT_OK(CommitTables(*store, 2, 4, 3));
      EXPECT_THAT(Vectors(*store, kStore, kField),
                  ElementsAre(Pair(0, 1), Pair(1, 1), Pair(2, 3), Pair(3, 3)));
    }
  }
}

// RocksDB writes a new manifest then, which has nothing of them.
TEST(RowTables, OfAManifestThatFoundNoRoomAreRemovedOnceThereIsANewOne) {
  for (uint64_t edit = 1; edit <= kEdits; ++edit) {
    SCOPED_TRACE(edit);
    SimFiles disk(1);
    auto store = OpenSimulated(disk);
    ASSERT_OK(CommitTables(*store, 0, 2, 1));
    ASSERT_EQ(CountTables("/rocks", disk.process()), 1U);
    disk.FailOnce("write", "/MANIFEST", absl::ResourceExhaustedError("No space left on device"),
                  edit);
    EXPECT_THAT(CommitTables(*store, 2, 4, 2, kSecond),
                StatusIs(absl::StatusCode::kResourceExhausted));
    // Nothing was made yet at the first edit.
    EXPECT_EQ(CountTables("/rocks", disk.process()), edit);
    EXPECT_THAT(*disk.process().List("/rocks/intake"), IsEmpty());
    CommitBatch logged;
    logged.PutVector(kStore, kField, RowId{4}, Vector(3));
    ASSERT_OK(store->Commit(logged, true));
    EXPECT_THAT(Vectors(*store, kStore, kField), ElementsAre(Pair(0, 1), Pair(1, 1), Pair(4, 3)));
    EXPECT_THAT(Vectors(*store, kStore, kSecond), IsEmpty());
    std::vector<rocksdb::LiveFileMetaData> live;
    StoreAccess::Db(*store).GetLiveFilesMetaData(&live);
    EXPECT_EQ(CountTables("/rocks", disk.process()), live.size());
    disk.KillProcess();
    const auto reopened = OpenSimulated(disk);
    store.reset();
    EXPECT_THAT(Vectors(*reopened, kStore, kSecond), IsEmpty());
  }
}

TEST(RowTables, OfManyFieldsAreFewAndTheOthersGoToTheLog) {
  TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  batch.PutVectorsInto(store->NewRowTables());
  for (uint32_t field = 1; field <= 100; ++field) {
    batch.PutVector(kStore, FieldId{field}, RowId{0}, Vector(1));
    batch.PutVector(kStore, FieldId{field}, RowId{1}, Vector(2));
  }
  ASSERT_OK(store->Commit(batch, true));
  EXPECT_LE(CountTables(dir.File("rocks")), 16U);
  for (uint32_t field = 1; field <= 100; ++field) {
    EXPECT_THAT(Vectors(*store, kStore, FieldId{field}), ElementsAre(Pair(0, 1), Pair(1, 2)));
  }
}

TEST(RowTables, TakesOneNoteForManyRows) {
  TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch first = BatchOf(*store, 0, 2, 1);
  ASSERT_OK(store->Commit(first, true));
  const auto ends = store->ListTablesEnds();
  ASSERT_OK(ends);
  ASSERT_EQ(ends->size(), 1U);
  EXPECT_EQ(ends->front().first, kStore);
  EXPECT_GE(Raw(ends->front().second), 1000U);
  CommitBatch second = BatchOf(*store, 2, 4, 1);
  ASSERT_OK(store->Commit(second, true));
  EXPECT_EQ(*store->ListTablesEnds(), *ends);
}

}  // namespace
}  // namespace azimuth::storage
