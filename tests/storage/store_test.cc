#include "storage/store.h"

#include "storage/key_codec.h"
#include "storage/rocks_options.h"
#include "tests/storage/rows.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr RowStoreId kStore{7};
constexpr FieldId kField{2};
constexpr RowRange kAllRows{RowId{0}, RowId{~uint64_t{0}}};
constexpr StoreOptions kSmall{.block_cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20};

std::unique_ptr<Store> OpenStore(const TempDir& dir) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(dir.File("rocks"), kSmall);
  EXPECT_OK(store);
  return store.ok() ? std::move(store).value() : nullptr;
}

std::vector<uint64_t> ScannedRows(const Store& store, RowStoreId id, RowRange range) {
  std::vector<uint64_t> rows;
  EXPECT_OK(store.ScanRows(id, range, [&](RowId row, StoredRow&&) {
    rows.push_back(Raw(row));
    return absl::OkStatus();
  }));
  return rows;
}

std::vector<uint64_t> ScannedVectors(const Store& store, RowStoreId id, FieldId field,
                                     RowRange range) {
  std::vector<uint64_t> rows;
  EXPECT_OK(store.ScanVectors(id, field, range, [&](RowId row, std::span<const float>) {
    rows.push_back(Raw(row));
    return absl::OkStatus();
  }));
  return rows;
}

std::map<uint64_t, uint64_t> ScannedRetired(const Store& store, RowStoreId id) {
  std::map<uint64_t, uint64_t> retired;
  EXPECT_OK(store.ScanRetired(id, [&](RowId row, Seq seq) {
    retired[Raw(row)] = Raw(seq);
    return absl::OkStatus();
  }));
  return retired;
}

// A record whose parts all say its number: row, vector in kField, key.
void PutRecord(CommitBatch& batch, RowStoreId store, uint64_t number) {
  const Key key = static_cast<int64_t>(number);
  batch.PutRow(store, RowId{number}, {.insert_seq = Seq{number}, .key = key});
  const std::array<float, 3> vector = {static_cast<float>(number), 1.0f, -2.5f};
  batch.PutVector(store, kField, RowId{number}, vector);
  batch.PutKey(store, key, {.row = RowId{number}, .insert_seq = Seq{number}});
}

TEST(Store, IsEmptyWhenNew) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  ASSERT_OK_AND_ASSIGN(const auto collections, store->ListCollections());
  EXPECT_THAT(collections, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const auto segments, store->ListSegments());
  EXPECT_THAT(segments, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const NextIds ids, store->GetNextIds());
  EXPECT_EQ(ids.collection, CollectionId{1});
  EXPECT_EQ(ids.row_store, RowStoreId{1});
  EXPECT_EQ(ids.segment, SegmentId{1});
  ASSERT_OK_AND_ASSIGN(const Seq applied, store->GetAppliedSeq());
  EXPECT_EQ(applied, kSeqZero);
  ASSERT_OK_AND_ASSIGN(const RowStoreCounters counters, store->GetCounters(kStore));
  EXPECT_EQ(counters.next_row, RowId{0});
  EXPECT_EQ(counters.live_rows, 0u);
}

TEST(Store, KeepsEverythingOfACommitAcrossReopening) {
  const TempDir dir;
  auto store = OpenStore(dir);
  std::mt19937_64 random(3);
  const StoredRow row = RandomRow(random);
  CommitBatch batch;
  batch.PutRow(kStore, RowId{5}, row);
  batch.PutVector(kStore, kField, RowId{5}, std::array{1.5f, -0.0f});
  batch.PutKey(kStore, row.key, {.row = RowId{5}, .insert_seq = row.insert_seq});
  batch.PutRetired(kStore, RowId{4}, Seq{9});
  batch.PutCounters(kStore, {.next_row = RowId{6}, .live_rows = 1});
  batch.PutCollection({.id = CollectionId{2}, .row_store = kStore, .name = "items"});
  batch.PutSegment({.id = SegmentId{3}, .row_store = kStore, .rows = {RowId{0}, RowId{4}}});
  batch.PutNextIds({CollectionId{3}, RowStoreId{8}, SegmentId{4}});
  batch.PutAppliedSeq(Seq{10});
  ASSERT_OK(store->Commit(batch, true));

  // As it is, from the log alone, and from the tables.
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    ASSERT_OK_AND_ASSIGN(const auto rows, store->GetRows(kStore, std::array{RowId{5}}));
    ASSERT_TRUE(rows[0].has_value());
    EXPECT_TRUE(SameRow(*rows[0], row));
    ASSERT_OK_AND_ASSIGN(const auto vectors,
                         store->GetVectors(kStore, kField, std::array{RowId{5}}));
    EXPECT_THAT(vectors[0], ElementsAre(1.5f, -0.0f));
    ASSERT_OK_AND_ASSIGN(const auto keys, store->LookUpKeys(kStore, std::array{row.key}));
    ASSERT_TRUE(keys[0].has_value());
    EXPECT_EQ(keys[0]->row, RowId{5});
    EXPECT_THAT(ScannedRetired(*store, kStore), ElementsAre(std::pair(4u, 9u)));
    ASSERT_OK_AND_ASSIGN(const RowStoreCounters counters, store->GetCounters(kStore));
    EXPECT_EQ(counters.next_row, RowId{6});
    EXPECT_EQ(counters.live_rows, 1u);
    ASSERT_OK_AND_ASSIGN(const auto collections, store->ListCollections());
    ASSERT_EQ(collections.size(), 1u);
    EXPECT_EQ(collections[0].id, CollectionId{2});
    EXPECT_EQ(collections[0].name, "items");
    ASSERT_OK_AND_ASSIGN(const auto segments, store->ListSegments());
    ASSERT_EQ(segments.size(), 1u);
    EXPECT_EQ(segments[0].id, SegmentId{3});
    EXPECT_EQ(segments[0].row_store, kStore);
    EXPECT_EQ(segments[0].rows, (RowRange{RowId{0}, RowId{4}}));
    ASSERT_OK_AND_ASSIGN(const NextIds ids, store->GetNextIds());
    EXPECT_EQ(ids.segment, SegmentId{4});
    ASSERT_OK_AND_ASSIGN(const Seq applied, store->GetAppliedSeq());
    EXPECT_EQ(applied, Seq{10});
    if (round == 1) {
      ASSERT_OK(store->Close());
    }
    store.reset();
    store = OpenStore(dir);
    ASSERT_NE(store, nullptr);
  }
}

TEST(Store, AnswersEachOfManyKeysAtItsPlace) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  // More than two chunks of a batched read; every third is missing, and all come twice.
  std::vector<Key> keys;
  std::vector<RowId> rows;
  CommitBatch batch;
  for (uint64_t i = 0; i < 2'500; ++i) {
    if (i % 3 != 0) PutRecord(batch, kStore, i);
  }
  ASSERT_OK(store->Commit(batch, false));
  for (int twice = 0; twice < 2; ++twice) {
    for (uint64_t i = 2'500; i > 0; --i) {
      keys.emplace_back(static_cast<int64_t>(i - 1));
      rows.push_back(RowId{i - 1});
    }
  }
  ASSERT_OK_AND_ASSIGN(const auto entries, store->LookUpKeys(kStore, keys));
  ASSERT_OK_AND_ASSIGN(const auto stored, store->GetRows(kStore, rows));
  ASSERT_OK_AND_ASSIGN(const auto vectors, store->GetVectors(kStore, kField, rows));
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t number = Raw(rows[i]);
    const bool there = number % 3 != 0;
    ASSERT_EQ(entries[i].has_value(), there) << i;
    ASSERT_EQ(stored[i].has_value(), there) << i;
    ASSERT_EQ(vectors[i].size(), there ? 3u : 0u) << i;
    if (!there) continue;
    ASSERT_EQ(entries[i]->row, rows[i]);
    ASSERT_EQ(stored[i]->insert_seq, Seq{number});
    ASSERT_EQ(vectors[i][0], static_cast<float>(number));
  }
  ASSERT_OK_AND_ASSIGN(const auto none, store->LookUpKeys(kStore, {}));
  EXPECT_THAT(none, IsEmpty());
}

TEST(Store, DoesNotConfuseNumbersAndStringsOrRowStores) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  batch.PutKey(kStore, Key(int64_t{1}), {.row = RowId{1}});
  batch.PutKey(kStore, Key("1"), {.row = RowId{2}});
  batch.PutKey(Next(kStore), Key("1"), {.row = RowId{3}});
  ASSERT_OK(store->Commit(batch, false));
  const std::array<Key, 3> keys = {Key("1"), Key(int64_t{1}), Key("")};
  ASSERT_OK_AND_ASSIGN(const auto entries, store->LookUpKeys(kStore, keys));
  ASSERT_TRUE(entries[0].has_value() && entries[1].has_value());
  EXPECT_EQ(entries[0]->row, RowId{2});
  EXPECT_EQ(entries[1]->row, RowId{1});
  EXPECT_FALSE(entries[2].has_value());
}

TEST(Store, ScansHalfOpenRangesInOrder) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  for (const uint64_t row : {300u, 1u, 255u, 256u, 2u}) PutRecord(batch, kStore, row);
  PutRecord(batch, Next(kStore), 100);
  batch.PutVector(kStore, Next(kField), RowId{260}, std::array{1.0f});
  ASSERT_OK(store->Commit(batch, false));

  EXPECT_THAT(ScannedRows(*store, kStore, kAllRows), ElementsAre(1, 2, 255, 256, 300));
  EXPECT_THAT(ScannedRows(*store, kStore, {RowId{2}, RowId{256}}), ElementsAre(2, 255));
  EXPECT_THAT(ScannedRows(*store, kStore, {RowId{3}, RowId{3}}), IsEmpty());
  EXPECT_THAT(ScannedRows(*store, kStore, {RowId{300}, RowId{1}}), IsEmpty());
  EXPECT_THAT(ScannedVectors(*store, kStore, kField, {RowId{255}, RowId{301}}),
              ElementsAre(255, 256, 300));
  EXPECT_THAT(ScannedVectors(*store, kStore, Next(kField), kAllRows), ElementsAre(260));
  EXPECT_THAT(ScannedRows(*store, RowStoreId{1}, kAllRows), IsEmpty());
}

TEST(Store, ScanEndsWithTheVisitorsError) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  for (uint64_t row = 0; row < 5; ++row) PutRecord(batch, kStore, row);
  ASSERT_OK(store->Commit(batch, false));
  int visits = 0;
  EXPECT_THAT(store->ScanRows(kStore, kAllRows,
                              [&](RowId, StoredRow&&) {
                                return ++visits == 2 ? absl::CancelledError("enough")
                                                     : absl::OkStatus();
                              }),
              StatusIs(absl::StatusCode::kCancelled, "enough"));
  EXPECT_EQ(visits, 2);
}

TEST(Store, ScanDoesNotSeeCommitsThatComeWhileItRuns) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  PutRecord(batch, kStore, 1);
  PutRecord(batch, kStore, 2);
  ASSERT_OK(store->Commit(batch, false));
  std::vector<uint64_t> seen;
  ASSERT_OK(store->ScanVectors(kStore, kField, kAllRows, [&](RowId row, std::span<const float>) {
    seen.push_back(Raw(row));
    CommitBatch later;
    PutRecord(later, kStore, 3);
    later.DeleteRowData(kStore, RowId{2}, std::array{kField});
    return store->Commit(later, false);
  }));
  EXPECT_THAT(seen, ElementsAre(1, 2));
  EXPECT_THAT(ScannedVectors(*store, kStore, kField, kAllRows), ElementsAre(1, 3));
}

TEST(Store, SnapshotShowsTheStoreAsItWasWhenItWasTaken) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  PutRecord(batch, kStore, 1);
  PutRecord(batch, kStore, 2);
  ASSERT_OK(store->Commit(batch, false));
  const auto snapshot = store->TakeSnapshot();
  CommitBatch later;
  later.DeleteRowData(kStore, RowId{1}, std::array{kField});
  later.DeleteKey(kStore, Key(int64_t{1}));
  PutRecord(later, kStore, 3);
  ASSERT_OK(store->Commit(later, false));
  CommitBatch removal;
  removal.DeleteRowStore(kStore);
  ASSERT_OK(store->Commit(removal, false));

  const std::array rows = {RowId{1}, RowId{2}, RowId{3}};
  const std::array<Key, 3> keys = {Key(int64_t{1}), Key(int64_t{2}), Key(int64_t{3})};
  const ReadSnapshot* const now = nullptr;
  for (const ReadSnapshot* at : std::array<const ReadSnapshot*, 2>{now, snapshot.get()}) {
    const bool there = at != nullptr;
    ASSERT_OK_AND_ASSIGN(const auto stored, store->GetRows(kStore, rows, at));
    ASSERT_OK_AND_ASSIGN(const auto vectors, store->GetVectors(kStore, kField, rows, at));
    ASSERT_OK_AND_ASSIGN(const auto entries, store->LookUpKeys(kStore, keys, at));
    for (size_t i = 0; i < rows.size(); ++i) {
      const bool expected = there && i < 2;
      EXPECT_EQ(stored[i].has_value(), expected) << i;
      EXPECT_EQ(!vectors[i].empty(), expected) << i;
      EXPECT_EQ(entries[i].has_value(), expected) << i;
    }
  }
}

TEST(Store, DeletesARowAndItsRetirementInTwoSteps) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  PutRecord(batch, kStore, 1);
  PutRecord(batch, kStore, 2);
  batch.PutRetired(kStore, RowId{1}, Seq{5});
  batch.PutRetired(kStore, RowId{2}, Seq{6});
  ASSERT_OK(store->Commit(batch, false));
  CommitBatch data;
  data.DeleteRowData(kStore, RowId{1}, std::array{FieldId{1}, kField});
  ASSERT_OK(store->Commit(data, false));
  EXPECT_THAT(ScannedRows(*store, kStore, kAllRows), ElementsAre(2));
  EXPECT_THAT(ScannedVectors(*store, kStore, kField, kAllRows), ElementsAre(2));
  EXPECT_THAT(ScannedRetired(*store, kStore), ElementsAre(std::pair(1u, 5u), std::pair(2u, 6u)));
  CommitBatch retirement;
  retirement.DeleteRetired(kStore, RowId{1});
  retirement.DeleteRetired(kStore, RowId{2});
  ASSERT_OK(store->Commit(retirement, false));
  EXPECT_THAT(ScannedRetired(*store, kStore), IsEmpty());
  EXPECT_THAT(ScannedRows(*store, kStore, kAllRows), ElementsAre(2));
  // The key is another matter: it may lead to a newer row.
  const std::array<Key, 2> keys = {Key(int64_t{1}), Key(int64_t{2})};
  ASSERT_OK_AND_ASSIGN(auto entries, store->LookUpKeys(kStore, keys));
  EXPECT_TRUE(entries[0].has_value());
  CommitBatch key_removal;
  key_removal.DeleteKey(kStore, keys[0]);
  ASSERT_OK(store->Commit(key_removal, false));
  ASSERT_OK_AND_ASSIGN(entries, store->LookUpKeys(kStore, keys));
  EXPECT_FALSE(entries[0].has_value());
  EXPECT_TRUE(entries[1].has_value());
}

TEST(Store, TakesARowThatWasEncodedBefore) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  StoredRow row{.insert_seq = Seq{1}, .key = std::string("a")};
  std::string encoded = EncodeRow(row);
  row.insert_seq = Seq{99};
  SetInsertSeq(encoded, row.insert_seq);
  CommitBatch batch;
  batch.PutEncodedRow(kStore, RowId{3}, encoded);
  ASSERT_OK(store->Commit(batch, false));
  ASSERT_OK_AND_ASSIGN(const auto rows, store->GetRows(kStore, std::array{RowId{3}}));
  ASSERT_TRUE(rows[0].has_value());
  EXPECT_TRUE(SameRow(*rows[0], row));
}

TEST(Store, ListsRememberedRequestsInOrderOfTheirIds) {
  const TempDir dir;
  auto store = OpenStore(dir);
  const auto entry = [](std::string id, int64_t at) {
    return RequestEntry{.id = std::move(id), .digest = "d", .at_unix_us = at, .reply = "r"};
  };
  const std::string last(128, '\xff');
  CommitBatch batch;
  for (const RequestEntry& one : {entry(last, 1), entry("b", 2), entry("a", 3), entry("ab", 4)}) {
    batch.PutRequest(one);
  }
  ASSERT_OK(store->Commit(batch, true));
  CommitBatch later;
  later.PutRequest(entry("b", 5));
  later.DeleteRequest("ab");
  later.DeleteRequest("never there");
  ASSERT_OK(store->Commit(later, true));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto requests, store->ListRequests());
    EXPECT_THAT(requests, ElementsAre(entry("a", 3), entry("b", 5), entry(last, 1)));
    store.reset();
    store = OpenStore(dir);
  }
}

TEST(Store, DeleteRowStoreLeavesItsNeighboursAlone) {
  const TempDir dir;
  auto store = OpenStore(dir);
  // The last id of all as well: no id comes after it.
  const RowStoreId last{~uint32_t{0}};
  const std::vector<RowStoreId> ids = {RowStoreId{254}, RowStoreId{255}, RowStoreId{256},
                                       RowStoreId{Raw(last) - 1}, last};
  CommitBatch batch;
  for (const RowStoreId id : ids) {
    PutRecord(batch, id, 0);
    PutRecord(batch, id, ~uint64_t{0} - 1);
    batch.PutKey(id, Key(std::string(100, '\xff')), {.row = RowId{1}});
    batch.PutRetired(id, RowId{8}, Seq{1});
    batch.PutCounters(id, {.next_row = RowId{9}, .live_rows = 2});
    batch.PutSegment({.id = SegmentId{Raw(id)}, .row_store = id});
  }
  batch.PutCollection({.id = CollectionId{255}, .row_store = RowStoreId{255}});
  ASSERT_OK(store->Commit(batch, false));
  CommitBatch removal;
  removal.DeleteRowStore(RowStoreId{255});
  removal.DeleteRowStore(last);
  ASSERT_OK(store->Commit(removal, true));

  for (int round = 0; round < 2; ++round) {
    for (const RowStoreId id : ids) {
      SCOPED_TRACE(Raw(id));
      const size_t there = id == RowStoreId{255} || id == last ? 0 : 1;
      EXPECT_EQ(ScannedRows(*store, id, kAllRows).size(), 2 * there);
      EXPECT_EQ(ScannedVectors(*store, id, kField, kAllRows).size(), 2 * there);
      EXPECT_EQ(ScannedRetired(*store, id).size(), there);
      const std::array<Key, 2> keys = {Key(int64_t{0}), Key(std::string(100, '\xff'))};
      ASSERT_OK_AND_ASSIGN(const auto entries, store->LookUpKeys(id, keys));
      EXPECT_EQ(entries[0].has_value(), there == 1);
      EXPECT_EQ(entries[1].has_value(), there == 1);
      ASSERT_OK_AND_ASSIGN(const RowStoreCounters counters, store->GetCounters(id));
      EXPECT_EQ(counters.next_row, there == 1 ? RowId{9} : RowId{0});
    }
    ASSERT_OK_AND_ASSIGN(const auto segments, store->ListSegments());
    ASSERT_EQ(segments.size(), 3u);
    EXPECT_EQ(segments[0].row_store, RowStoreId{254});
    EXPECT_EQ(segments[1].row_store, RowStoreId{256});
    // The collection's entry goes by an order of its own.
    ASSERT_OK_AND_ASSIGN(const auto collections, store->ListCollections());
    EXPECT_EQ(collections.size(), 1u);
    ASSERT_OK(store->Close());
    store = OpenStore(dir);
  }
}

TEST(Store, DeletesCatalogEntriesOneByOne) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  for (const uint32_t id : {1u, 2u, 3u}) {
    batch.PutCollection({.id = CollectionId{id}});
    batch.PutSegment({.id = SegmentId{id}, .row_store = kStore});
  }
  ASSERT_OK(store->Commit(batch, false));
  CommitBatch removal;
  removal.DeleteCollection(CollectionId{2});
  removal.DeleteSegment(kStore, SegmentId{1});
  removal.DeleteSegment(Next(kStore), SegmentId{2});
  ASSERT_OK(store->Commit(removal, false));
  ASSERT_OK_AND_ASSIGN(const auto collections, store->ListCollections());
  ASSERT_EQ(collections.size(), 2u);
  EXPECT_EQ(collections[1].id, CollectionId{3});
  ASSERT_OK_AND_ASSIGN(const auto segments, store->ListSegments());
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_EQ(segments[0].id, SegmentId{2});
}

TEST(CommitBatch, TakesBackWhatCameAfterItsSavePoint) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  PutRecord(batch, kStore, 1);
  batch.SetSavePoint();
  const size_t size = batch.byte_size();
  PutRecord(batch, kStore, 2);
  batch.DeleteRowData(kStore, RowId{1}, std::array{kField});
  batch.DeleteRowStore(kStore);
  EXPECT_GT(batch.byte_size(), size);
  batch.RollBackToSavePoint();
  EXPECT_EQ(batch.byte_size(), size);
  batch.SetSavePoint();
  PutRecord(batch, kStore, 3);
  // The first save point is forgotten: this one keeps record 3.
  batch.SetSavePoint();
  PutRecord(batch, kStore, 4);
  batch.RollBackToSavePoint();
  CommitBatch moved = std::move(batch);
  ASSERT_OK(store->Commit(moved, false));
  EXPECT_THAT(ScannedRows(*store, kStore, kAllRows), ElementsAre(1, 3));
  EXPECT_THAT(ScannedVectors(*store, kStore, kField, kAllRows), ElementsAre(1, 3));
}

TEST(CommitBatch, IsNotCommittedAfterARollBackWithoutASavePoint) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  CommitBatch batch;
  batch.SetSavePoint();
  PutRecord(batch, kStore, 1);
  batch.SetSavePoint();
  batch.RollBackToSavePoint();
  // The second save point took the place of the first.
  batch.RollBackToSavePoint();
  EXPECT_THAT(store->Commit(batch, false), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ScannedRows(*store, kStore, kAllRows), IsEmpty());
}

TEST(Store, IsRefusedWhileItIsOpen) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  EXPECT_THAT(Store::Open(dir.File("rocks"), kSmall), StatusIs(absl::StatusCode::kUnavailable));
}

// Opens the database below the store and lets `change` write into it.
void ChangeBelow(
    const TempDir& dir,
    const std::function<void(rocksdb::DB&, std::vector<rocksdb::ColumnFamilyHandle*>&)>& change) {
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  const auto cache = MakeCache(kSmall);
  ASSERT_TRUE(rocksdb::DB::Open(MakeDbOptions(kSmall, cache), dir.File("rocks"),
                                MakeFamilies(kSmall, cache), &handles, &raw)
                  .ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  change(*db, handles);
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
}

TEST(Store, NamesTheRowWhoseBytesAreMalformed) {
  const TempDir dir;
  auto store = OpenStore(dir);
  CommitBatch batch;
  PutRecord(batch, kStore, 1);
  ASSERT_OK(store->Commit(batch, false));
  store.reset();
  ChangeBelow(dir, [](rocksdb::DB& db, std::vector<rocksdb::ColumnFamilyHandle*>& handles) {
    const auto handle = [&](Family family) { return handles[static_cast<size_t>(family)]; };
    const std::string row = RowKey(kStore, RowId{1});
    ASSERT_TRUE(db.Put({}, handle(Family::kRows), row, "\x01?").ok());
    ASSERT_TRUE(db.Put({}, handle(Family::kRetired), row, "?").ok());
    ASSERT_TRUE(
        db.Put({}, handle(Family::kVectors), VectorKey(kStore, kField, RowId{1}), "12345").ok());
    ASSERT_TRUE(db.Put({}, handle(Family::kKeys), KeyKey(kStore, Key(int64_t{1})), "?").ok());
    ASSERT_TRUE(db.Put({}, handle(Family::kMeta), CountersKey(kStore), "?").ok());
  });
  store = OpenStore(dir);
  const auto loss = [](const char* place) {
    return StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr("row store 7"), HasSubstr(place)));
  };
  EXPECT_THAT(store->GetRows(kStore, std::array{RowId{1}}), loss("row 1"));
  EXPECT_THAT(store->GetVectors(kStore, kField, std::array{RowId{1}}), loss("row 1"));
  EXPECT_THAT(store->LookUpKeys(kStore, std::array{Key(int64_t{1})}), loss("key 1"));
  EXPECT_THAT(store->GetCounters(kStore), loss("counters"));
  EXPECT_THAT(
      store->ScanRows(kStore, kAllRows, [](RowId, StoredRow&&) { return absl::OkStatus(); }),
      loss("row 1"));
  EXPECT_THAT(store->ScanVectors(kStore, kField, kAllRows,
                                 [](RowId, std::span<const float>) { return absl::OkStatus(); }),
              loss("row 1"));
  EXPECT_THAT(store->ScanRetired(kStore, [](RowId, Seq) { return absl::OkStatus(); }),
              loss("row 1"));
}

TEST(Store, RefusesADatabaseWithAColumnFamilyOfALaterVersion) {
  const TempDir dir;
  OpenStore(dir).reset();
  ChangeBelow(dir, [](rocksdb::DB& db, std::vector<rocksdb::ColumnFamilyHandle*>& handles) {
    rocksdb::ColumnFamilyHandle* added = nullptr;
    ASSERT_TRUE(db.CreateColumnFamily({}, "added_later", &added).ok());
    handles.push_back(added);
  });
  EXPECT_THAT(Store::Open(dir.File("rocks"), kSmall),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("added_later")));
}

TEST(Store, KeepsDataThatFillsManyMemtablesAndTables) {
  const TempDir dir;
  auto store = OpenStore(dir);
  constexpr uint64_t kRows = 3'000;
  std::vector<float> vector(768);
  for (uint64_t first = 0; first < kRows; first += 500) {
    CommitBatch batch;
    for (uint64_t row = first; row < first + 500; ++row) {
      vector[0] = static_cast<float>(row);
      batch.PutVector(kStore, kField, RowId{row}, vector);
    }
    ASSERT_OK(store->Commit(batch, false));
  }
  ASSERT_OK(store->Close());
  store = OpenStore(dir);
  uint64_t next = 0;
  ASSERT_OK(
      store->ScanVectors(kStore, kField, kAllRows, [&](RowId row, std::span<const float> stored) {
        EXPECT_EQ(Raw(row), next);
        EXPECT_EQ(stored.size(), 768u);
        EXPECT_EQ(stored[0], static_cast<float>(next));
        ++next;
        return absl::OkStatus();
      }));
  EXPECT_EQ(next, kRows);
}

}  // namespace
}  // namespace azimuth::storage
