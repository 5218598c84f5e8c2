// The check of an open database: nothing is found while it is in use, and faults are.

#include "base/failpoint.h"
#include "base/status.h"
#include "tests/engine/admin/verify_fixture.h"
#include "tests/support/sanitized.h"

#include <atomic>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::WriteBytes;
using storage::CommitBatch;
using storage::Store;
using ::testing::Contains;

class VerifyOpen : public testing::VerifyTest {
 protected:
  VerifyReport Look(std::string_view collection = "", bool deep = true) {
    const auto report = db_->Verify(collection, deep, no_cancel_);
    EXPECT_OK(report);
    return report.ok() ? *report : VerifyReport{};
  }
  void ExpectFound(FindingSeverity severity, std::string_view kind, std::string_view place) {
    const VerifyReport report = Look();
    EXPECT_THAT(report.findings, Contains(testing::FindingIs(severity, kind, place)))
        << testing::ToText(report);
  }
};

TEST_F(VerifyOpen, CountsWhatThereIsInOneCollectionOrInAll) {
  MakeItems();
  MakeTexts(50);
  Settle();
  DeleteItems(10, 5);
  const VerifyReport all = Look();
  EXPECT_TRUE(all.findings.empty()) << testing::ToText(all);
  EXPECT_EQ(all.collections, 2U);
  EXPECT_EQ(all.keys, 295U + 50U);
  EXPECT_GT(all.graph_nodes, 0U);
  const VerifyReport one = Look("texts", /*deep=*/false);
  EXPECT_TRUE(one.findings.empty()) << testing::ToText(one);
  EXPECT_EQ(one.collections, 1U);
  EXPECT_EQ(one.keys, 50U);
  EXPECT_THAT(db_->Verify("none", true, no_cancel_), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(VerifyOpen, FindsFaultsOfTheStore) {
  MakeItems();
  Settle();
  Close();
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    batch.DeleteKey(kItems, Key{int64_t{7}});
    batch.PutVector(kItems, FieldId{3}, RowId{8}, VectorOf(9, 8));
    const storage::RowStoreCounters counters = *store.GetCounters(kItems);
    batch.PutCounters(kItems, {counters.next_row, counters.live_rows + 1});
  });
  db_ = testing::OpenOrDie(options_);
  ExpectFound(FindingSeverity::kSource, "row.key_missing", "row 7");
  ExpectFound(FindingSeverity::kDerived, "segment.row_differs", "row 8");
  ExpectFound(FindingSeverity::kDerived, "counters.live_rows", "collection 'items'");
}

TEST_F(VerifyOpen, FindsASegmentFileThatWasRemovedOrChangedUnderTheServer) {
  MakeItems();
  Settle();
  uint64_t id = 0;
  const auto stats = db_->GetStats("items");
  ASSERT_OK(stats);
  for (const SegmentStats& segment : stats->segments) {
    if (segment.state == SegmentState::kSealed) id = Raw(segment.id);
  }
  ASSERT_GT(id, 0U);
  const std::string path = PathOf(SegmentId{id});
  std::filesystem::rename(path, path + ".away");
  ExpectFound(FindingSeverity::kDerived, "segment.missing", absl::StrCat("segment ", id));
  std::filesystem::rename(path + ".away", path);
  EXPECT_TRUE(Look().findings.empty());
}

class VerifyDuringABulkCommit : public VerifyOpen,
                                public ::testing::WithParamInterface<Failpoint> {};
INSTANTIATE_TEST_SUITE_P(Steps, VerifyDuringABulkCommit,
                         ::testing::Values(Failpoint::kVerifyAfterPin,
                                           Failpoint::kVerifyBeforeVectors));

// Row tables show in snapshots that are older.
TEST_P(VerifyDuringABulkCommit, FindsNothing) {
#ifndef AZ_FAILPOINTS_ENABLED
  GTEST_SKIP() << "this build has no failpoints";
#endif
  options_.bulk_commit_bytes = uint64_t{1} << 30;
  Reopen();
  MakeItems(20);
  // The first row tables, in a row store that has rows and in one that nobody has heard of.
  options_.bulk_commit_bytes = 1;
  Reopen();
  int visits = 0;
  SetFailpointHook(GetParam(), [&] {
    if (visits++ == 0) {
      PutItems(100, 20);
      MakeTexts(20);
    }
    return absl::OkStatus();
  });
  const VerifyReport report = Look();
  SetFailpointHook(GetParam(), nullptr);
  EXPECT_GT(visits, 0);
  EXPECT_TRUE(report.findings.empty()) << testing::ToText(report);
}

// Writers of every kind, merges, truncations and drops, and readers that check all the while.
TEST_F(VerifyOpen, FindsNothingWhileTheDatabaseIsInUse) {
  options_.make_workers = {};
  options_.clock = &Clock::System();
  Reopen();
  MakeItems(200);
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    writers.emplace_back([this, seed, &stop] {
      std::mt19937_64 random(seed);
      while (!stop.load()) {
        const auto first = static_cast<int64_t>(random() % 400);
        const uint64_t what = random() % 20;
        if (what < 12) {
          PutItems(first, 1 + static_cast<int64_t>(random() % 40));
        } else if (what < 18) {
          DeleteItems(first, 1 + static_cast<int64_t>(random() % 60));
        } else if (what < 19) {
          EXPECT_OK(db_->TruncateCollection("items", no_cancel_));
        } else {
          const std::string name = absl::StrCat("c", seed);
          EXPECT_OK(db_->CreateCollection(name, testing::SmallSchema(4), false, no_cancel_));
          const std::vector<float> vector = VectorOf(1, 4);
          std::vector<RecordInput> records;
          for (int64_t key = 0; key < 120; ++key) {
            records.push_back(testing::MakeRecord(key, key, vector));
          }
          EXPECT_OK(db_->Insert(name, std::move(records), no_cancel_));
          EXPECT_OK(db_->DropCollection(name, false, no_cancel_));
        }
      }
    });
  }
  uint64_t segments = 0;
  uint64_t retired = 0;
  // On a busy machine the first build takes its time.
  constexpr int kRoundsMax = 100000;
  constexpr int kRounds = azimuth::testing::kSanitized ? 40 : 150;
  for (int round = 0; round < kRounds || (segments == 0 && round < kRoundsMax); ++round) {
    const VerifyReport report = Look("", /*deep=*/round % 2 == 0);
    ASSERT_TRUE(report.findings.empty()) << round << "\n" << testing::ToText(report);
    segments += report.segments;
    retired += report.retired;
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
  EXPECT_GT(segments, 0U);
  EXPECT_GT(retired, 0U);
  Close();
  ExpectSound(Verify());
}

}  // namespace
}  // namespace azimuth::engine
