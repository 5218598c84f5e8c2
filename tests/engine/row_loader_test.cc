// Rows that are read back because their files are bad or gone: within bounds of memory, and in no
// one's way.

#include "engine/row_loader.h"

#include "tests/engine/manual_database.h"
#include "tests/support/segment_bytes.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FlipBit;
using ::azimuth::testing::StatusIs;
using ::testing::AnyOf;
using testing::MakeRecord;
using testing::ManualDatabaseTest;
using testing::OpenOrDie;
using testing::SmallSchema;

const CancelToken kNoCancel;
constexpr uint32_t kDim = 1024;
constexpr int64_t kRows = 6000;  // 24 MB.

class RowLoaderTest : public ManualDatabaseTest {
 protected:
  static std::vector<float> VectorOf(int64_t key) {
    std::vector<float> vector(kDim, static_cast<float>(key % 1000));
    vector[0] = static_cast<float>(key);
    return vector;
  }
  void Insert(int64_t first, int64_t end) {
    std::vector<std::vector<float>> vectors;
    for (int64_t key = first; key < end; ++key) vectors.push_back(VectorOf(key));
    std::vector<RecordInput> records;
    for (int64_t key = first; key < end; ++key) {
      records.push_back(MakeRecord(key, key % 10, vectors[static_cast<size_t>(key - first)]));
    }
    ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
  }
  // One segment file of all rows; some are deleted.
  void MakeContent() {
    db_.reset();
    options_.growing_rows_max = 1024;
    options_.graph_rows_min = 512;
    db_ = OpenOrDie(options_);
    Schema schema = SmallSchema(kDim);
    schema.vectors[0].index.ef_construction = 40;  // Quick to build.
    schema.vectors[0].index.m = 8;
    schema.vectors[0].index.quantization = Quantization::kNone;
    ASSERT_OK(db_->CreateCollection("c", schema, false, kNoCancel));
    for (int64_t key = 0; key < kRows; key += 500) Insert(key, key + 500);
    Build();
    std::vector<Key> deleted;
    for (int64_t key = 0; key < kRows; key += 100) deleted.emplace_back(key);
    ASSERT_OK(db_->DeleteKeys("c", deleted, kNoCancel));
    const auto stats = Stats();
    ASSERT_EQ(stats.segments.size(), 1U);
    ASSERT_EQ(stats.segments[0].state, SegmentState::kSealed);
  }
  void Build() {
    clock_.AdvanceMillis(10000);
    Work();
  }
  CollectionStats Stats() const {
    const auto stats = db_->GetStats("c");
    EXPECT_OK(stats.status());
    return *stats;
  }
  uint64_t MemoryOfSegments() const {
    uint64_t bytes = 0;
    for (const SegmentStats& segment : Stats().segments) bytes += segment.memory_bytes;
    return bytes;
  }
  void ExpectRight() {
    const auto count = db_->Count("c", {}, kNoCancel);
    ASSERT_OK(count.status());
    EXPECT_EQ(count->count, static_cast<uint64_t>(kRows - kRows / 100));
    for (int64_t key = 0; key < kRows; key += 250) {
      const auto found = db_->Search("c", VectorOf(key), {.limit = 1, .exact = true}, kNoCancel);
      ASSERT_OK(found.status());
      ASSERT_EQ(found->queries[0].hits.size(), 1U);
      const bool deleted = key % 100 == 0;
      EXPECT_EQ(found->queries[0].hits[0].record.key == Key{key}, !deleted) << key;
    }
  }
  // The files of segments, ascending.
  std::vector<std::string> Files() const {
    std::vector<std::string> paths;
    for (const auto& file : std::filesystem::directory_iterator(dir_.File("segments"))) {
      paths.push_back(file.path().string());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  // All in one file with a graph again, but for a few of the last rows.
  void ExpectBuilt() {
    Build();
    const auto stats = Stats();
    EXPECT_LE(stats.segments.size(), 2U);
    EXPECT_EQ(stats.unindexed_rows, 0U);
    EXPECT_LE(Files().size(), stats.segments.size());
    const auto found = db_->Search("c", VectorOf(7), {.limit = 1, .ef = 10}, kNoCancel);
    ASSERT_OK(found.status());
    EXPECT_THAT(found->queries[0].work.path, AnyOf(SearchPath::kGraph, SearchPath::kMixed));
    EXPECT_LT(found->queries[0].work.distances_computed, 2000U);
    ExpectRight();
    const auto report = db_->Verify("", /*deep=*/true, kNoCancel);
    ASSERT_OK(report.status());
    for (const Finding& finding : report->findings) {
      EXPECT_EQ(finding.severity, FindingSeverity::kNotice) << finding.kind;
    }
  }
  void DamageTheFile() {
    const auto files = Files();
    ASSERT_EQ(files.size(), 1U);
    FlipBit(files[0], std::filesystem::file_size(files[0]) / 2);
  }
};

TEST_F(RowLoaderTest, AStartWithoutSegmentFilesTakesNoMoreMemoryThanWritesMay) {
  MakeContent();
  db_.reset();
  for (const std::string& path : Files()) std::filesystem::remove(path);
  // Growing rows may take 16 MiB then, and writes wait from 8 MiB on.
  options_.memory_bytes = uint64_t{32} << 20;
  db_ = OpenOrDie(options_);
  EXPECT_LT(MemoryOfSegments(), uint64_t{13} << 20);
  EXPECT_GT(Stats().unindexed_rows, 0U);
  ExpectRight();
  // What was written is named by the catalog: the next start only reads the rest.
  const size_t files = Files().size();
  EXPECT_GE(files, 2U);
  Reopen();
  EXPECT_LE(Files().size(), files + 1);
  ExpectRight();
  ExpectBuilt();
}

TEST_F(RowLoaderTest, ARepairHoldsUpNoWrites) {
  options_.unindexed_rows_slow = 2000;
  options_.unindexed_rows_max = 3000;
  options_.memory_bytes = uint64_t{32} << 20;
  db_.reset();
  std::filesystem::remove_all(dir_.path());
  {
    // Filled in peace.
    DatabaseOptions tight = std::exchange(options_, testing::SmallOptions(dir_.path()));
    options_.clock = &clock_;
    testing::UseManualWorkers(options_, workers_);
    db_ = OpenOrDie(options_);
    MakeContent();
    db_.reset();
    tight.growing_rows_max = options_.growing_rows_max;
    tight.graph_rows_min = options_.graph_rows_min;
    options_ = tight;
  }
  DamageTheFile();
  db_ = OpenOrDie(options_);
  ExpectRight();
  EXPECT_EQ(db_->GetInfo().store.segments_set_aside, 1U);
  EXPECT_LT(MemoryOfSegments(), uint64_t{1} << 20);
  Insert(1, 2);
  ExpectRight();
  ExpectBuilt();
}

TEST_F(RowLoaderTest, ARepairInTheBackgroundOutlivesADeath) {
  MakeContent();
  Reopen();
  DamageTheFile();
  // The worker that checks the file meets the damage.
  workers_->Tick();
  ASSERT_GT(workers_->waiting(), 0U);
  workers_->RunOne();
  EXPECT_EQ(db_->GetInfo().store.segments_set_aside, 1U);
  // As after a death: files that no catalog names are removed, and those that it names are used.
  Reopen();
  ExpectRight();
  ExpectBuilt();
}

}  // namespace
}  // namespace azimuth::engine
