// Snapshots of each format stand under tests/fixtures and must be restored for ever.
// AZIMUTH_UPDATE_GOLDEN=1 writes those of the current format anew.
#include "tests/engine/snapshot/snapshot_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace azimuth::engine {
namespace {

using testing::Contents;
using ::testing::IsEmpty;
using testing::SeenRows;

const CancelToken kNoCancel{};
constexpr int64_t kRows = 120;

std::string FixturePath(const std::string& name) {
  const auto tests = std::filesystem::canonical(__FILE__).parent_path().parent_path().parent_path();
  return tests / "fixtures" / "snapshot-1" / name;
}

class RestoreSnapshotFormat : public testing::SnapshotTest {
 protected:
  // n is ten times the key, the vector leads to it; some were replaced, and some deleted.
  void Fill() {
    ASSERT_OK(db_->CreateCollection("items", testing::SmallSchema(testing::kSnapshotDim), false,
                                    kNoCancel));
    Write(0, kRows, 0);
    Settle();
    Write(10, 10, 1);
    Delete("items", 50, 5);
  }
  void Write(int64_t first, int64_t count, int64_t generation) {
    std::vector<std::vector<float>> vectors;
    for (int64_t key = first; key < first + count; ++key) vectors.push_back(VectorOf(key));
    std::vector<RecordInput> records;
    for (int64_t i = 0; i < count; ++i) {
      records.push_back(testing::MakeRecord(first + i, (first + i) * 10 + generation,
                                            vectors[static_cast<size_t>(i)]));
    }
    ASSERT_OK(db_->Upsert("items", std::move(records), kNoCancel));
  }
  static std::vector<float> VectorOf(int64_t key) {
    return {static_cast<float>(key), 1.0F, 0.0F, -1.0F};
  }
  void Check(const std::string& collection) {
    const SeenRows rows = Contents(*db_, collection);
    EXPECT_EQ(rows.size(), static_cast<size_t>(kRows - 5));
    for (const auto& [key, row] : rows) {
      EXPECT_EQ(row.n, key * 10 + (key >= 10 && key < 20 ? 1 : 0));
      EXPECT_EQ(row.vector, VectorOf(key));
      EXPECT_FALSE(key >= 50 && key < 55);
    }
    const auto nearest = testing::Nearest(*db_, collection, VectorOf(77));
    ASSERT_FALSE(nearest.empty());
    EXPECT_EQ(nearest[0].first, 77);
  }
};

TEST_F(RestoreSnapshotFormat, Version1IsRestoredWithTheSameAnswers) {
  const char* update = std::getenv("AZIMUTH_UPDATE_GOLDEN");
  if (update != nullptr && std::string(update) == "1") {
    Fill();
    for (const char* of : {"items", ""}) {
      const std::string path = FixturePath(*of == '\0' ? "store" : "collection");
      Snapshot(of, *of == '\0' ? "all" : "one");
      std::filesystem::remove_all(path);
      std::filesystem::create_directories(std::filesystem::path(path).parent_path());
      std::filesystem::copy(FolderOf(info_.id), path, std::filesystem::copy_options::recursive);
    }
    ASSERT_OK(db_->DeleteSnapshot("one"));
    ASSERT_OK(db_->DeleteSnapshot("all"));
    ASSERT_OK(db_->DropCollection("items", false, kNoCancel));
  }
  std::filesystem::create_directory(options_.data_dir + "/snapshots");
  std::filesystem::copy(FixturePath("collection"), FolderOf("00000000000000aa"),
                        std::filesystem::copy_options::recursive);
  std::filesystem::copy(FixturePath("store"), FolderOf("00000000000000bb"),
                        std::filesystem::copy_options::recursive);
  for (const char* name : {"one", "all"}) {
    ASSERT_OK_AND_ASSIGN(const SnapshotReport report, db_->VerifySnapshot(name, kNoCancel));
    EXPECT_THAT(report.problems, IsEmpty());
    ASSERT_OK_AND_ASSIGN(
        const RestoreResult result,
        db_->RestoreSnapshot({.snapshot = name, .collection = "items", .target = name}, kNoCancel));
    EXPECT_THAT(result.warnings, IsEmpty());
    Check(name);
  }
}

}  // namespace
}  // namespace azimuth::engine
