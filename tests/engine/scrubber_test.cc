// What the scrubber reads and when. The damage is in the mapped pages of a file: nothing but the
// scrubber reads them in these tests.

#include "engine/scrubber.h"

#include "tests/engine/manual_database.h"
#include "tests/support/segment_bytes.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::FlipBit;
using ::azimuth::testing::ReadBytes;
using testing::ManualDatabaseTest;

const CancelToken kNoCancel;
constexpr int64_t kRows = 96;  // One growing segment of SmallOptions.
constexpr int64_t kWeekMs = int64_t{7} * 24 * 3600 * 1000;

class ScrubberTest : public ManualDatabaseTest {
 protected:
  std::vector<std::string> SegmentFiles() const {
    std::vector<std::string> paths;
    for (const auto& file : std::filesystem::directory_iterator(dir_.File("segments"))) {
      paths.push_back(file.path().string());
    }
    return paths;
  }
  // Damages the one segment file that there is, amid the largest section, that of the graph:
  // opening the file does not read it.
  void Damage() {
    const auto files = SegmentFiles();
    ASSERT_EQ(files.size(), 1U);
    const std::string& path = files[0];
    const std::string file = ReadBytes(path);
    const auto footer = storage::DecodeSegmentFooter(file);
    ASSERT_OK(footer.status());
    const auto entries = storage::DecodeSegmentDirectory(file, *footer);
    ASSERT_OK(entries.status());
    const auto largest =
        std::max_element(entries->begin(), entries->end(),
                         [](const auto& a, const auto& b) { return a.length < b.length; });
    FlipBit(path, largest->offset + largest->length / 2);
  }
  uint64_t SetAside() const { return db_->GetInfo().store.segments_set_aside; }
};

TEST_F(ScrubberTest, ReadsAFileAgainOnceAWeek) {
  FillCollection(kRows);
  Settle();
  const auto files = SegmentFiles();
  Damage();
  Work();
  EXPECT_EQ(SetAside(), 0U) << "it is read before its time";
  clock_.AdvanceMillis(kWeekMs - 3000);
  Work();
  EXPECT_EQ(SetAside(), 0U) << "it is read before its time";
  clock_.AdvanceMillis(3000);
  Work();
  EXPECT_EQ(SetAside(), 1U);
  // Built again from the rows.
  const auto made = SegmentFiles();
  ASSERT_EQ(made.size(), 1U);
  EXPECT_NE(made, files);
  EXPECT_EQ(db_->GetStats("c")->unindexed_rows, 0U);
  EXPECT_EQ(db_->Count("c", {}, kNoCancel)->count, static_cast<uint64_t>(kRows));
}

TEST_F(ScrubberTest, ReadsAFileOnceAfterItWasMade) {
  Work();  // The round after the start, of no files.
  FillCollection(kRows);
  clock_.AdvanceMillis(1000);
  workers_->Tick();
  ASSERT_TRUE(workers_->RunOne());
  Damage();
  Work();
  EXPECT_EQ(SetAside(), 1U);
  EXPECT_EQ(db_->GetStats("c")->unindexed_rows, 0U);
}

TEST_F(ScrubberTest, ReadsAllFilesAfterAStart) {
  FillCollection(kRows);
  Settle();
  Damage();
  Reopen();
  EXPECT_EQ(SetAside(), 0U);
  Work();
  EXPECT_EQ(SetAside(), 1U);
  EXPECT_EQ(db_->GetStats("c")->unindexed_rows, 0U);
}

TEST_F(ScrubberTest, LeavesOutFilesThatAreNotUsedAnyMore) {
  FillCollection(kRows);
  Settle();
  Damage();
  clock_.AdvanceMillis(kWeekMs);
  workers_->Tick();  // A round is made up.
  ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  Work();
  EXPECT_EQ(SetAside(), 0U);
  EXPECT_TRUE(SegmentFiles().empty());
}

TEST_F(ScrubberTest, PutsRightWhatAVerifyFound) {
  FillCollection(kRows);
  Settle();
  Damage();
  const auto found = db_->Verify("", /*deep=*/false, kNoCancel);
  ASSERT_OK(found.status());
  EXPECT_FALSE(found->findings.empty());
  EXPECT_EQ(SetAside(), 0U);
  Work();
  EXPECT_EQ(SetAside(), 1U);
  const auto again = db_->Verify("", /*deep=*/true, kNoCancel);
  ASSERT_OK(again.status());
  EXPECT_TRUE(again->findings.empty());
}

}  // namespace
}  // namespace azimuth::engine
