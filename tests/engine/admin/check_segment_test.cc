#include "engine/admin/check_segment.h"

#include "base/status.h"
#include "engine/segment/growing.h"
#include "tests/engine/admin/verify_fixture.h"

#include <limits>
#include <vector>

namespace azimuth::engine {
namespace {

// A store of four rows (0 to 3) with keys, of which row 1 is retired at 3, and a growing segment of
// the same.
class CheckSegment : public ::testing::Test {
 protected:
  static constexpr RowStoreId kStore{1};
  static constexpr storage::RowRange kAll{RowId{0}, RowId{std::numeric_limits<uint64_t>::max()}};

  CheckSegment() : schema_(testing::SmallSchema(2)) {
    NumberFields(schema_);
    store_ = *storage::Store::Open(dir_.File("rocks"), {});
    segment_ = std::make_unique<GrowingSegment>(schema_, RowId{0}, 8);
    storage::CommitBatch batch;
    const std::vector<float> vector = {1, 2};
    for (uint64_t row = 0; row < 4; ++row) {
      const storage::StoredRow value{.insert_seq = Seq{2}, .key = static_cast<int64_t>(row)};
      batch.PutRow(kStore, RowId{row}, value);
      batch.PutVector(kStore, schema_.vectors[0].id, RowId{row}, vector);
      if (row != 1) {
        batch.PutKey(kStore, value.key, {.row = RowId{row}, .insert_seq = Seq{2}});
      }
      const std::span<const float> view = vector;
      segment_->Append(RowId{row}, value, {&view, 1});
    }
    batch.PutRetired(kStore, RowId{1}, Seq{3});
    batch.PutCounters(kStore, {.next_row = RowId{4}, .live_rows = 3});
    EXPECT_OK(store_->Commit(batch, true));
    Retire(1, Seq{3});
  }

  void Retire(uint32_t row, Seq seq) {
    retired_.Retire(RowId{row}, seq);
    segment_->MarkRetired(row);
  }
  // The findings at commit 5.
  std::vector<Finding> Check() {
    const CheckedCollection collection{"c", kStore, schema_};
    const CancelToken cancel;
    Findings findings;
    VerifyReport report;
    RepairPlan plan;
    CheckContext context{.store = *store_,
                         .applied = Seq{5},
                         .deep = true,
                         .cancel = cancel,
                         .findings = findings,
                         .report = report,
                         .plan = plan};
    const auto rows = CheckRows(context, collection);
    EXPECT_OK(rows);
    const auto right = CheckSegmentRows(context, collection, *segment_, kAll, *rows, &retired_);
    EXPECT_OK(right);
    std::vector<Finding> found = findings.Take();
    EXPECT_EQ(*right, found.empty());
    return found;
  }
  void ExpectFound(std::string_view kind, std::string_view place) {
    const std::vector<Finding> found = Check();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_THAT(found[0], testing::FindingIs(FindingSeverity::kDerived, kind, place));
  }

  ::azimuth::testing::TempDir dir_;
  Schema schema_;
  RetiredMap retired_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<GrowingSegment> segment_;
};

TEST_F(CheckSegment, FindsNothingWhereMemoryHidesWhatIsRetired) {
  EXPECT_TRUE(Check().empty());
}

TEST_F(CheckSegment, LeavesOutWhatALaterCommitDid) {
  Retire(2, Seq{6});
  const std::vector<float> vector = {1, 2};
  const std::span<const float> view = vector;
  segment_->Append(RowId{4}, {.insert_seq = Seq{6}, .key = int64_t{4}}, {&view, 1});
  EXPECT_TRUE(Check().empty());
}

TEST_F(CheckSegment, FindsALiveRowThatIsHidden) {
  Retire(2, Seq{4});
  ExpectFound("memory.retired", "row 2");
}

TEST_F(CheckSegment, FindsARetiredRowThatIsNotHidden) {
  storage::CommitBatch batch;
  batch.PutRetired(kStore, RowId{2}, Seq{4});
  batch.DeleteKey(kStore, Key{int64_t{2}});
  ASSERT_OK(store_->Commit(batch, true));
  ExpectFound("memory.retired", "row 2");
}

TEST_F(CheckSegment, FindsALiveRowThatIsNowhereInMemory) {
  storage::CommitBatch batch;
  batch.PutRow(kStore, RowId{4}, {.insert_seq = Seq{4}, .key = int64_t{4}});
  batch.PutKey(kStore, Key{int64_t{4}}, {.row = RowId{4}, .insert_seq = Seq{4}});
  ASSERT_OK(store_->Commit(batch, true));
  ExpectFound("segment.row_missing", "row 4");
}

}  // namespace
}  // namespace azimuth::engine
