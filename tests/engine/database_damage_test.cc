// Segment files with a flipped bit: from the first request after a start on, every answer is right,
// and the file is set aside and built again.

#include "storage/segment_file.h"
#include "tests/engine/manual_database.h"
#include "tests/support/segment_bytes.h"
#include "tests/support/sim_files.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FakeClock;
using ::azimuth::testing::FlipBit;
using ::azimuth::testing::IsChecked;
using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::SimFiles;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::MakeRecord;
using testing::ManualWorkers;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;
using testing::UseManualWorkers;

namespace fs = std::filesystem;

const CancelToken kNoCancel;
constexpr int64_t kRows = 700;
constexpr uint32_t kDim = 16;
constexpr uint64_t kPage = 4096;

// Whole numbers, so that no sum is rounded; all different.
std::vector<float> VectorOf(int64_t key) {
  std::mt19937_64 random(static_cast<uint64_t>(key));
  std::vector<float> vector(kDim);
  for (float& x : vector) x = static_cast<float>(random() % 200);
  return vector;
}

const std::vector<std::vector<float>>& Vectors() {
  static const std::vector<std::vector<float>> vectors = [] {
    std::vector<std::vector<float>> made;
    for (int64_t key = 0; key < kRows; ++key) made.push_back(VectorOf(key));
    return made;
  }();
  return vectors;
}

void Fill(Database& db) {
  ASSERT_OK(db.CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  std::vector<RecordInput> records;
  for (int64_t key = 0; key < kRows; ++key) {
    RecordInput record = MakeRecord(key, key % 7, Vectors()[static_cast<size_t>(key)]);
    record.fields.push_back({"color", Value{std::string(key % 3 == 0 ? "red" : "green")}});
    record.fields.push_back({"extra", Value{key % 5}});
    if (key % 10 == 0) record.expires_at_unix_us = FakeClock::kStart + int64_t{1000000} * 1000000;
    records.push_back(std::move(record));
  }
  ASSERT_OK(db.Upsert("c", std::move(records), kNoCancel));
}

std::string Text(const RecordOutput& record) {
  std::string text = KeyToText(record.key);
  const auto n = record.fields.find("n");
  if (n != record.fields.end()) absl::StrAppend(&text, "/", std::get<int64_t>(n->second.data));
  return text;
}

// One request of each kind, and its answer as text.
std::string GraphSearch(Database& db, int64_t key) {
  const auto found = db.Search("c", VectorOf(key), {.limit = 5, .ef = 10}, kNoCancel);
  if (!found.ok()) return found.status().ToString();
  std::string text;
  for (const SearchHit& hit : found->queries[0].hits) {
    absl::StrAppend(&text, Text(hit.record), " at ", hit.distance, "; ");
  }
  return text;
}
std::string ExactSearch(Database& db, int64_t key) {
  const auto found = db.Search("c", VectorOf(key), {.limit = 5, .exact = true}, kNoCancel);
  if (!found.ok()) return found.status().ToString();
  std::string text;
  for (const SearchHit& hit : found->queries[0].hits) {
    absl::StrAppend(&text, Text(hit.record), " at ", hit.distance, "; ");
  }
  return text;
}
std::string FilteredSearch(Database& db, int64_t key) {
  const auto found =
      db.Search("c", VectorOf(key), {.limit = 5, .filter = {"n == 3", {}}}, kNoCancel);
  if (!found.ok()) return found.status().ToString();
  std::string text;
  for (const SearchHit& hit : found->queries[0].hits) {
    absl::StrAppend(&text, Text(hit.record), " at ", hit.distance, "; ");
  }
  return text;
}
std::string Counts(Database& db, int64_t) {
  std::string text;
  for (const char* filter : {"", "n == 2", "color == 'red'", "extra > 2", "key >= 350"}) {
    const auto count = db.Count("c", {filter, {}}, kNoCancel);
    absl::StrAppend(&text, count.ok() ? std::to_string(count->count) : count.status().ToString(),
                    "; ");
  }
  return text;
}
std::string Queried(Database& db, int64_t) {
  const auto found = db.Query("c", {"extra == 4 and color == 'green'", {}}, 50, {}, kNoCancel);
  if (!found.ok()) return found.status().ToString();
  std::string text;
  for (const RecordOutput& record : found->records) absl::StrAppend(&text, Text(record), "; ");
  return text;
}
std::string Got(Database& db, int64_t) {
  std::vector<Key> keys;
  for (int64_t key = 0; key < kRows + 3; ++key) keys.emplace_back(key);
  const auto found = db.Get("c", keys, {}, kNoCancel);
  if (!found.ok()) return found.status().ToString();
  std::string text = absl::StrCat(found->missing.size(), " missing; ");
  for (const RecordOutput& record : found->records) {
    absl::StrAppend(&text, Text(record), record.expires_at_unix_us == 0 ? "; " : " ends; ");
  }
  return text;
}
std::string WouldDelete(Database& db, int64_t) {
  const auto result =
      db.DeleteMatching("c", {"n == 5", {}}, false, kNoCancel, {}, /*dry_run=*/true);
  return result.ok() ? std::to_string(result->deleted) : result.status().ToString();
}

using Ask = std::string (*)(Database&, int64_t);
constexpr Ask kAsks[] = {GraphSearch, ExactSearch, FilteredSearch, Counts,
                         Queried,     Got,         WouldDelete};
constexpr size_t kAskCount = std::size(kAsks);

class DamagedSegments : public ::testing::Test {
 protected:
  // A directory with one segment file of all rows, closed, and the right answers.
  DamagedSegments() {
    Open(pristine_.path());
    Fill(*db_);
    Settle();
    for (size_t i = 0; i < kAskCount; ++i) {
      for (int64_t key = 0; key < kKeys; ++key) right_[{i, key}] = kAsks[i](*db_, key * 31);
    }
    const auto walked = db_->Search("c", VectorOf(0), {.limit = 5, .ef = 10}, kNoCancel);
    EXPECT_EQ(walked->queries[0].work.path, SearchPath::kGraph);
    EXPECT_OK(db_->Close());
    db_.reset();
    for (const auto& file : fs::directory_iterator(pristine_.File("segments"))) {
      name_ = file.path().filename();
      ++files_;
    }
    EXPECT_EQ(files_, 1);
    bytes_ = ReadBytes(pristine_.File("segments/" + name_));
  }

  void Open(const std::string& path) {
    DatabaseOptions options = SmallOptions(path);
    options.growing_rows_max = kRows;
    options.clock = &clock_;
    UseManualWorkers(options, workers_);
    db_ = OpenOrDie(options);
  }
  void Settle() {
    clock_.AdvanceMillis(6000);
    for (int i = 0; i < 6; ++i) {
      workers_->Tick();
      workers_->RunAll();
    }
  }
  // A copy of the directory, its segment file as `bytes` with a flipped bit.
  std::unique_ptr<TempDir> Damaged(const std::string& bytes, uint64_t offset, int bit = 4) {
    auto dir = std::make_unique<TempDir>();
    fs::copy(pristine_.path(), dir->File("d"), fs::copy_options::recursive);
    WriteBytes(dir->File("d/segments/" + name_), bytes);
    FlipBit(dir->File("d/segments/" + name_), offset, bit);
    return dir;
  }
  // Every kind of request, that numbered `first` first. A walk of the graph may give what the graph
  // of the file does, or what a scan does instead of it.
  void ExpectRight(size_t first) {
    for (size_t i = 0; i < kAskCount; ++i) {
      const size_t kind = (first + i) % kAskCount;
      for (int64_t key = 0; key < kKeys; ++key) {
        const std::string answer = kAsks[kind](*db_, key * 31);
        const std::string& right = right_[{kind, key}];
        if (kAsks[kind] == GraphSearch) {
          const std::string& scanned = right_[{1, key}];
          EXPECT_THAT(answer, AnyOf(right, scanned));
        } else {
          EXPECT_EQ(answer, right) << "request " << kind;
        }
      }
    }
  }
  uint64_t SetAside() const { return db_->GetInfo().store.segments_set_aside; }
  uint64_t RowsInFiles() const {
    const auto stats = db_->GetStats("c");
    EXPECT_OK(stats.status());
    uint64_t rows = 0;
    for (const SegmentStats& segment : stats->segments) {
      if (segment.file_bytes > 0) rows += segment.rows;
    }
    return rows;
  }
  // Flips a bit at `offset` of the file `bytes` and lives through it.
  void TryFlip(const std::string& bytes, uint64_t offset, size_t first) {
    SCOPED_TRACE(::testing::Message() << "offset " << offset << ", first request " << first);
    const auto dir = Damaged(bytes, offset, static_cast<int>(offset % 8));
    Open(dir->File("d"));
    ExpectRight(first);
    Settle();  // The check of the whole file, and the build.
    EXPECT_EQ(SetAside(), IsChecked(bytes, offset) ? 1U : 0U);
    EXPECT_EQ(RowsInFiles(), static_cast<uint64_t>(kRows));
    for (size_t kind = 1; kind < kAskCount; ++kind) {
      const std::string& right = right_[{kind, 0}];
      EXPECT_EQ(kAsks[kind](*db_, 0), right);
    }
    db_.reset();
  }

  static constexpr int64_t kKeys = 3;
  TempDir pristine_;
  FakeClock clock_;
  ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
  std::map<std::pair<size_t, int64_t>, std::string> right_;
  int files_ = 0;
  std::string name_;
  std::string bytes_;
};

TEST_F(DamagedSegments, AFlippedBitInAnyPageNeverGivesAWrongAnswer) {
  std::mt19937_64 random(5);
  size_t first = 0;
  for (uint64_t page = 0; page < bytes_.size(); page += kPage) {
    const uint64_t size = std::min<uint64_t>(kPage, bytes_.size() - page);
    // The beginning is what headers of sections are; one more place.
    for (const uint64_t offset : {page, page + random() % size}) TryFlip(bytes_, offset, first++);
  }
}

TEST_F(DamagedSegments, ManyReadersThatMeetOneBadPageAreAllAnsweredRightly) {
  // Of vectors and of lists of the graph: the largest sections.
  size_t first = 0;
  for (uint64_t offset = 8 * kPage + 77; offset < bytes_.size(); offset += 7 * kPage) {
    if (!IsChecked(bytes_, offset)) continue;
    SCOPED_TRACE(offset);
    const auto dir = Damaged(bytes_, offset);
    Open(dir->File("d"));
    std::atomic<int> waiting{4};
    std::vector<std::thread> readers;
    for (size_t reader = 0; reader < 4; ++reader) {
      readers.emplace_back([this, &waiting, kind = first + reader] {
        waiting.fetch_sub(1);
        while (waiting.load() > 0) std::this_thread::yield();
        ExpectRight(kind);
      });
    }
    for (std::thread& reader : readers) reader.join();
    Settle();
    EXPECT_EQ(SetAside(), 1U);
    EXPECT_EQ(RowsInFiles(), static_cast<uint64_t>(kRows));
    db_.reset();
    ++first;
  }
  EXPECT_GE(first, 4U);
}

TEST_F(DamagedSegments, AFlippedBitOfPaddingIsNoReasonToSetAFileAside) {
  // The pages of vectors and of the graph end in padding.
  uint64_t tried = 0;
  for (uint64_t page = kPage; page < bytes_.size(); page += kPage) {
    const uint64_t last = page + kPage - 1;
    if (last >= bytes_.size() || IsChecked(bytes_, last)) continue;
    const auto dir = Damaged(bytes_, last);
    Open(dir->File("d"));
    ExpectRight(0);
    db_.reset();
    ++tried;
  }
  EXPECT_GE(tried, 5U);
}

// What the files of a disk in memory hold.
std::string Content(storage::Files& files, const std::string& path) {
  const auto mapped = files.Map(path);
  EXPECT_OK(mapped.status());
  const auto bytes = (*mapped)->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(DamagedSegmentOfAReadOnlyStore, IsDataLossForWhoMeetsTheDamageAndNobodyElse) {
  SimFiles disk(3);
  FakeClock clock;
  ManualWorkers* workers = nullptr;
  DatabaseOptions options = SmallOptions("/data");
  options.growing_rows_max = kRows;
  options.clock = &clock;
  UseManualWorkers(options, workers);
  options.files = &disk.process();
  auto db = OpenOrDie(options);
  Fill(*db);
  clock.AdvanceMillis(6000);
  for (int i = 0; i < 4; ++i) {
    workers->Tick();
    workers->RunAll();
  }
  const std::string right = Counts(*db, 0);
  ASSERT_OK(db->Close());
  db.reset();

  disk.KillProcess();
  storage::Files& files = disk.process();
  ASSERT_OK_AND_ASSIGN(const auto names, files.List("/data/segments"));
  ASSERT_EQ(names.size(), 1U);
  const std::string path = "/data/segments/" + names[0];
  std::string bytes = Content(files, path);
  const TempDir scratch;
  WriteBytes(scratch.File("s"), bytes);
  ASSERT_OK_AND_ASSIGN(const auto segment, storage::SegmentFile::Open(scratch.File("s")));
  // The first section begins on the second page.
  const auto first = *segment->Find({storage::SectionKind::kRowIds, {}, {}});
  const auto vectors = *segment->Find({storage::SectionKind::kVectors, FieldId{3}, {}});
  const auto place = static_cast<size_t>(vectors.data() - first.data()) + kPage + 40;
  bytes[place] = static_cast<char>(bytes[place] ^ 1);
  ASSERT_OK(files.Remove(path));
  ASSERT_OK(storage::WriteFileAtomically(path, bytes, files));

  options.files = &files;
  db = OpenOrDie(options);
  disk.FailAfter(1);
  EXPECT_FALSE(db->DeleteKeys("c", {Key{int64_t{1}}}, kNoCancel).ok());
  ASSERT_FALSE(db->CheckWritable().ok());
  EXPECT_EQ(Counts(*db, 0), right);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(db->Search("c", VectorOf(5), {.limit = 5, .exact = true}, kNoCancel),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("section 5, field 3 corrupt")));
  }
  EXPECT_EQ(Counts(*db, 0), right);
  EXPECT_EQ(db->GetInfo().store.segments_set_aside, 0U);
}

}  // namespace
}  // namespace azimuth::engine
