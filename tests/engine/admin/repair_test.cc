// Repair: each derived finding is gone after it, what it did is said, and rows, keys and vectors
// are what they were, byte for byte.

#include "base/status.h"
#include "storage/watermark.h"
#include "tests/engine/admin/verify_fixture.h"

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::WriteBytes;
using storage::CommitBatch;
using storage::Store;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RepairFiles : public testing::VerifyTest {
 protected:
  void SetUp() override {
    MakeContent();
    source_ = Source();
  }

  // All rows, keys and vectors as bytes, those of retired rows too.
  std::string Source() {
    const auto store = OpenStore();
    const storage::RowRange all{RowId{0}, RowId{std::numeric_limits<uint64_t>::max()}};
    std::string bytes;
    for (const RowStoreId row_store : {kItems, kTexts}) {
      EXPECT_OK(store->ScanRows(row_store, all, [&](RowId row, storage::StoredRow&& value) {
        absl::StrAppend(&bytes, Raw(row), " ", storage::EncodeRow(value), "\n");
        return absl::OkStatus();
      }));
      EXPECT_OK(store->ScanKeys(row_store, [&](Key&& key, const storage::KeyEntry& entry) {
        absl::StrAppend(&bytes, KeyToText(key), " ", Raw(entry.row), " ", Raw(entry.insert_seq),
                        " ", entry.expires_at_unix_us, "\n");
        return absl::OkStatus();
      }));
      for (const FieldId field : {FieldId{3}, FieldId{4}}) {
        const auto append = [&](RowId row, std::span<const float> vector) {
          absl::StrAppend(&bytes, Raw(row), " ");
          bytes.append(reinterpret_cast<const char*>(vector.data()), vector.size_bytes());
          return absl::OkStatus();
        };
        EXPECT_OK(store->ScanVectors(row_store, field, all, append));
      }
    }
    return bytes;
  }

  // The directory has a derived finding of this kind, which a repair takes away.
  void ExpectRepaired(std::string_view kind, std::string_view said) {
    const VerifyReport before = Verify();
    EXPECT_THAT(before.findings, Contains(testing::FindingIs(FindingSeverity::kDerived, kind, "")))
        << testing::ToText(before);
    const VerifyReport after = Repair();
    ExpectSound(after);
    EXPECT_THAT(after.repairs, Contains(HasSubstr(std::string(said))));
    const VerifyReport again = Verify();
    ExpectSound(again);
    EXPECT_THAT(again.repairs, IsEmpty());
    EXPECT_TRUE(Source() == source_);
    CheckAnswers();
  }
  // Every record of items finds itself.
  void CheckAnswers() {
    options_.make_workers = {};
    const auto db = testing::OpenOrDie(options_);
    for (int64_t key = 0; key < 300; key += 7) {
      if (key >= 10 && key < 15) continue;
      const std::vector<float> query = VectorOf(key, 8);
      const auto found = db->Search("items", query, {.vector_field = "v", .limit = 1}, no_cancel_);
      ASSERT_OK(found);
      ASSERT_EQ(found->queries[0].hits.size(), 1U);
      EXPECT_EQ(found->queries[0].hits[0].record.key, Key{key});
    }
    ASSERT_OK(db->Close());
  }

  std::string source_;
};

TEST_F(RepairFiles, ChangesNothingOfASoundDirectory) {
  const VerifyReport report = Repair();
  ExpectSound(report);
  EXPECT_THAT(report.repairs, IsEmpty());
  EXPECT_TRUE(Source() == source_);
}

TEST_F(RepairFiles, RemovesNoRowsThatAreDeletedOrHaveEnded) {
  std::filesystem::remove(PathOf(FirstSegment().id));
  // All texts that ever end have ended, and their rows and those of deleted items are still there.
  clock_.AdvanceMillis(int64_t{1000} * 1000);
  ExpectSound(Repair());
  EXPECT_TRUE(Source() == source_);
}

TEST_F(RepairFiles, BuildsAMissingSegmentAgain) {
  std::filesystem::remove(PathOf(FirstSegment().id));
  ExpectRepaired("segment.missing", "was taken out of the catalog");
}

TEST_F(RepairFiles, BuildsACutSegmentAgainAndSetsItAside) {
  const std::string path = PathOf(FirstSegment().id);
  const std::string cut = ReadBytes(path).substr(0, 5000);
  WriteBytes(path, cut);
  ExpectRepaired("segment.format", "its file set aside as");
  size_t set_aside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.File("quarantine"))) {
    ++set_aside;
    EXPECT_EQ(ReadBytes(entry.path().string()), cut);
  }
  EXPECT_EQ(set_aside, 1U);
}

TEST_F(RepairFiles, BuildsASegmentWithAFlippedBitAgain) {
  const std::string path = PathOf(FirstSegment().id);
  std::string bytes = ReadBytes(path);
  const std::vector<float> vector = VectorOf(7, 8);
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(vector.data()),
                                                vector.size() * sizeof(float)));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  WriteBytes(path, bytes);
  ExpectRepaired("segment.checksum", "was taken out of the catalog");
}

TEST_F(RepairFiles, BuildsASegmentThatDiffersFromTheRowsAgain) {
  ChangeStore([&](const Store& store, CommitBatch& batch) {
    storage::StoredRow row = RowOf(store, kItems, RowId{6});
    row.fields.front().second = Value{int64_t{3}};
    batch.PutRow(kItems, RowId{6}, row);
  });
  source_ = Source();
  ExpectRepaired("segment.row_differs", "was taken out of the catalog");
}

TEST_F(RepairFiles, TakesOutSegmentsThatOverlapAndThoseOfNoCollection) {
  storage::SegmentEntry entry = FirstSegment();
  ChangeStore([&](const Store&, CommitBatch& batch) {
    entry.id = SegmentId{90};
    entry.rows.first = Next(entry.rows.first);
    batch.PutSegment(entry);
    entry.row_store = RowStoreId{78};
    entry.id = SegmentId{91};
    batch.PutSegment(entry);
    batch.PutNextIds({CollectionId{3}, RowStoreId{79}, SegmentId{92}});
  });
  ExpectRepaired("segment.overlap", "segment 91 was taken out of the catalog");
}

TEST_F(RepairFiles, CountsAgain) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutCounters(kItems, {.next_row = RowId{100}, .live_rows = 1});
  });
  ExpectRepaired("counters.live_rows", "counted again: 295 rows, next row id 305");
}

TEST_F(RepairFiles, PutsTheNextIdsPastThoseThatThereAre) {
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutNextIds({CollectionId{1}, RowStoreId{1}, SegmentId{1}});
  });
  ExpectRepaired("catalog.next_ids", "the ids that are next");
}

TEST_F(RepairFiles, WritesTheWatermarkAgain) {
  const std::string path = dir_.File("WATERMARK");
  WriteBytes(path, std::string(64, 'x'));
  ExpectRepaired("watermark.damaged", "was written again");
  std::filesystem::remove(path);
  Repair();
  EXPECT_GT(Verify().watermark, kSeqZero);
}

TEST_F(RepairFiles, RemovesWhatIsLeftOver) {
  WriteBytes(dir_.File("segments/00000000000000ff.seg"), "x");
  ChangeStore([&](const Store&, CommitBatch& batch) {
    batch.PutCounters(kItems, {.next_row = RowId{1000}, .live_rows = 295});
    batch.PutRetired(kItems, RowId{900}, Seq{3});
  });
  const VerifyReport report = Repair();
  EXPECT_TRUE(report.findings.empty()) << testing::ToText(report);
  EXPECT_THAT(report.repairs, Contains(HasSubstr("00000000000000ff.seg was removed")));
  EXPECT_THAT(report.repairs, Contains(HasSubstr("1 retirements of dropped rows")));
  EXPECT_TRUE(Source() == source_);
}

TEST_F(RepairFiles, LeavesDamageOfTheSourceAsItIs) {
  ChangeStore([&](const Store&, CommitBatch& batch) { batch.DeleteKey(kItems, Key{int64_t{7}}); });
  source_ = Source();
  const VerifyReport report = Repair();
  EXPECT_FALSE(report.sound());
  EXPECT_THAT(report.findings,
              Contains(testing::FindingIs(FindingSeverity::kSource, "row.key_missing", "row 7")));
  EXPECT_TRUE(Source() == source_);
}

TEST_F(RepairFiles, DoesNothingWhileCommitsAreMissing) {
  {
    const auto dir = storage::DataDir::Open(dir_.path());
    ASSERT_OK(dir);
    const auto mark = storage::Watermark::Open(dir->watermark_path(), dir->instance());
    ASSERT_OK(mark);
    ASSERT_OK((*mark)->Write(Seq{1000}, false));
  }
  std::filesystem::remove(PathOf(FirstSegment().id));
  const auto before = AllFiles();
  const VerifyReport report = Repair();
  EXPECT_FALSE(report.sound());
  EXPECT_THAT(report.repairs, IsEmpty());
  EXPECT_TRUE(AllFiles() == before);
}

}  // namespace
}  // namespace azimuth::engine
