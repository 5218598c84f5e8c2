#include "engine/write/record_commit.h"

#include "engine/recover.h"
#include "engine/write/ddl_commit.h"
#include "tests/engine/open_database.h"

#include "gtest/gtest.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using testing::MakeRecord;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;

// Goal: a growing segment that is closed between two commits of one group does not answer for the
// rows of the second. Method: writers of single rows and a closer run against each other, so that
// groups mix them; then every row must be in the segment whose range holds it, and ranges must not
// overlap.
TEST(RecordCommit, ClosingTheGrowingSegmentInAGroupKeepsRangesApart) {
  TempDir dir;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Core> core, Recover(SmallOptions(dir.path())));
  core->pool = std::make_unique<WorkerPool>(1);
  core->pool->Stop();  // No builds: only ranges matter here.
  Schema schema = SmallSchema(2);
  NumberFields(schema);
  CreateCommit create(*core, "c", schema, false);
  ASSERT_OK(core->queue.Run(create, kNoCancel));
  ASSERT_OK_AND_ASSIGN(const auto collection, core->FindCollection("c"));

  constexpr int kWriters = 4;
  constexpr int64_t kRowsEach = 100;
  std::atomic<int> running{kWriters};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      const std::vector<float> vector = {1.0F, 2.0F};
      for (int64_t i = 0; i < kRowsEach; ++i) {
        std::vector<RecordInput> records;
        records.push_back(MakeRecord(writer * kRowsEach + i, i, vector));
        auto checked = CheckRecords(collection->schema, std::move(records), DuplicateKeys::kRefuse);
        EXPECT_OK(checked);
        PutCommit put(*core, collection, *std::move(checked), PutMode::kInsert);
        EXPECT_OK(core->queue.Run(put, kNoCancel));
      }
      running.fetch_sub(1);
    });
  }
  threads.emplace_back([&] {
    while (running.load() > 0) {
      CloseGrowingCommit close(*core, collection);
      EXPECT_OK(core->queue.Run(close, kNoCancel));
    }
  });
  for (std::thread& thread : threads) thread.join();

  const SegmentSet& set = collection->segments();
  for (size_t i = 1; i < set.segments.size(); ++i) {
    ASSERT_LE(set.segments[i - 1]->rows().end, set.segments[i]->rows().first);
  }
  for (uint64_t row = 0; row < kWriters * kRowsEach; ++row) {
    const Segment* segment = set.Find(RowId{row});
    ASSERT_NE(segment, nullptr) << row;
    ASSERT_TRUE(segment->Find(RowId{row}).has_value()) << row;
  }
}

}  // namespace
}  // namespace azimuth::engine
