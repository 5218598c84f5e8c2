// VerifyTest: a database with content of every kind, closed or killed, whose store and files a test
// then changes behind its back.
#pragma once

#include "engine/admin/verify.h"
#include "storage/data_dir.h"
#include "storage/row.h"
#include "storage/store.h"
#include "tests/engine/manual_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine::testing {

// The finding has this severity and kind, and `place` in its place.
MATCHER_P3(FindingIs, severity, kind, place, "") {
  return arg.severity == severity && arg.kind == kind && arg.place.find(place) != std::string::npos;
}

inline std::string ToText(const VerifyReport& report) {
  std::string text;
  for (const Finding& finding : report.findings) {
    absl::StrAppend(&text, static_cast<int>(finding.severity), " ", finding.kind, " at ",
                    finding.place, ": ", finding.message, "\n");
  }
  return text;
}

class VerifyTest : public ManualDatabaseTest {
 protected:
  static constexpr RowStoreId kItems{1};
  static constexpr RowStoreId kTexts{2};
  const CancelToken no_cancel_{};

  // The only fields of `items` beside the vectors have ids 1 (n) and 2 (color); v has 3, w has 4.
  void MakeItems(int64_t records = 300) {
    Schema schema = SmallSchema(8);
    schema.vectors.push_back({.name = "w", .dim = 4, .metric = Metric::kCosine});
    ASSERT_OK(db_->CreateCollection("items", schema, false, no_cancel_));
    PutItems(0, records);
  }
  // Records from `first` on: every third without a w, every fifth with dynamic fields.
  void PutItems(int64_t first, int64_t count) {
    std::vector<std::vector<float>> vectors;
    std::vector<RecordInput> records;
    vectors.reserve(static_cast<size_t>(count) * 2);
    for (int64_t key = first; key < first + count; ++key) {
      const auto& v = vectors.emplace_back(VectorOf(key, 8));
      RecordInput record = MakeRecord(key, key % 7, v);
      record.fields.push_back({"color", Value{std::string(key % 2 == 0 ? "red" : "blue")}});
      if (key % 3 != 0) record.vectors.push_back({"w", vectors.emplace_back(VectorOf(key, 4))});
      if (key % 5 == 0) {
        record.fields.push_back({"size", Value{static_cast<double>(key) / 3}});
        record.fields.push_back(
            {"more",
             Value{ValueMap{{"a", Value{key}}, {"list", Value{ValueList{Value{true}, Value{}}}}}}});
      }
      records.push_back(std::move(record));
    }
    ASSERT_OK(db_->Upsert("items", std::move(records), no_cancel_));
  }
  static std::vector<float> VectorOf(int64_t key, size_t dim) {
    std::vector<float> vector(dim);
    for (size_t i = 0; i < dim; ++i) {
      const auto mixed = static_cast<uint64_t>(key + 1) * 2654435761U * (2 * i + 3);
      vector[i] = static_cast<float>(mixed >> 7 & 0xFFF) / 4096.0F + 0.01F;
    }
    return vector;
  }

  // String keys, not dynamic; half of the records end.
  void MakeTexts(int64_t records = 120) {
    Schema schema = SmallSchema(4, Metric::kIp);
    schema.key_type = KeyType::kString;
    schema.dynamic = false;
    ASSERT_OK(db_->CreateCollection("texts", schema, false, no_cancel_));
    std::vector<std::vector<float>> vectors;
    vectors.reserve(static_cast<size_t>(records));
    std::vector<RecordInput> inputs;
    for (int64_t i = 0; i < records; ++i) {
      RecordInput record = MakeRecord(0, i, vectors.emplace_back(VectorOf(i, 4)));
      record.key = absl::StrCat("text ", i);
      if (i % 2 == 0) record.expires_at_unix_us = clock_.NowUnixMicros() + (i + 2) * 1000000;
      inputs.push_back(std::move(record));
    }
    ASSERT_OK(db_->Upsert("texts", std::move(inputs), no_cancel_));
  }

  void DeleteItems(int64_t first, int64_t count) {
    std::vector<Key> keys;
    for (int64_t key = first; key < first + count; ++key) keys.emplace_back(key);
    ASSERT_OK(db_->DeleteKeys("items", keys, no_cancel_));
  }

  // Items with segment files, retired rows and rows without a file, and texts; then closed.
  void MakeContent() {
    MakeItems();
    MakeTexts();
    Settle();
    DeleteItems(10, 5);
    PutItems(40, 5);
    Close();
  }
  void Close() {
    ASSERT_OK(db_->Close());
    db_.reset();
  }
  // As kill -9 does.
  void Kill() { db_.reset(); }

  std::unique_ptr<storage::Store> OpenStore() {
    auto store = storage::Store::Open(dir_.File("rocks"), {});
    EXPECT_OK(store);
    return *std::move(store);
  }
  // Commits what `change` puts into the batch.
  void ChangeStore(
      const std::function<void(const storage::Store&, storage::CommitBatch&)>& change) {
    const auto store = OpenStore();
    storage::CommitBatch batch;
    change(*store, batch);
    ASSERT_OK(store->Commit(batch, /*sync=*/true));
    ASSERT_OK(store->Close());
  }
  static storage::StoredRow RowOf(const storage::Store& store, RowStoreId row_store, RowId row) {
    const auto rows = store.GetRows(row_store, {&row, 1});
    EXPECT_TRUE(rows.ok() && rows->front().has_value());
    return *rows->front();
  }
  static storage::KeyEntry EntryOf(const storage::Store& store, RowStoreId row_store,
                                   const Key& key) {
    const auto entries = store.LookUpKeys(row_store, {&key, 1});
    EXPECT_TRUE(entries.ok() && entries->front().has_value());
    return *entries->front();
  }
  static std::vector<storage::SegmentEntry> SegmentsOf(const storage::Store& store,
                                                       RowStoreId row_store) {
    auto segments = store.ListSegments();
    EXPECT_OK(segments);
    std::erase_if(*segments,
                  [&](const storage::SegmentEntry& entry) { return entry.row_store != row_store; });
    return *segments;
  }
  std::string PathOf(SegmentId id) const {
    return dir_.File(absl::StrFormat("segments/%016x.seg", Raw(id)));
  }
  // The first segment of items.
  storage::SegmentEntry FirstSegment() { return SegmentsOf(*OpenStore(), kItems).front(); }

  VerifyReport Verify(bool deep = true) {
    const auto report = VerifyDirectory(options_, deep, no_cancel_);
    EXPECT_OK(report);
    return report.ok() ? *report : VerifyReport{};
  }
  VerifyReport Repair() {
    DatabaseOptions options = options_;
    options.make_workers = {};
    const auto report = RepairDirectory(options, /*deep=*/true, no_cancel_);
    EXPECT_OK(report);
    return report.ok() ? *report : VerifyReport{};
  }
  void ExpectSound(const VerifyReport& report) { EXPECT_TRUE(report.sound()) << ToText(report); }
  void ExpectFinding(FindingSeverity severity, std::string_view kind, std::string_view place,
                     bool deep = true) {
    const VerifyReport report = Verify(deep);
    EXPECT_THAT(report.findings, ::testing::Contains(FindingIs(severity, kind, place)))
        << ToText(report);
    EXPECT_EQ(report.sound(), severity == FindingSeverity::kNotice) << ToText(report);
  }
  void ExpectSource(std::string_view kind, std::string_view place) {
    ExpectFinding(FindingSeverity::kSource, kind, place);
  }
  void ExpectDerived(std::string_view kind, std::string_view place) {
    ExpectFinding(FindingSeverity::kDerived, kind, place);
  }
  void ExpectNotice(std::string_view kind, std::string_view place) {
    ExpectFinding(FindingSeverity::kNotice, kind, place);
  }

  // Path (below the directory) and content of every file.
  std::map<std::string, std::string> AllFiles() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_.path())) {
      const std::string name = std::filesystem::relative(entry.path(), dir_.path()).string();
      files[name] = entry.is_regular_file() ? ::azimuth::testing::ReadBytes(entry.path().string())
                                            : std::string("a folder");
    }
    return files;
  }
};

}  // namespace azimuth::engine::testing
