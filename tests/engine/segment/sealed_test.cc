#include "engine/segment/sealed.h"

#include "tests/engine/manual_database.h"

#include "gtest/gtest.h"

#include <cstdint>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using testing::MakeRecord;
using testing::ManualDatabaseTest;

class FirstUse : public ManualDatabaseTest {};

// 12 MB of vectors, of which a check reads one at a time between two looks at the deadline.
TEST_F(FirstUse, OfALargeFileIsCheckedWithinDeadlinesAndByManyCallers) {
  constexpr uint32_t kDim = 1024;
  constexpr int64_t kRows = 3000;
  Schema schema = testing::SmallSchema(kDim);
  schema.vectors[0].index.kind = IndexKind::kFlat;
  ASSERT_OK(db_->CreateCollection("c", schema, false, CancelToken()));
  std::vector<float> vector(kDim, 1.0F);
  for (int64_t first = 0; first < kRows; first += 500) {
    std::vector<RecordInput> records;
    for (int64_t key = first; key < first + 500; ++key) {
      records.push_back(MakeRecord(key, key, vector));
    }
    ASSERT_OK(db_->Upsert("c", std::move(records), CancelToken()));
  }
  for (int i = 0; i < 4; ++i) Settle();
  Reopen();
  const auto stats = db_->GetStats("c");
  ASSERT_OK(stats.status());
  uint64_t in_files = 0;
  for (const SegmentStats& segment : stats->segments) in_files += segment.file_bytes;
  ASSERT_GT(in_files, uint64_t{11} << 20);

  int cut_short = 0;
  bool answered = false;
  for (int tries = 0; tries < 40 && !answered; ++tries) {
    // Five looks, then its time is over.
    int looks = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&looks] { return ++looks > 5; });
    const auto found = db_->Search("c", vector, {.limit = 1, .exact = true}, cancel);
    answered = found.ok();
    if (answered) continue;
    EXPECT_THAT(found.status(), StatusIs(absl::StatusCode::kCancelled));
    ++cut_short;
  }
  EXPECT_TRUE(answered);
  EXPECT_GE(cut_short, 2);
}

}  // namespace
}  // namespace azimuth::engine
