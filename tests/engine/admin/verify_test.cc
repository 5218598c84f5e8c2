// What the check of a directory says of sound ones of every kind, of damaged files, and of what is
// no data directory; and that it changes nothing.

#include "engine/admin/verify.h"

#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/status.h"
#include "engine/admin/check_graph.h"
#include "index/graph/frozen_graph.h"
#include "storage/segment_file.h"
#include "storage/watermark.h"
#include "tests/engine/admin/verify_fixture.h"
#include "tests/support/sim_files.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::WriteBytes;
using storage::CommitBatch;
using storage::SectionKind;
using storage::Store;
using ::testing::HasSubstr;

class VerifyFiles : public testing::VerifyTest {
 protected:
  void TearDown() override { SetHooks(nullptr); }
  static void SetHooks(std::function<absl::Status()> hook) {
    for (const Failpoint point : kBuildSteps) SetFailpointHook(point, hook);
  }
  static constexpr Failpoint kBuildSteps[] = {
      Failpoint::kSegmentAfterGather,  Failpoint::kSegmentMidWrite,
      Failpoint::kSegmentBeforeRename, Failpoint::kSegmentBeforeDirSync,
      Failpoint::kSegmentMidDrop,      Failpoint::kSegmentBeforeCatalog,
      Failpoint::kSegmentAfterCatalog};

  // Writes the segment again with another section in place of one of `kind`; the first if it has
  // several.
  void ReplaceSection(const std::string& path, SectionKind kind,
                      const std::function<std::string(std::span<const std::byte>)>& change) {
    ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(path));
    ASSERT_OK_AND_ASSIGN(const auto writer,
                         storage::SegmentWriter::Create(path + ".new", file->header()));
    bool changed = false;
    for (const storage::SectionId& id : file->Sections()) {
      const std::span<const std::byte> bytes = *file->Find(id);
      ASSERT_OK(writer->BeginSection(id));
      if (id.kind == kind && !std::exchange(changed, true)) {
        const std::string other = change(bytes);
        ASSERT_OK(writer->Append(std::as_bytes(std::span(other))));
      } else {
        ASSERT_OK(writer->Append(bytes));
      }
    }
    ASSERT_TRUE(changed);
    ASSERT_OK(writer->Finish());
    std::filesystem::rename(path + ".new", path);
  }
  static std::string TextOf(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

// --- Sound directories --------------------------------------------------------------------------

TEST_F(VerifyFiles, FindsNothingInAnEmptyDatabase) {
  Close();
  ExpectSound(Verify());
}

TEST_F(VerifyFiles, FindsNothingInADatabaseOfEveryKindOfContent) {
  MakeItems();
  MakeTexts();
  Settle();
  DeleteItems(10, 50);
  PutItems(100, 30);
  ASSERT_OK(db_->CreateCollection("empty", testing::SmallSchema(3), false, no_cancel_));
  ASSERT_OK(db_->CreateCollection("dropped", testing::SmallSchema(3), false, no_cancel_));
  ASSERT_OK(db_->DropCollection("dropped", false, no_cancel_));
  ASSERT_OK(db_->TruncateCollection("texts", no_cancel_));
  clock_.AdvanceMillis(60000);
  for (const bool deep : {false, true}) {
    Kill();  // The log is not flushed.
    const VerifyReport killed = Verify(deep);
    ExpectSound(killed);
    EXPECT_TRUE(killed.findings.empty()) << testing::ToText(killed);
    db_ = testing::OpenOrDie(options_);
    Settle();
    Close();
    const VerifyReport closed = Verify(deep);
    ExpectSound(closed);
    EXPECT_TRUE(closed.findings.empty()) << testing::ToText(closed);
    db_ = testing::OpenOrDie(options_);
  }
}

TEST_F(VerifyFiles, FindsRecordsThatEndedAndThatWereSweptSound) {
  MakeTexts();
  clock_.AdvanceMillis(40000);
  Kill();
  ExpectSound(Verify());
  db_ = testing::OpenOrDie(options_);
  Settle();
  Kill();
  const VerifyReport report = Verify();
  ExpectSound(report);
  EXPECT_LT(report.keys, 120U);
}

TEST_F(VerifyFiles, FindsEveryStateThatADeathInABuildLeavesSound) {
  uint64_t noticed = 0;
  for (const Failpoint point : kBuildSteps) {
    SCOPED_TRACE(FailpointName(point));
    if (db_ == nullptr) db_ = testing::OpenOrDie(options_);
    static_cast<void>(db_->DropCollection("items", true, no_cancel_));
    MakeItems();
    Settle();
    DeleteItems(20, 200);
    PutItems(0, 120);
    // From here on everything fails, as if the process had died.
    bool dead = false;
    SetHooks(nullptr);
    SetFailpointHook(point, [&] {
      dead = true;
      return absl::CancelledError("dead");
    });
    SetFailpointHook(Failpoint::kCommitBeforeLog,
                     [&] { return dead ? absl::CancelledError("dead") : absl::OkStatus(); });
    Settle();
    EXPECT_TRUE(dead);
    SetFailpointHook(point, nullptr);
    SetFailpointHook(Failpoint::kCommitBeforeLog, nullptr);
    Kill();
    const VerifyReport report = Verify();
    ExpectSound(report);
    noticed += report.findings.size();
  }
  EXPECT_GT(noticed, 0U);  // Files and retirements that are left over.
}

TEST_F(VerifyFiles, NoticesADeathAfterABadFileWasSetAside) {
  MakeContent();
  WriteBytes(PathOf(FirstSegment().id), "not a segment");
  ExpectDerived("segment.format", "collection 'items'");
  SetFailpointHook(Failpoint::kQuarantineBeforeCatalog,
                   [] { return absl::CancelledError("dead"); });
  EXPECT_FALSE(Database::Open(options_).ok());
  SetFailpointHook(Failpoint::kQuarantineBeforeCatalog, nullptr);
  ExpectNotice("segment.set_aside", "collection 'items'");
  db_ = testing::OpenOrDie(options_);
  Settle();
  Close();
  ExpectSound(Verify());
}

TEST_F(VerifyFiles, FindsAFirstStartThatDiedSound) {
  for (uint64_t n = 1; n < 400; ++n) {
    ::azimuth::testing::SimFiles disk(n);
    DatabaseOptions options = testing::SmallOptions("/data");
    options.files = &disk.process();
    testing::ManualWorkers* workers = nullptr;
    testing::UseManualWorkers(options, workers);
    disk.FailAfter(n);
    auto opened = Database::Open(options);
    const bool died = disk.failed();
    disk.KillProcess();
    opened = absl::UnknownError("");
    options.files = &disk.process();
    const auto report = VerifyDirectory(options, true, no_cancel_);
    if (report.ok()) {
      EXPECT_TRUE(report->sound()) << n << ": " << testing::ToText(*report);
    } else {
      // Before there was a FORMAT, or a LOCK.
      EXPECT_TRUE(absl::IsNotFound(report.status()) || absl::IsFailedPrecondition(report.status()))
          << n << ": " << report.status();
    }
    if (!died) return;
  }
  FAIL() << "a start takes more operations than that";
}

TEST_F(VerifyFiles, ChangesNothing) {
  MakeItems();
  Settle();
  PutItems(500, 20);
  Kill();
  const auto before = AllFiles();
  ExpectSound(Verify(/*deep=*/false));
  ExpectSound(Verify(/*deep=*/true));
  const auto after = AllFiles();
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, content] : before) {
    const auto it = after.find(name);
    ASSERT_NE(it, after.end()) << name;
    EXPECT_EQ(it->second, content) << name;
  }
}

// --- What is no sound directory -----------------------------------------------------------------

TEST_F(VerifyFiles, RefusesADirectoryThatIsOpenOrNotOurs) {
  EXPECT_THAT(VerifyDirectory(options_, true, no_cancel_),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("LOCK")));
  DatabaseOptions options = options_;
  options.data_dir = dir_.File("none");
  EXPECT_THAT(VerifyDirectory(options, true, no_cancel_), StatusIs(absl::StatusCode::kNotFound));
  options.data_dir = dir_.File("rocks");
  EXPECT_THAT(VerifyDirectory(options, true, no_cancel_),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(VerifyFiles, RefusesADatabaseWithoutItsHead) {
  MakeContent();
  std::filesystem::remove(dir_.File("rocks/CURRENT"));
  EXPECT_FALSE(VerifyDirectory(options_, true, no_cancel_).ok());
}

TEST_F(VerifyFiles, FindsCommitsThatAreMissing) {
  MakeContent();
  {
    ASSERT_OK_AND_ASSIGN(const auto dir, storage::DataDir::Open(dir_.path()));
    ASSERT_OK_AND_ASSIGN(const auto mark,
                         storage::Watermark::Open(dir.watermark_path(), dir.instance()));
    ASSERT_OK(mark->Write(Seq{1000}, false));
  }
  ExpectSource("commits.missing", "rocks");
}

TEST_F(VerifyFiles, NoticesOneDamagedEntryOfTheWatermarkAndFindsTwo) {
  MakeContent();
  const std::string path = dir_.File("WATERMARK");
  const std::string whole = ReadBytes(path);
  std::string bytes = whole;
  bytes[8] = static_cast<char>(bytes[8] ^ 1);
  WriteBytes(path, bytes);
  ExpectNotice("watermark.slot", "WATERMARK");
  WriteBytes(path, std::string(whole.size(), 'x'));
  ExpectDerived("watermark.damaged", "WATERMARK");
  std::filesystem::remove(path);
  ExpectNotice("watermark.missing", "WATERMARK");
}

TEST_F(VerifyFiles, NoticesThatAnOlderFormatHasNoWatermark) {
  MakeTexts(3);
  Close();
  const std::string format = "azimuth data directory, format 2\nincarnation 0000000000000007\n";
  WriteBytes(dir_.File("FORMAT"),
             absl::StrFormat("%scrc32c %08x\n", format, Crc32c(std::string_view(format))));
  std::filesystem::remove(dir_.File("WATERMARK"));
  ExpectNotice("watermark.older_format", "WATERMARK");
}

TEST_F(VerifyFiles, NoticesFilesThatNobodyNames) {
  MakeContent();
  WriteBytes(dir_.File("notes.txt"), "x");
  WriteBytes(dir_.File("segments/notes.txt"), "x");
  WriteBytes(dir_.File("segments/00000000000000ff.seg"), "x");
  WriteBytes(dir_.File("segments/00000000000000fe.seg.tmp"), "x");
  WriteBytes(dir_.File("quarantine/12.34"), "x");
  ExpectNotice("file.unknown", "/notes.txt");
  ExpectNotice("file.unknown", "segments/notes.txt");
  ExpectNotice("file.left_over", "00000000000000ff.seg");
  ExpectNotice("file.left_over", "00000000000000fe.seg.tmp");
  ExpectNotice("file.set_aside", "quarantine/12.34");
}

TEST_F(VerifyFiles, FindsADamagedTable) {
  MakeContent();
  std::string largest;
  uintmax_t size = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.File("rocks"))) {
    if (entry.path().extension() != ".sst" || entry.file_size() < size) continue;
    size = entry.file_size();
    largest = entry.path().string();
  }
  std::string bytes = ReadBytes(largest);
  bytes[100] = static_cast<char>(bytes[100] ^ 4);
  WriteBytes(largest, bytes);
  ExpectSource("store.table", "rocks");
  ExpectSource("store.unreadable", "collection 'items'");
  // What can be said of the rest is said, and nothing that only follows from the damage.
  for (const Finding& finding : Verify().findings) {
    EXPECT_TRUE(finding.kind.starts_with("store.")) << finding.kind << " at " << finding.place;
  }
}

// --- Segments -----------------------------------------------------------------------------------

TEST_F(VerifyFiles, FindsSegmentFilesThatAreMissingCutOrFlipped) {
  MakeContent();
  const storage::SegmentEntry entry = FirstSegment();
  const std::string path = PathOf(entry.id);
  const std::string place = absl::StrCat("collection 'items', segment ", Raw(entry.id));
  const std::string whole = ReadBytes(path);

  std::filesystem::remove(path);
  ExpectDerived("segment.missing", place);
  WriteBytes(path, whole.substr(0, whole.size() - 100));
  ExpectDerived("segment.format", place);
  std::string bytes = whole;
  const std::vector<float> vector = VectorOf(7, 8);
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(vector.data()),
                                                vector.size() * sizeof(float)));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 2] = static_cast<char>(bytes[at + 2] ^ 1);
  WriteBytes(path, bytes);
  ExpectDerived("segment.checksum", place);
  ExpectFinding(FindingSeverity::kDerived, "segment.checksum", place, /*deep=*/false);
  WriteBytes(path, whole);
  ExpectSound(Verify());
}

TEST_F(VerifyFiles, FindsSegmentsThatOverlapOrAreForNoRows) {
  MakeContent();
  storage::SegmentEntry entry = FirstSegment();
  ChangeStore([&](const Store&, CommitBatch& batch) {
    entry.id = SegmentId{90};
    entry.rows.first = Next(entry.rows.first);
    batch.PutSegment(entry);
    entry.id = SegmentId{91};
    entry.rows = {RowId{300}, RowId{300}};
    batch.PutSegment(entry);
    batch.PutNextIds({CollectionId{3}, RowStoreId{3}, SegmentId{92}});
  });
  ExpectDerived("segment.overlap", "segment 90");
  ExpectDerived("segment.range", "segment 91");
}

TEST_F(VerifyFiles, FindsRowsThatASegmentLacksOrHasTooMany) {
  MakeContent();
  const std::string place = absl::StrCat("segment ", Raw(FirstSegment().id));
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    // Row 7 was never written, as far as the store knows; row 10 is live again.
    const FieldId fields[] = {FieldId{3}, FieldId{4}};
    batch.DeleteRowData(kItems, RowId{7}, fields);
    batch.DeleteKey(kItems, Key{int64_t{7}});
    const storage::RowStoreCounters counters = *store.GetCounters(kItems);
    batch.PutCounters(kItems, {counters.next_row, counters.live_rows - 1});
  });
  ExpectDerived("segment.row_unknown", absl::StrCat(place, ", row 7"));
  const VerifyReport report = Verify(/*deep=*/false);
  ASSERT_EQ(report.findings.size(), 1U) << testing::ToText(report);
}

TEST_F(VerifyFiles, FindsARowThatASegmentDroppedThoughItIsLive) {
  MakeItems();
  Settle();
  DeleteItems(20, 1);
  Settle();
  ASSERT_OK(db_->Optimize(
      "items",
      [this](const OptimizeProgress&) {
        workers_->RunAll();
        return absl::OkStatus();
      },
      no_cancel_));
  Close();
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    storage::StoredRow row = RowOf(store, kItems, RowId{21});
    row.key = int64_t{20};
    batch.PutRow(kItems, RowId{20}, row);
    batch.DeleteRetired(kItems, RowId{20});
    storage::KeyEntry entry = EntryOf(store, kItems, Key{int64_t{21}});
    entry.row = RowId{20};
    batch.PutKey(kItems, Key{int64_t{20}}, entry);
    batch.PutCounters(kItems, {.next_row = RowId{300}, .live_rows = 300});
  });
  ExpectDerived("segment.row_missing", "row 20");
}

TEST_F(VerifyFiles, FindsContentThatDiffersFromTheStore) {
  MakeContent();
  const std::string place = absl::StrCat("segment ", Raw(FirstSegment().id), ", row ");
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    storage::StoredRow field = RowOf(store, kItems, RowId{6});
    field.fields.front().second = Value{int64_t{12345}};
    batch.PutRow(kItems, RowId{6}, field);
    storage::StoredRow nested = RowOf(store, kItems, RowId{5});
    std::get<ValueMap>(nested.dynamic["more"].data)["a"] = Value{std::string("other")};
    batch.PutRow(kItems, RowId{5}, nested);
    batch.PutVector(kItems, FieldId{3}, RowId{7}, VectorOf(8, 8));
    batch.PutVector(kItems, FieldId{4}, RowId{8}, VectorOf(9, 4));
    batch.PutVector(kItems, FieldId{4}, RowId{9}, VectorOf(9, 4));  // It had none.
    storage::StoredRow ends = RowOf(store, kItems, RowId{17});
    ends.expires_at_unix_us = int64_t{1} << 60;
    batch.PutRow(kItems, RowId{17}, ends);
    storage::KeyEntry entry = EntryOf(store, kItems, Key{int64_t{17}});
    entry.expires_at_unix_us = ends.expires_at_unix_us;
    batch.PutKey(kItems, Key{int64_t{17}}, entry);
  });
  const VerifyReport report = Verify();
  const std::pair<int, std::string> expected[] = {{6, "'n'"}, {5, "'more.a'"}, {7, "'v'"},
                                                  {8, "'w'"}, {9, "'w'"},      {17, "ends"}};
  for (const auto& [row, what] : expected) {
    const auto it = std::find_if(report.findings.begin(), report.findings.end(),
                                 [&, id = row](const Finding& finding) {
                                   return finding.kind == "segment.row_differs" &&
                                          finding.place.ends_with(absl::StrCat(place, id));
                                 });
    ASSERT_NE(it, report.findings.end()) << row << "\n" << testing::ToText(report);
    EXPECT_EQ(it->severity, FindingSeverity::kDerived);
    EXPECT_THAT(it->message, HasSubstr(what));
  }
  EXPECT_EQ(report.findings.size(), std::size(expected)) << testing::ToText(report);
}

TEST_F(VerifyFiles, FindsAKeyAndASequenceNumberThatDifferFromTheStore) {
  MakeContent();
  const std::string path = PathOf(FirstSegment().id);
  ReplaceSection(path, SectionKind::kInsertSeqs, [](std::span<const std::byte> bytes) {
    std::string text = TextOf(bytes);
    text[0] = static_cast<char>(text[0] - 1);  // Of the first row; the order stays.
    return text;
  });
  const VerifyReport report = Verify();
  EXPECT_THAT(report.findings, ::testing::Contains(testing::FindingIs(
                                   FindingSeverity::kDerived, "segment.row_differs", "row 0")))
      << testing::ToText(report);
}

TEST_F(VerifyFiles, FindsAGraphWithoutLinks) {
  options_.growing_rows_max = 4096;
  Reopen();
  MakeItems(1500);
  Settle();
  Close();
  const std::string path = PathOf(FirstSegment().id);
  ReplaceSection(path, SectionKind::kGraph, [](std::span<const std::byte> bytes) {
    const auto open = index::FrozenGraph::Open(bytes);
    EXPECT_OK(open);
    index::BuiltGraph graph;
    graph.m = open->m();
    graph.node_count = open->node_count();
    graph.levels.assign(graph.node_count, 0);
    for (uint32_t node = 0; node < graph.node_count; ++node) {
      graph.level0.insert(graph.level0.end(), 2 * graph.m, node);
    }
    std::vector<uint32_t> order(graph.node_count);
    std::iota(order.begin(), order.end(), 0);
    return index::FreezeGraph(graph, order);
  });
  ExpectDerived("graph.unreachable", "graph of field 'v'");
  ExpectDerived("graph.self_recall", "graph of field 'v'");
  const VerifyReport report = Verify();
  EXPECT_EQ(report.unreachable_nodes, 1499U);
}

TEST(CheckGraph, CountsTheNodesThatTheEntryDoesNotLeadTo) {
  // 0 -> 1 -> 2, and 3 <-> 4 apart; m is 1: two slots.
  index::BuiltGraph graph;
  graph.m = 1;
  graph.node_count = 5;
  graph.levels.assign(5, 0);
  graph.level0 = {1, 0, 2, 1, 2, 2, 4, 3, 3, 4};
  const std::vector<uint32_t> order = {0, 1, 2, 3, 4};
  const std::string bytes = index::FreezeGraph(graph, order);
  std::vector<std::byte> aligned(bytes.size() + 64);
  auto* begin = aligned.data() + (64 - reinterpret_cast<uintptr_t>(aligned.data()) % 64);
  std::memcpy(begin, bytes.data(), bytes.size());
  ASSERT_OK_AND_ASSIGN(const auto open, index::FrozenGraph::Open({begin, bytes.size()}));
  EXPECT_EQ(*CountUnreachable(open, CancelToken()), 2U);
}

}  // namespace
}  // namespace azimuth::engine
