#include "engine/snapshot/check_segments.h"

#include "base/status.h"
#include "engine/admin/verify.h"
#include "engine/snapshot/restore_directory.h"
#include "index/graph/frozen_graph.h"
#include "storage/snapshot_rows.h"
#include "tests/engine/snapshot/snapshot_fixture.h"
#include "tests/support/aligned_bytes.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::AlignedBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using storage::SectionId;
using storage::SectionKind;
using testing::Contents;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeRecord;
using testing::OpenOrDie;
using testing::SeenRows;
using ::testing::SizeIs;

const CancelToken kNoCancel{};

template <typename T>
T Get(const std::string& bytes, size_t index, size_t base = 0) {
  T value{};
  std::memcpy(&value, &bytes.at(base + index * sizeof(T)), sizeof(T));
  return value;
}
template <typename T>
void Set(std::string& bytes, size_t index, T value, size_t base = 0) {
  std::memcpy(&bytes.at(base + index * sizeof(T)), &value, sizeof(T));
}

// What somebody did to a section of a segment file, and had all checksums written anew.
struct Lie {
  const char* name;
  SectionKind kind;
  const char* told;  // By a check.
  void (*tell)(std::string& bytes);
};

void PrintTo(const Lie& lie, std::ostream* out) {
  *out << lie.name;
}

// Of the last element of a column of 8-byte words without a heap: a dense one of numbers.
void ChangeLastWord(std::string& bytes) {
  Set<int64_t>(bytes, bytes.size() / 8 - 2, Get<int64_t>(bytes, bytes.size() / 8 - 2) + 1);
}

const Lie kLies[] = {
    {"vector", SectionKind::kVectors, "vector in field 'v'",
     [](std::string& bytes) { Set<float>(bytes, bytes.size() / 4 - 6, 4e6F); }},
    {"infinite_vector", SectionKind::kVectors, "infinite",
     [](std::string& bytes) { Set<uint32_t>(bytes, bytes.size() / 4 - 6, 0x7F800000); }},
    {"column", SectionKind::kFieldColumn, "field 'n'", ChangeLastWord},
    {"key", SectionKind::kKeys, "its key is", ChangeLastWord},
    {"key_of_no_kind", SectionKind::kKeys, "key",
     [](std::string& bytes) {
       // Read as a number, such a key would be 0, as that of the first row is.
       constexpr size_t kKinds = 32;
       bytes.at(kKinds) = 0;
     }},
    {"end", SectionKind::kExpiries, "it ends at",
     [](std::string& bytes) {
       Set<int64_t>(bytes, bytes.size() / 8 - 2, Get<int64_t>(bytes, bytes.size() / 8 - 2) + 7);
     }},
    {"earliest_end", SectionKind::kExpiries, "ends first",
     [](std::string& bytes) { Set<int64_t>(bytes, 0, INT64_MAX); }},
    {"insertion", SectionKind::kInsertSeqs, "inserted at",
     [](std::string& bytes) { Set<uint64_t>(bytes, 0, 1); }},
    {"insertion_too_late", SectionKind::kInsertSeqs, "inserted at",
     [](std::string& bytes) { Set<uint64_t>(bytes, bytes.size() / 8 - 1, uint64_t{1} << 40); }},
    {"row_id", SectionKind::kRowIds, "out of order",
     [](std::string& bytes) { Set<uint64_t>(bytes, 5, Get<uint64_t>(bytes, 4)); }},
    {"node_out_of_bounds", SectionKind::kNodePositions, "leads to position",
     [](std::string& bytes) { Set<uint32_t>(bytes, 3, 1U << 30); }},
    {"node_twice", SectionKind::kNodePositions, "leads to position",
     [](std::string& bytes) {
       Set<uint32_t>(bytes, 3, Get<uint32_t>(bytes, bytes.size() / 4 - 1));
     }},
    {"graph_that_leads_nowhere", SectionKind::kGraph, "cannot be reached",
     [](std::string& bytes) {
       const AlignedBytes aligned(bytes);
       const auto graph = *index::FrozenGraph::Open(aligned.span());
       const auto* level0 = reinterpret_cast<const std::byte*>(graph.Level0(0).data());
       const auto offset = static_cast<size_t>(level0 - aligned.span().data());
       for (uint32_t node = 0; node < graph.node_count(); ++node) {
         for (uint32_t slot = 0; slot < graph.degree0(); ++slot) {
           Set<uint32_t>(bytes, node * graph.degree0() + slot, node, offset);
         }
       }
     }},
    {"neighbour_out_of_bounds", SectionKind::kGraph, "neighbour",
     [](std::string& bytes) { Set<uint32_t>(bytes, 64, 1U << 30); }},
};

class SnapshotSegmentsTest : public testing::SnapshotTest,
                             public ::testing::WithParamInterface<Lie> {
 protected:
  SnapshotSegmentsTest() {
    db_.reset();
    options_.growing_rows_max = 1 << 16;
    testing::UseManualWorkers(options_, workers_);
    db_ = OpenOrDie(options_);
  }
  // One large segment file with all kinds of sections; half of the records end, much later.
  void MakeLarge() {
    ASSERT_OK(
        db_->CreateCollection("c", testing::SmallSchema(testing::kSnapshotDim), false, kNoCancel));
    for (int64_t first = 0; first < kRows; first += 1000) {
      std::vector<std::vector<float>> vectors(1000);
      std::vector<RecordInput> records;
      for (int64_t i = 0; i < 1000; ++i) {
        std::vector<float>& vector = vectors[static_cast<size_t>(i)];
        vector = RandomVector();
        records.push_back(MakeRecord(first + i, i, vector));
        if (i % 2 == 0) records.back().expires_at_unix_us = clock_.NowUnixMicros() + kEndsIn + i;
      }
      ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
    }
    Settle();
    Put("c", 100, 20);
    Delete("c", 500, 20);
  }
  void Tell() {
    const Lie& lie = GetParam();
    bool told = false;
    ChangeSegment(LongestSegment(), [&](const SectionId& id, std::string& bytes) {
      if (id.kind != lie.kind || told) return;
      const std::string before = bytes;
      lie.tell(bytes);
      EXPECT_NE(bytes, before);
      told = true;
    });
    ASSERT_TRUE(told);
  }
  void ExpectTold(const std::vector<std::string>& warnings) {
    ASSERT_THAT(warnings, SizeIs(1));
    EXPECT_THAT(warnings[0], HasSubstr(LongestSegment()));
    EXPECT_THAT(warnings[0], HasSubstr(GetParam().told));
  }

  static constexpr int64_t kRows = 6000;
  static constexpr int64_t kEndsIn = int64_t{3600} * 1'000'000;
};

TEST_P(SnapshotSegmentsTest, AreFoundOutAndCostNoRows) {
  MakeLarge();
  const SeenRows rows = Contents(*db_, "c");
  for (const std::string& of : {std::string("c"), std::string()}) {
    Snapshot(of, "s");
    ASSERT_OK_AND_ASSIGN(const SnapshotReport good, db_->VerifySnapshot("s", kNoCancel));
    EXPECT_THAT(good.problems, IsEmpty());
    Tell();

    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot("s", kNoCancel));
    ExpectTold(report.problems);
    EXPECT_TRUE(report.restorable);

    ASSERT_OK_AND_ASSIGN(
        const RestoreResult restored,
        db_->RestoreSnapshot({.snapshot = "s", .collection = "c", .target = "d"}, kNoCancel));
    ExpectTold(restored.warnings);
    EXPECT_EQ(Contents(*db_, "d"), rows);
    ASSERT_OK_AND_ASSIGN(const VerifyReport sound, db_->Verify("d", /*deep=*/true, kNoCancel));
    EXPECT_TRUE(sound.sound());
    ASSERT_OK(db_->DropCollection("d", false, kNoCancel));

    const TempDir parent;
    DatabaseOptions there = options_;
    there.data_dir = parent.File("new");
    testing::ManualWorkers* workers = nullptr;
    testing::UseManualWorkers(there, workers);
    ASSERT_OK_AND_ASSIGN(const DirectoryRestore made,
                         RestoreDirectory(FolderOf(info_.id), there, kNoCancel));
    ExpectTold(made.warnings);
    {
      const auto db = OpenOrDie(there);
      EXPECT_EQ(Contents(*db, "c"), rows);
    }
    ASSERT_OK_AND_ASSIGN(const VerifyReport closed,
                         VerifyDirectory(there, /*deep=*/true, kNoCancel));
    EXPECT_TRUE(closed.sound());
    ASSERT_OK(db_->DeleteSnapshot("s"));
  }
}

INSTANTIATE_TEST_SUITE_P(ThatLie, SnapshotSegmentsTest, ::testing::ValuesIn(kLies),
                         [](const auto& test) { return std::string(test.param.name); });

// Records of 300 KiB each, in one segment file of a snapshot of the collection.
class LongSnapshotSegments : public testing::SnapshotTest {
 protected:
  static constexpr int64_t kRows = 60;
  static constexpr size_t kRowBytes = size_t{300} << 10;

  void SetUp() override {
    ASSERT_OK(
        db_->CreateCollection("c", testing::SmallSchema(testing::kSnapshotDim), false, kNoCancel));
    std::vector<std::vector<float>> vectors(kRows);
    for (int64_t i = 0; i < kRows; ++i) {
      std::vector<float>& vector = vectors[static_cast<size_t>(i)];
      vector = RandomVector();
      std::vector<RecordInput> records = {MakeRecord(i, i, vector)};
      records[0].fields.push_back(
          {"color", Value{std::string(kRowBytes, static_cast<char>('a' + i % 26))}});
      ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
    }
    Settle();
    Snapshot("c", "s");
    ASSERT_OK_AND_ASSIGN(manifest_, storage::ReadSnapshotManifest(FolderOf(info_.id), files_));
    ASSERT_OK_AND_ASSIGN(schema_, DecodeSchema(manifest_.definition));
  }
  // All up to Finish; `peak` is what it held at most.
  void CheckAll(SegmentsCheck& check, EntriesCheck& entries, const MemoryBudget& memory,
                uint64_t& peak) {
    for (const storage::SnapshotFile& file : manifest_.files) {
      if (!file.name.ends_with(".seg")) continue;
      ASSERT_OK(check.Add(file, std::nullopt));
    }
    check.Begin();
    ASSERT_OK_AND_ASSIGN(const auto rows, files_.OpenToRead(FolderOf(info_.id) + "/rows.dat"));
    const auto counts = storage::ReadSnapshotRows(
        *rows, manifest_.as_of,
        [&](storage::RowEntryKind kind, std::string_view key,
            std::string_view value) -> absl::Status {
          AZ_RETURN_IF_ERROR(entries.Visit(kind, key, value));
          AZ_RETURN_IF_ERROR(check.Visit(kind, key, value));
          peak = std::max(peak, memory.used());
          return absl::OkStatus();
        },
        kNoCancel);
    ASSERT_OK(counts);
    ASSERT_OK(entries.Finish());
  }
  const storage::SnapshotFile& SegmentFile() const { return *manifest_.Find(LongestSegment()); }
  SegmentsCheck::Bounds Bounds() const {
    return {.next_row = manifest_.next_row, .as_of = manifest_.as_of};
  }

  storage::Files& files_ = storage::Files::Posix();
  storage::SnapshotManifest manifest_;
  Schema schema_;
  MemoryBudget memory_{uint64_t{1} << 30};
  MemoryBudget of_entries_{uint64_t{1} << 30};
};

TEST_F(LongSnapshotSegments, AreComparedInBoundedMemory) {
  uint64_t peak = 0;
  {
    SegmentsCheck check(FolderOf(info_.id), "c", schema_, Bounds(), files_, memory_, kNoCancel);
    EntriesCheck entries(schema_, manifest_.next_row, manifest_.as_of, of_entries_);
    CheckAll(check, entries, memory_, peak);
    ASSERT_OK(check.Finish(entries));
    EXPECT_THAT(check.good(), SizeIs(1));
    EXPECT_THAT(check.bad(), IsEmpty());
  }
  EXPECT_GE(peak, 2 * kRowBytes);
  EXPECT_LE(peak, CompareBatch::kBytesMax + 2 * kRowBytes);
  EXPECT_EQ(memory_.used(), 0U);
}

TEST_F(LongSnapshotSegments, AreCountedWhileTheirVectorsAreLookedAt) {
  uint64_t peak = 0;
  const CancelToken cancel(CancelToken::TimePoint::max(), [&] {
    peak = std::max(peak, memory_.used());
    return false;
  });
  SegmentsCheck check(FolderOf(info_.id), "c", schema_, Bounds(), files_, memory_, cancel);
  ASSERT_OK(check.Add(SegmentFile(), std::nullopt));
  EXPECT_GE(peak, kRows * sizeof(const float*));
}

TEST_F(LongSnapshotSegments, AreNotCountedOnceTheyAreFoundToOverlap) {
  SegmentsCheck check(FolderOf(info_.id), "c", schema_, Bounds(), files_, memory_, kNoCancel);
  ASSERT_OK(check.Add(SegmentFile(), std::nullopt));
  const uint64_t one = memory_.used();
  ASSERT_OK(check.Add(SegmentFile(), std::nullopt));
  EXPECT_GT(memory_.used(), one);
  check.Begin();
  EXPECT_THAT(check.bad(), SizeIs(1));
  EXPECT_LE(memory_.used(), one);
}

TEST_F(LongSnapshotSegments, AreNoLongerComparedOnceItIsCancelled) {
  std::atomic<bool> cancelled{false};
  const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return cancelled.load(); });
  SegmentsCheck check(FolderOf(info_.id), "c", schema_, Bounds(), files_, memory_, cancel);
  EntriesCheck entries(schema_, manifest_.next_row, manifest_.as_of, of_entries_);
  uint64_t peak = 0;
  CheckAll(check, entries, memory_, peak);
  cancelled = true;
  EXPECT_THAT(check.Finish(entries), StatusIs(absl::StatusCode::kCancelled));
}

// The comparison of an open or a closed database with its files is that of a snapshot.
TEST_F(LongSnapshotSegments, AreComparedByADeepCheckToo) {
  ASSERT_OK_AND_ASSIGN(const VerifyReport report, db_->Verify("c", /*deep=*/true, kNoCancel));
  EXPECT_TRUE(report.sound());
  EXPECT_EQ(report.segment_rows_compared, static_cast<uint64_t>(kRows));
}

}  // namespace
}  // namespace azimuth::engine
