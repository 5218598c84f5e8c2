#include "engine/snapshot/check_entries.h"

#include "base/bytes.h"
#include "base/status.h"
#include "storage/store.h"
#include "tests/engine/open_database.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using storage::CommitBatch;
using storage::KeyEntry;
using storage::StoredRow;
using ::testing::HasSubstr;

constexpr RowStoreId kRowStore{1};
constexpr RowId kNextRow{100};
constexpr Seq kAsOf{50};

StoredRow RowOf(int64_t key, Seq seq) {
  StoredRow row{.insert_seq = seq};
  row.key = key;
  row.fields = {{FieldId{1}, Value{key}}};
  return row;
}

class EntriesCheckTest : public ::testing::Test {
 protected:
  EntriesCheckTest() {
    NumberFields(schema_);
    storage::StoreOptions options;
    options.write_buffer_bytes = uint64_t{1} << 20;
    store_ = *storage::Store::Open(dir_.File("rocks"), options);
    // Keys 1 and 2 in rows 3 and 5; row 4 was replaced by row 5.
    Change([&](CommitBatch& batch) {
      Put(batch, 3, 1, 10);
      Put(batch, 4, 2, 11);
      Put(batch, 5, 2, 12);
      batch.PutRetired(kRowStore, RowId{4}, Seq{12});
    });
  }
  void Put(CommitBatch& batch, uint64_t row, int64_t key, uint64_t seq) {
    const std::vector<float> vector = {1, 2};
    batch.PutRow(kRowStore, RowId{row}, RowOf(key, Seq{seq}));
    batch.PutVector(kRowStore, FieldId{3}, RowId{row}, vector);
    batch.PutKey(kRowStore, Key{key}, {.row = RowId{row}, .insert_seq = Seq{seq}});
  }
  void Change(const std::function<void(CommitBatch&)>& change) {
    CommitBatch batch;
    change(batch);
    ASSERT_OK(store_->Commit(batch, /*sync=*/false));
  }
  absl::Status Check() {
    check_ = std::make_unique<EntriesCheck>(schema_, kNextRow, kAsOf, memory_);
    AZ_RETURN_IF_ERROR(storage::ScanRowEntries(
        *store_, kRowStore, RowId{~uint64_t{0}},
        [&](storage::RowEntryKind kind, std::string_view key, std::string_view value) {
          return check_->Visit(kind, key, value);
        },
        nullptr));
    return check_->Finish();
  }
  // What it says of the store with a change.
  void Refused(std::string_view why, const std::function<void(CommitBatch&)>& change) {
    Change(change);
    EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(std::string(why))));
  }

  const TempDir dir_;
  Schema schema_ = testing::SmallSchema(2);
  std::unique_ptr<storage::Store> store_;
  MemoryBudget memory_{uint64_t{64} << 20};
  std::unique_ptr<EntriesCheck> check_;
};

TEST_F(EntriesCheckTest, LetsPassWhatIsRightAndCountsIt) {
  ASSERT_OK(Check());
  EXPECT_EQ(check_->live_rows(), 2U);
  EXPECT_EQ(check_->vectors(), 3U);
  EXPECT_THAT(check_->rows(), ::testing::ElementsAre(RowId{3}, RowId{4}, RowId{5}));
  EXPECT_THAT(check_->retired(), ::testing::ElementsAre(std::pair(RowId{4}, Seq{12})));
}

TEST_F(EntriesCheckTest, CountsItsMemoryAndGivesItBack) {
  ASSERT_OK(Check());
  const uint64_t used = memory_.used(MemoryPart::kScratch);
  EXPECT_GE(used, 3 * sizeof(RowId) + sizeof(std::pair<RowId, Seq>));
  check_->ReleaseRows();
  EXPECT_LT(memory_.used(MemoryPart::kScratch), used);
  EXPECT_EQ(check_->row_count(), 3U);
  EXPECT_EQ(check_->live_rows(), 2U);
  check_.reset();
  EXPECT_EQ(memory_.used(MemoryPart::kScratch), 0U);
}

TEST_F(EntriesCheckTest, RefusesMoreRowsThanTheMemoryIsFor) {
  MemoryBudget small(256);
  {
    EntriesCheck check(schema_, kNextRow, kAsOf, small);
    const absl::Status status = storage::ScanRowEntries(
        *store_, kRowStore, kNextRow,
        [&](storage::RowEntryKind kind, std::string_view key, std::string_view value) {
          return check.Visit(kind, key, value);
        },
        nullptr);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("the 128 bytes")));
  }
  EXPECT_EQ(small.used(), 0U);
}

class EntriesCheckMemory : public EntriesCheckTest {
 protected:
  static constexpr uint64_t kRows = 20'000;
  // About what it takes to check them.
  static constexpr uint64_t kBytes = kRows * 25;

  EntriesCheckMemory() {
    Change([&](CommitBatch& batch) {
      for (uint64_t i = 0; i < kRows; ++i) Put(batch, 6 + i, static_cast<int64_t>(10 + i), 13);
    });
  }
  // In a budget of which `others` bytes are used, with room for `expected` rows from the start.
  absl::Status CheckIn(uint64_t total, uint64_t others, uint64_t expected) {
    MemoryBudget memory(total);
    memory.Add(MemoryPart::kGrowing, static_cast<int64_t>(others));
    absl::Status status;
    {
      EntriesCheck check(schema_, RowId{100 + kRows}, kAsOf, memory, expected);
      status = storage::ScanRowEntries(
          *store_, kRowStore, RowId{~uint64_t{0}},
          [&](storage::RowEntryKind kind, std::string_view key, std::string_view value) {
            const absl::Status visited = check.Visit(kind, key, value);
            EXPECT_LE(memory.used(MemoryPart::kScratch), total / 2);
            EXPECT_LE(memory.used(), std::max(total, others));
            return visited;
          },
          nullptr);
      if (status.ok()) status = check.Finish();
    }
    EXPECT_EQ(memory.used(), others);
    return status;
  }
};

TEST_F(EntriesCheckMemory, HalfOfTheBudgetIsForAsManyRowsAsFit) {
  constexpr uint64_t kTotal = kBytes * 21 / 10;
  EXPECT_OK(CheckIn(kTotal, 0, kRows + 3));
  // Also where far fewer are there than were expected.
  EXPECT_OK(CheckIn(kTotal, 0, uint64_t{1} << 40));
  EXPECT_THAT(CheckIn(kBytes * 19 / 10, 0, kRows + 3),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(EntriesCheckMemory, RowsThatWereNotExpectedTakeAThirdMoreAtMost) {
  EXPECT_OK(CheckIn(kBytes * 28 / 10, 0, 0));
  EXPECT_OK(CheckIn(kBytes * 28 / 10, 0, kRows / 2));
}

TEST_F(EntriesCheckMemory, WhatOthersUseIsNotTaken) {
  constexpr uint64_t kTotal = kBytes * 4;
  EXPECT_OK(CheckIn(kTotal, kTotal - kBytes * 11 / 10, kRows + 3));
  EXPECT_THAT(CheckIn(kTotal, kTotal - kBytes * 9 / 10, kRows + 3),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(CheckIn(kTotal, kTotal + 1, 0), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(EntriesCheckTest, LetsARetirementPassWhoseRowAMergeHasDropped) {
  Change([](CommitBatch& batch) { batch.PutRetired(kRowStore, RowId{1}, Seq{9}); });
  ASSERT_OK(Check());
  EXPECT_EQ(check_->live_rows(), 2U);
}

TEST_F(EntriesCheckTest, RefusesIdsAndNumbersThatAreOutOfRange) {
  Refused("row 100", [&](CommitBatch& batch) { Put(batch, 100, 7, 20); });
}
TEST_F(EntriesCheckTest, RefusesNumbersAfterTheSnapshot) {
  Refused("row 9: it was inserted at 51", [&](CommitBatch& batch) { Put(batch, 9, 7, 51); });
}
TEST_F(EntriesCheckTest, RefusesNumbersOutOfOrder) {
  Refused("row 9: it was inserted at 2", [&](CommitBatch& batch) { Put(batch, 9, 7, 2); });
}
TEST_F(EntriesCheckTest, RefusesARowWithoutAKey) {
  Refused("row 5: no key", [](CommitBatch& batch) { batch.DeleteKey(kRowStore, Key{int64_t{2}}); });
}
TEST_F(EntriesCheckTest, RefusesAKeyWithoutARow) {
  Refused("key 9 leads to row 77", [](CommitBatch& batch) {
    batch.PutKey(kRowStore, Key{int64_t{9}}, {.row = RowId{77}, .insert_seq = Seq{1}});
  });
}
TEST_F(EntriesCheckTest, RefusesAKeyThatLeadsToTheRowOfAnother) {
  Refused("key 9 leads to row 3", [](CommitBatch& batch) {
    batch.PutKey(kRowStore, Key{int64_t{9}}, {.row = RowId{3}, .insert_seq = Seq{10}});
  });
}
TEST_F(EntriesCheckTest, RefusesAnEntryThatDiffersFromItsRow) {
  Refused("key 1 leads to row 3", [](CommitBatch& batch) {
    batch.PutKey(kRowStore, Key{int64_t{1}},
                 {.row = RowId{3}, .insert_seq = Seq{10}, .expires_at_unix_us = 5});
  });
}
TEST_F(EntriesCheckTest, RefusesARetiredRowThatAKeyLeadsTo) {
  Refused("row 3: its retirement",
          [](CommitBatch& batch) { batch.PutRetired(kRowStore, RowId{3}, Seq{20}); });
}
TEST_F(EntriesCheckTest, RefusesARetirementBeforeTheInsertion) {
  Refused("row 4: its retirement",
          [](CommitBatch& batch) { batch.PutRetired(kRowStore, RowId{4}, Seq{11}); });
}
TEST_F(EntriesCheckTest, RefusesARetirementOfNoCommitOrOfNoRow) {
  Refused("retirement at 0",
          [](CommitBatch& batch) { batch.PutRetired(kRowStore, RowId{4}, kSeqZero); });
  Refused("retirement", [](CommitBatch& batch) {
    batch.PutRetired(kRowStore, RowId{4}, Seq{12});
    batch.PutRetired(kRowStore, RowId{uint64_t{1} << 60}, Seq{12});
  });
}

TEST_F(EntriesCheckTest, RefusesKeysThatTheServerCannotHaveMade) {
  schema_.auto_id = true;
  ASSERT_OK(Check());
  Refused("row 6: the server cannot have made its key 8",
          [&](CommitBatch& batch) { Put(batch, 6, 8, 13); });
}

TEST_F(EntriesCheckTest, RefusesVectorsThatDoNotFit) {
  const std::vector<float> vector = {1, 2};
  const std::vector<float> longer = {1, 2, 3};
  const std::vector<float> bad = {1, std::numeric_limits<float>::quiet_NaN()};
  Refused("row 3: a vector of 12 bytes",
          [&](CommitBatch& batch) { batch.PutVector(kRowStore, FieldId{3}, RowId{3}, longer); });
  Refused("row 3: v[1]: NaN",
          [&](CommitBatch& batch) { batch.PutVector(kRowStore, FieldId{3}, RowId{3}, bad); });
  Refused("row 6: it has a vector, and is not there", [&](CommitBatch& batch) {
    batch.PutVector(kRowStore, FieldId{3}, RowId{3}, vector);
    batch.PutVector(kRowStore, FieldId{3}, RowId{6}, vector);
  });
}
TEST_F(EntriesCheckTest, RefusesAVectorOfNoField) {
  const std::vector<float> vector = {1, 2};
  Refused("no vector field has the id 1",
          [&](CommitBatch& batch) { batch.PutVector(kRowStore, FieldId{1}, RowId{3}, vector); });
}

TEST_F(EntriesCheckTest, RefusesRowsThatAServerWouldNotHaveTaken) {
  const auto with = [&](const std::function<void(StoredRow&)>& change) {
    return [=](CommitBatch& batch) {
      StoredRow row = RowOf(2, Seq{12});
      change(row);
      batch.PutRow(kRowStore, RowId{5}, row);
    };
  };
  Refused("no field has the id 9", with([](StoredRow& row) {
            row.fields = {{FieldId{9}, Value{int64_t{1}}}};
          }));
  Refused("expected int64, got string", with([](StoredRow& row) {
            row.fields = {{FieldId{1}, Value{std::string("x")}}};
          }));
  Refused("expected a key of type int64", with([](StoredRow& row) { row.key = std::string("x"); }));
  Refused("partition", with([](StoredRow& row) { row.partition = PartitionId{3}; }));
  Refused("ends at -1", with([](StoredRow& row) { row.expires_at_unix_us = -1; }));
  Refused("UTF-8", with([](StoredRow& row) { row.dynamic["x"] = Value{std::string("\xff")}; }));
  Refused("a double must be finite", with([](StoredRow& row) {
            row.dynamic["x"] = Value{std::numeric_limits<double>::infinity()};
          }));
}

TEST_F(EntriesCheckTest, RefusesBytesThatDoNotDecode) {
  ASSERT_OK(Check());
  std::string row;
  PutBig(row, uint64_t{7});
  const auto refused = [&](storage::RowEntryKind kind, std::string_view key,
                           std::string_view value) {
    EXPECT_THAT(check_->Visit(kind, key, value), StatusIs(absl::StatusCode::kDataLoss)) << value;
  };
  refused(storage::RowEntryKind::kRow, row, "\x01junk");
  refused(storage::RowEntryKind::kRow, "abc", "");
  refused(storage::RowEntryKind::kVector, row, "12345678");
  refused(storage::RowEntryKind::kKey, "", "");
  refused(storage::RowEntryKind::kKey, "\x02key", "short");
  refused(storage::RowEntryKind::kRetired, row, "1234567");
  refused(storage::RowEntryKind::kRetired, "abc", "12345678");
}

TEST_F(EntriesCheckTest, KnowsWhatRetirementsTakeInMemory) {
  ASSERT_OK(Check());
  EXPECT_LT(check_->retired_bytes(), 10000U);
  // The first retirement there would take it.
  EntriesCheck far(schema_, RowId{uint64_t{1} << 47}, kAsOf, memory_);
  ASSERT_OK(far.Finish());
  EXPECT_GT(far.retired_bytes(), uint64_t{1} << 40);
  EXPECT_OK(CheckRetiredBytes(check_->retired_bytes(), memory_));
  // A running server of this budget may have as many.
  EXPECT_OK(CheckRetiredBytes(memory_.total(), memory_));
  EXPECT_OK(CheckRetiredBytes(MemoryBudget::DefaultTotal(), memory_));
  EXPECT_THAT(CheckRetiredBytes(far.retired_bytes(), memory_),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace azimuth::engine
