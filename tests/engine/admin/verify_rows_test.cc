// One fault after the other in the rows, keys, vectors, retirements, counters and catalog of a
// store, and what the check says of it.

#include "base/status.h"
#include "tests/engine/admin/verify_fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace azimuth::engine {
namespace {

using storage::CommitBatch;
using storage::Store;
using ::testing::Contains;
using ::testing::HasSubstr;

class VerifyRows : public testing::VerifyTest {
 protected:
  void SetUp() override { MakeContent(); }

  // No vectors past the last row are expected from now on: a start removes them.
  void ForgetTables() {
    Reopen();
    db_.reset();
  }
  // Writes row 7 of items again, whose key is 7, as `change` makes it.
  void ChangeRow(const std::function<void(storage::StoredRow&)>& change) {
    ChangeStore([&](const Store& store, CommitBatch& batch) {
      storage::StoredRow row = RowOf(store, kItems, RowId{7});
      change(row);
      batch.PutRow(kItems, RowId{7}, row);
    });
  }
  void ChangeEntry(const std::function<void(storage::KeyEntry&)>& change) {
    ChangeStore([&](const Store& store, CommitBatch& batch) {
      storage::KeyEntry entry = EntryOf(store, kItems, Key{int64_t{7}});
      change(entry);
      batch.PutKey(kItems, Key{int64_t{7}}, entry);
    });
  }
};

TEST_F(VerifyRows, CountsWhatThereIs) {
  const VerifyReport report = Verify();
  ExpectSound(report);
  EXPECT_EQ(report.collections, 2U);
  EXPECT_EQ(report.rows, 305U + 120U);
  EXPECT_EQ(report.keys, 295U + 120U);
  EXPECT_EQ(report.retired, 10U);
  EXPECT_GE(report.vectors, 305U + 120U);
  EXPECT_GE(report.segments, 2U);
  EXPECT_GT(report.segment_rows_compared, 300U);
  EXPECT_GT(report.graph_nodes, 300U);
  EXPECT_GT(report.bytes_read, 10000U);
  EXPECT_EQ(report.applied, report.watermark);
}

TEST_F(VerifyRows, FindsARowFromTheFuture) {
  ChangeRow([](storage::StoredRow& row) { row.insert_seq = Seq{1000000}; });
  ExpectSource("row.sequence", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsRowsOutOfTheOrderOfTheirInsertion) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    storage::StoredRow row = RowOf(store, kItems, RowId{302});
    row.insert_seq = Seq{1};
    batch.PutRow(kItems, RowId{302}, row);
  });
  ExpectSource("row.order", "collection 'items', row 302");
}

TEST_F(VerifyRows, FindsAKeyOfTheWrongType) {
  ChangeRow([](storage::StoredRow& row) { row.key = std::string("seven"); });
  ExpectSource("row.key", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsAFieldThatTheSchemaLacks) {
  ChangeRow([](storage::StoredRow& row) { row.fields.emplace_back(FieldId{99}, Value{true}); });
  ExpectSource("row.field", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsAFieldOfTheWrongType) {
  ChangeRow([](storage::StoredRow& row) { row.fields.front().second = Value{2.5}; });
  ExpectSource("row.field", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsAnUndeclaredFieldWhereNoneAreAllowed) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    storage::StoredRow row = RowOf(store, kTexts, RowId{7});
    row.dynamic["extra"] = Value{true};
    batch.PutRow(kTexts, RowId{7}, row);
  });
  ExpectSource("row.field", "collection 'texts', row 7");
}

TEST_F(VerifyRows, FindsARowWhoseKeyIsGone) {
  ChangeStore([&](const Store&, CommitBatch& batch) { batch.DeleteKey(kItems, Key{int64_t{7}}); });
  ExpectSource("row.key_missing", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsARowWhoseKeyLeadsElsewhere) {
  ChangeEntry([](storage::KeyEntry& entry) { entry.row = RowId{8}; });
  ExpectSource("row.key_missing", "collection 'items', row 7");
  ExpectSource("key.row_differs", "collection 'items', key 7");
}

TEST_F(VerifyRows, FindsAKeyOfWhichTheRowIsGone) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    const FieldId fields[] = {FieldId{3}, FieldId{4}};
    batch.DeleteRowData(kItems, RowId{7}, fields);
  });
  ExpectSource("key.row_missing", "collection 'items', key 7");
}

TEST_F(VerifyRows, FindsAKeyThatLeadsToADeletedRow) {
  ChangeStore(
      [&](const Store&, CommitBatch& batch) { batch.PutRetired(kItems, RowId{7}, Seq{4}); });
  ExpectSource("key.row_retired", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsAKeyEntryThatIsNotThatOfItsRow) {
  ChangeEntry([](storage::KeyEntry& entry) { entry.expires_at_unix_us = 5; });
  ExpectSource("key.entry_differs", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsRetirementsOutOfTime) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutRetired(kItems, RowId{10}, Seq{1000000});
    batch.PutRetired(kItems, RowId{11}, Seq{1});
  });
  ExpectSource("retired.sequence", "collection 'items', row 10");
  ExpectSource("retired.sequence", "collection 'items', row 11");
}

TEST_F(VerifyRows, FindsVectorsOfNoRow) {
  ForgetTables();
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutVector(kItems, FieldId{3}, RowId{9999}, VectorOf(1, 8));
  });
  ExpectSource("vector.row_missing", "collection 'items', row 9999");
}

// As a death between row tables and their commit leaves them, or a load that goes on.
TEST_F(VerifyRows, TakesVectorsPastTheLastRowForThoseOfALoad) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    EXPECT_FALSE(store.ListTablesEnds()->empty());
    batch.PutVector(kItems, FieldId{3}, RowId{9999}, VectorOf(1, 8));
  });
  EXPECT_TRUE(Verify().sound());
}

TEST_F(VerifyRows, FindsVectorsOfTheWrongDimension) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutVector(kItems, FieldId{3}, RowId{7}, VectorOf(1, 5));
  });
  ExpectSource("vector.dimension", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsVectorsThatAreNoNumbers) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    std::vector<float> vector = VectorOf(7, 8);
    vector[3] = std::numeric_limits<float>::quiet_NaN();
    batch.PutVector(kItems, FieldId{3}, RowId{7}, vector);
  });
  ExpectSource("vector.not_finite", "collection 'items', row 7");
}

TEST_F(VerifyRows, FindsWrongCounters) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutCounters(kItems, {.next_row = RowId{305}, .live_rows = 294});
    batch.PutCounters(kTexts, {.next_row = RowId{100}, .live_rows = 120});
  });
  ExpectDerived("counters.live_rows", "collection 'items'");
  ExpectDerived("counters.next_row", "collection 'texts'");
}

TEST_F(VerifyRows, NoticesRetirementsOfDroppedRows) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    // No segment has a row of texts yet past the last, and none that is gone.
    batch.PutRetired(kItems, RowId{304}, Seq{4});
    const FieldId fields[] = {FieldId{3}, FieldId{4}};
    batch.DeleteRowData(kItems, RowId{304}, fields);
    batch.DeleteKey(kItems, Key{int64_t{44}});
    batch.PutCounters(kItems, {.next_row = RowId{305}, .live_rows = 294});
  });
  ExpectNotice("retired.stray", "collection 'items'");
}

TEST_F(VerifyRows, FindsTwoCollectionsOfOneNameOrOneRowStore) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    ASSERT_OK_AND_ASSIGN(const auto entries, store.ListCollections());
    storage::CollectionEntry same_name = entries.front();
    same_name.id = CollectionId{3};
    same_name.row_store = RowStoreId{3};
    batch.PutCollection(same_name);
    storage::CollectionEntry same_store = entries.front();
    same_store.id = CollectionId{4};
    same_store.name = "other";
    batch.PutCollection(same_store);
    batch.PutNextIds({CollectionId{5}, RowStoreId{5}, SegmentId{100}});
  });
  ExpectSource("catalog.duplicate", "collection 'items' (number 3)");
  ExpectSource("catalog.duplicate", "collection 'other' (number 4)");
}

TEST_F(VerifyRows, FindsADefinitionThatCannotBeRead) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    ASSERT_OK_AND_ASSIGN(auto entries, store.ListCollections());
    entries.front().definition = "not a schema";
    batch.PutCollection(entries.front());
  });
  ExpectSource("catalog.definition", "collection 'items'");
}

TEST_F(VerifyRows, FindsRowsAndSegmentsOfNoCollection) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    batch.PutRow(RowStoreId{77}, RowId{0}, RowOf(store, kItems, RowId{7}));
    batch.PutSegment({.id = SegmentId{50},
                      .row_store = RowStoreId{78},
                      .rows = {RowId{0}, RowId{1}},
                      .row_count = 1});
    batch.PutNextIds({CollectionId{3}, RowStoreId{79}, SegmentId{100}});
  });
  ExpectSource("store.no_collection", "row store 77");
  ExpectDerived("segment.no_collection", "segment 50");
}

TEST_F(VerifyRows, FindsIdsThatWouldBeGivenOutTwice) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutNextIds({CollectionId{2}, RowStoreId{3}, SegmentId{100}});
  });
  ExpectDerived("catalog.next_ids", "next ids");
}

// Beside a server such a store would be younger than what is looked at.
TEST_F(VerifyRows, FindsARowStoreOfRowTablesPastTheNextIds) {
  constexpr RowStoreId kNobodys{90};
  {
    const auto store = OpenStore();
    auto tables = store->NewRowTables();
    tables->PutEncodedRow(kNobodys, RowId{0}, storage::EncodeRow(RowOf(*store, kItems, RowId{7})));
    ASSERT_OK(store->TakeIn(*tables));
    tables.reset();
    ASSERT_OK_AND_ASSIGN(const auto ends, store->ListTablesEnds());
    EXPECT_TRUE(std::any_of(ends.begin(), ends.end(),
                            [](const auto& entry) { return entry.first == kNobodys; }));
    ASSERT_OK(store->Close());
  }
  ExpectSource("store.no_collection", "row store 90");
  ExpectDerived("catalog.next_ids", "next ids");
  EXPECT_THAT(Repair().repairs, Contains(HasSubstr("the ids that are next")));
  ASSERT_OK_AND_ASSIGN(const storage::NextIds next, OpenStore()->GetNextIds());
  EXPECT_GT(next.row_store, kNobodys);
}

TEST_F(VerifyRows, ListsAHundredOfAKindAndCountsTheOthers) {
  ForgetTables();
  ChangeStore([&](const Store&, CommitBatch& batch) {
    for (uint64_t row = 5000; row < 5250; ++row) {
      batch.PutVector(kItems, FieldId{3}, RowId{row}, VectorOf(1, 8));
    }
  });
  const VerifyReport report = Verify();
  std::vector<Finding> of_kind;
  for (const Finding& finding : report.findings) {
    if (finding.kind == "vector.row_missing") of_kind.push_back(finding);
  }
  ASSERT_EQ(of_kind.size(), 100U);
  EXPECT_THAT(of_kind.back().message, HasSubstr("150 more"));
}

TEST_F(VerifyRows, StopsWhenItIsCancelled) {
  const CancelToken cancelled(CancelToken::TimePoint::max(), [] { return true; });
  EXPECT_THAT(VerifyDirectory(options_, true, cancelled),
              ::azimuth::testing::StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace azimuth::engine
