// Many small collections: each costs kilobytes.

#include "engine/database.h"
#include "tests/engine/open_database.h"

#include "gtest/gtest.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using testing::MakeRecord;
using testing::OpenOrDie;
using testing::SmallSchema;

constexpr int kCollections = 500;
constexpr int64_t kRows = 100;
constexpr uint32_t kDim = 16;
// A key, an int64 and a vector of each row.
constexpr uint64_t kRawBytes = kRows * (8 + 8 + kDim * sizeof(float));
constexpr uint64_t kBytesMax = 2 * kRawBytes + (16 << 10);

DatabaseOptions OptionsAsShipped(const std::string& path) {
  DatabaseOptions options;
  options.data_dir = path;
  options.build_threads = 1;
  return options;
}

void Fill(Database& db) {
  const std::vector<float> vector(kDim, 1.0F);
  for (int i = 0; i < kCollections; ++i) {
    const std::string name = "c" + std::to_string(i);
    ASSERT_OK(db.CreateCollection(name, SmallSchema(kDim), false, CancelToken()));
    std::vector<RecordInput> records;
    for (int64_t key = 0; key < kRows; ++key) records.push_back(MakeRecord(key, key, vector));
    ASSERT_OK(db.Insert(name, std::move(records), CancelToken()));
  }
}

void ExpectSmall(const Database& db) {
  uint64_t sum = 0;
  for (const CollectionSummary& summary : db.ListCollections()) {
    ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db.GetStats(summary.name));
    ASSERT_EQ(stats.segments.size(), 1U);
    EXPECT_EQ(stats.row_count, static_cast<uint64_t>(kRows));
    EXPECT_EQ(stats.segments[0].file_bytes, 0U) << summary.name << " has a file of its own";
    EXPECT_LE(stats.segments[0].memory_bytes, kBytesMax);
    sum += stats.segments[0].memory_bytes;
  }
  EXPECT_GE(sum, kCollections * kRawBytes);
  EXPECT_EQ(db.GetInfo().memory.growing_bytes, sum);
}

TEST(SmallCollections, EachCostsKilobytesBeforeAndAfterARestart) {
  const TempDir dir;
  auto db = OpenOrDie(OptionsAsShipped(dir.path()));
  Fill(*db);
  ExpectSmall(*db);
  db.reset();
  db = OpenOrDie(OptionsAsShipped(dir.path()));
  ExpectSmall(*db);
}

TEST(SmallCollections, ManyThatFillTheMemoryTogetherAreBuiltSoThatWritesGoOn) {
  const TempDir dir;
  DatabaseOptions options = OptionsAsShipped(dir.path());
  // 16 MiB is the least that growing rows may take.
  options.memory_bytes = 1;
  auto db = OpenOrDie(options);
  // 24 MiB in segments of which none has enough rows to be worth a graph.
  const std::vector<float> vector(1024, 1.0F);
  for (int i = 0; i < 24; ++i) {
    const std::string name = "c" + std::to_string(i);
    ASSERT_OK(db->CreateCollection(name, SmallSchema(1024), false, CancelToken()));
    std::vector<RecordInput> records;
    for (int64_t key = 0; key < 256; ++key) records.push_back(MakeRecord(key, key, vector));
    absl::StatusOr<WriteResult> result;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    do {
      result = db->Insert(name, records, CancelToken());
    } while (result.status().code() == absl::StatusCode::kResourceExhausted &&
             std::chrono::steady_clock::now() < deadline);
    ASSERT_OK(result);
  }
  EXPECT_LT(db->GetInfo().memory.growing_bytes, uint64_t{18} << 20);
}

}  // namespace
}  // namespace azimuth::engine
