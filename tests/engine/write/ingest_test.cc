#include "engine/write/ingest.h"

#include "base/clock.h"
#include "engine/limits.h"
#include "engine/write/request_memory.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "tests/engine/manual_workers.h"
#include "tests/engine/open_database.h"
#include "tests/support/raw_store.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeRecord;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;
const std::vector<float> kVector = {1.0F, 2.0F};
constexpr int64_t kBatchRows = 50;

class IngestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    ASSERT_OK(db_->CreateCollection("c", SmallSchema(2), false, kNoCancel));
    spec_.collection = "c";
    spec_.insert = true;
    spec_.load = "load";
  }
  void Open() {
    db_.reset();
    ASSERT_OK_AND_ASSIGN(db_, Database::Open(SmallOptions(dir_.path())));
  }
  // Keys [50 * (number - 1), 50 * number).
  static IngestBatch BatchOf(uint64_t number) {
    IngestBatch batch{.number = number};
    const auto first = static_cast<int64_t>(number - 1) * kBatchRows;
    for (int64_t key = first; key < first + kBatchRows; ++key) {
      batch.records.push_back(MakeRecord(key, key, kVector));
    }
    return batch;
  }
  std::vector<absl::StatusOr<WriteResult>> Send(std::vector<IngestBatch> batches) {
    return db_->Ingest(spec_, std::move(batches), kNoCancel);
  }
  std::vector<absl::StatusOr<WriteResult>> SendNumbers(const std::vector<uint64_t>& numbers) {
    std::vector<IngestBatch> batches;
    for (const uint64_t number : numbers) batches.push_back(BatchOf(number));
    return Send(std::move(batches));
  }
  uint64_t LastBatch() {
    const auto state = db_->OpenIngest(spec_, kNoCancel);
    EXPECT_OK(state);
    return state.ok() ? state->last_batch : 0;
  }
  uint64_t Rows() {
    const auto count = db_->Count("c", {}, kNoCancel);
    EXPECT_OK(count);
    return count.ok() ? count->count : 0;
  }

  TempDir dir_;
  std::unique_ptr<Database> db_;
  IngestSpec spec_;
};

TEST_F(IngestTest, AppliesBatchesInOrderAndRemembersHowFarItCame) {
  EXPECT_EQ(LastBatch(), 0U);
  const auto results = SendNumbers({1, 2, 3});
  ASSERT_EQ(results.size(), 3U);
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_OK(results[i]);
    EXPECT_EQ(results[i]->inserted, 50U);
    EXPECT_TRUE(results[i]->synced);
    EXPECT_GT(results[i]->as_of, i > 0 ? results[i - 1]->as_of : kSeqZero);
  }
  EXPECT_EQ(Rows(), 150U);
  Open();
  const auto state = db_->OpenIngest(spec_, kNoCancel);
  ASSERT_OK(state);
  EXPECT_EQ(state->last_batch, 3U);
  EXPECT_EQ(state->inserted, 150U);
  EXPECT_EQ(state->replaced, 0U);
  EXPECT_EQ(state->as_of, results[2]->as_of);
}

TEST_F(IngestTest, ABatchThatComesAgainIsNotAppliedTwice) {
  ASSERT_OK(SendNumbers({1, 2})[1]);
  Open();
  const auto results = SendNumbers({1, 2, 3});
  ASSERT_OK(results[0]);
  EXPECT_TRUE(results[0]->repeated);
  EXPECT_TRUE(results[1]->repeated);
  EXPECT_EQ(results[0]->inserted, 100U);  // By the load so far.
  EXPECT_EQ(results[0]->replaced, 0U);
  ASSERT_OK(results[2]);
  EXPECT_FALSE(results[2]->repeated);
  EXPECT_EQ(Rows(), 150U);
  // In one group with the first time, too.
  const auto again = SendNumbers({4, 4, 5, 4});
  EXPECT_FALSE(again[0]->repeated);
  EXPECT_TRUE(again[1]->repeated);
  EXPECT_FALSE(again[2]->repeated);
  EXPECT_TRUE(again[3]->repeated);
  EXPECT_EQ(Rows(), 250U);
}

TEST_F(IngestTest, NothingAfterARefusedBatchIsApplied) {
  ASSERT_OK(SendNumbers({1})[0]);
  std::vector<IngestBatch> batches;
  batches.push_back(BatchOf(2));
  batches.push_back(BatchOf(3));
  batches[1].records[7].key = int64_t{3};  // Of the first batch.
  batches.push_back(BatchOf(4));
  const auto results = Send(std::move(batches));
  ASSERT_OK(results[0]);
  EXPECT_THAT(results[1].status(), StatusIs(absl::StatusCode::kAlreadyExists,
                                            HasSubstr("records[7].key: 3 already exists")));
  EXPECT_THAT(results[2].status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("batch 3 comes next")));
  EXPECT_EQ(Rows(), 100U);
  EXPECT_EQ(LastBatch(), 2U);
  // The same number with other content, and a batch that fails before the queue.
  std::vector<IngestBatch> bad;
  bad.push_back(BatchOf(3));
  bad.push_back(BatchOf(4));
  bad[1].records[1].vectors[0].name = "w";
  bad.push_back(BatchOf(5));
  const auto second = Send(std::move(bad));
  ASSERT_OK(second[0]);
  EXPECT_THAT(second[1].status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[1].vectors")));
  EXPECT_THAT(second[2].status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not_applied")));
  EXPECT_EQ(LastBatch(), 3U);
}

TEST_F(IngestTest, ANumberCanBePassedOver) {
  std::vector<IngestBatch> batches;
  batches.push_back({.number = 1, .skip = true});
  batches.push_back(BatchOf(2));
  const auto results = Send(std::move(batches));
  ASSERT_OK(results[0]);
  EXPECT_EQ(results[0]->inserted, 0U);
  ASSERT_OK(results[1]);
  EXPECT_EQ(Rows(), 50U);
  EXPECT_EQ(LastBatch(), 2U);
}

TEST_F(IngestTest, LoadsAreApartFromEachOtherAndFromRequestIds) {
  ASSERT_OK(SendNumbers({1})[0]);
  spec_.insert = false;
  spec_.load = "other";
  const auto results = SendNumbers({1});
  ASSERT_OK(results[0]);
  EXPECT_EQ(results[0]->replaced, 50U);
  ASSERT_OK(db_->CreateCollection("d", SmallSchema(2), false, kNoCancel));
  spec_.collection = "d";
  EXPECT_EQ(LastBatch(), 0U);
  WriteOptions options;
  options.request_id = "other";
  options.request_digest = "x";
  std::vector<RecordInput> records;
  records.push_back(MakeRecord(900, 1, kVector));
  EXPECT_FALSE(db_->Insert("c", std::move(records), kNoCancel, options)->repeated);
}

TEST_F(IngestTest, WrongNamesAreRefused) {
  for (const std::string& load : {std::string(), std::string(kLoadNameBytesMax + 1, 'x')}) {
    spec_.load = load;
    EXPECT_THAT(db_->OpenIngest(spec_, kNoCancel).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("load: ")));
    EXPECT_THAT(SendNumbers({1})[0].status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("load: ")));
  }
  spec_.load = "load";
  spec_.collection = "e";
  EXPECT_THAT(db_->OpenIngest(spec_, kNoCancel).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'e'")));
  EXPECT_THAT(SendNumbers({1, 2})[1].status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("refused")));
  EXPECT_EQ(Rows(), 0U);
}

// What it had applied is gone: it is to be loaded again, whole.
TEST_F(IngestTest, BeginsAnewAfterATruncation) {
  ASSERT_OK(SendNumbers({1, 2, 3})[2]);
  ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
  EXPECT_EQ(LastBatch(), 0U);
  EXPECT_THAT(SendNumbers({4})[0].status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("batch 1 comes next")));
  Open();
  EXPECT_EQ(LastBatch(), 0U);
  const auto results = SendNumbers({1, 2, 2});
  ASSERT_OK(results[0]);
  EXPECT_FALSE(results[0]->repeated);
  ASSERT_OK(results[1]);
  EXPECT_TRUE(results[2]->repeated);
  EXPECT_EQ(Rows(), 100U);
  Open();
  const auto state = db_->OpenIngest(spec_, kNoCancel);
  ASSERT_OK(state);
  EXPECT_EQ(state->last_batch, 2U);
  EXPECT_EQ(state->inserted, 100U);
}

// As the store has it of a server that did not write of which row store a load was.
TEST_F(IngestTest, GoesOnWithALoadOfAnEarlierServer) {
  ASSERT_OK(SendNumbers({1, 2})[1]);
  ASSERT_OK_AND_ASSIGN(const IngestState state, db_->OpenIngest(spec_, kNoCancel));
  const std::string id = LoadEntryId(CollectionId{1}, spec_.load);
  const auto forget_row_store = [&] {
    db_.reset();
    ASSERT_OK(::azimuth::testing::PutRawEntry(
        dir_.File("rocks"), "requests", storage::RequestKey(id),
        storage::EncodeRequestEntry({.id = id,
                                     .at_unix_us = Clock::System().NowUnixMicros(),
                                     .reply = EncodeLoadState(state)})));
    Open();
  };
  forget_row_store();
  EXPECT_EQ(LastBatch(), 2U);
  const auto results = SendNumbers({2, 3});
  ASSERT_OK(results[0]);
  EXPECT_TRUE(results[0]->repeated);
  ASSERT_OK(results[1]);
  EXPECT_EQ(Rows(), 150U);
  // A truncation after the start counts, whether batches came before it or not.
  forget_row_store();
  EXPECT_EQ(LastBatch(), 2U);
  ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
  EXPECT_EQ(LastBatch(), 0U);
  Open();
  EXPECT_EQ(LastBatch(), 0U);
}

TEST_F(IngestTest, PassesOverANumberOnADiskThatIsNearlyFull) {
  DatabaseOptions options = SmallOptions(dir_.path());
  options.disk_floor_bytes = uint64_t{1} << 62;
  db_.reset();
  ASSERT_OK_AND_ASSIGN(db_, Database::Open(options));
  EXPECT_THAT(SendNumbers({1})[0].status(), StatusIs(absl::StatusCode::kResourceExhausted));
  std::vector<IngestBatch> skipped;
  skipped.push_back({.number = 1, .skip = true});
  ASSERT_OK(Send(std::move(skipped))[0]);
  EXPECT_EQ(LastBatch(), 1U);
}

TEST_F(IngestTest, PassesOverANumberWhileTooManyRowsWait) {
  DatabaseOptions options = SmallOptions(dir_.path());
  options.unindexed_rows_slow = 1;
  options.unindexed_rows_max = 2;
  testing::ManualWorkers* workers = nullptr;
  testing::UseManualWorkers(options, workers);  // Nothing is built.
  db_.reset();
  ASSERT_OK_AND_ASSIGN(db_, Database::Open(options));
  ASSERT_OK(SendNumbers({1})[0]);
  EXPECT_THAT(SendNumbers({2})[0].status(), StatusIs(absl::StatusCode::kResourceExhausted));
  std::vector<IngestBatch> skipped;
  skipped.push_back({.number = 1, .skip = true});
  skipped.push_back({.number = 2, .skip = true});
  const auto results = Send(std::move(skipped));
  ASSERT_OK(results[0]);
  EXPECT_TRUE(results[0]->repeated);
  ASSERT_OK(results[1]);
  EXPECT_EQ(LastBatch(), 2U);
}

TEST_F(IngestTest, SeesADrop) {
  ASSERT_OK(SendNumbers({1, 2})[1]);
  ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  EXPECT_THAT(SendNumbers({3})[0].status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'c'")));
}

}  // namespace
}  // namespace azimuth::engine
