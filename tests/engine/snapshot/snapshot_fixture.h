// What the tests of snapshots share: collections of SmallSchema(kDim) with random rows, and all
// that a reader can see of one, to be compared.
#pragma once

#include "storage/segment_file.h"
#include "storage/snapshot_folder.h"
#include "storage/snapshot_manifest.h"
#include "storage/store.h"
#include "tests/engine/manual_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine::testing {

inline constexpr uint32_t kSnapshotDim = 4;

struct SeenRow {
  int64_t n = 0;
  std::vector<float> vector;
  Seq version{};
  friend bool operator==(const SeenRow&, const SeenRow&) = default;
};
using SeenRows = std::map<int64_t, SeenRow>;

// All records of a collection of at most kLimitMax.
inline SeenRows Contents(const Database& db, const std::string& collection) {
  SeenRows rows;
  const auto result =
      db.Query(collection, {}, 16384, {.fields = {{"n"}}, .vectors = {"v"}}, CancelToken());
  EXPECT_OK(result);
  if (!result.ok()) return rows;
  for (const RecordOutput& record : result->records) {
    SeenRow row;
    if (const auto n = record.fields.find("n"); n != record.fields.end()) {
      row.n = std::get<int64_t>(n->second.data);
    }
    if (const auto v = record.vectors.find("v"); v != record.vectors.end()) row.vector = v->second;
    row.version = record.version;
    rows[std::get<int64_t>(record.key)] = std::move(row);
  }
  return rows;
}

// Keys and distances of the nearest, by the walk that a search takes by itself.
inline std::vector<std::pair<int64_t, float>> Nearest(const Database& db,
                                                      const std::string& collection,
                                                      const std::vector<float>& query,
                                                      SearchPath* path = nullptr) {
  std::vector<std::pair<int64_t, float>> hits;
  const auto result = db.Search(collection, query, {.limit = 10}, CancelToken());
  EXPECT_OK(result);
  if (!result.ok()) return hits;
  for (const SearchHit& hit : result->queries[0].hits) {
    hits.emplace_back(std::get<int64_t>(hit.record.key), hit.distance);
  }
  if (path != nullptr) *path = result->queries[0].work.path;
  return hits;
}

class SnapshotTest : public ManualDatabaseTest {
 protected:
  std::vector<float> RandomVector() {
    std::vector<float> vector(kSnapshotDim);
    for (float& x : vector) x = static_cast<float>(random_() % 1000);
    return vector;
  }
  // Writes keys [first, first + count); n is random.
  void Put(const std::string& collection, int64_t first, int64_t count) {
    std::vector<std::vector<float>> vectors;
    for (int64_t i = 0; i < count; ++i) vectors.push_back(RandomVector());
    std::vector<RecordInput> records;
    for (int64_t i = 0; i < count; ++i) {
      records.push_back(MakeRecord(first + i, static_cast<int64_t>(random_() % 100),
                                   vectors[static_cast<size_t>(i)]));
    }
    ASSERT_OK(db_->Upsert(collection, std::move(records), CancelToken()));
  }
  void Delete(const std::string& collection, int64_t first, int64_t count) {
    std::vector<Key> keys;
    for (int64_t i = 0; i < count; ++i) keys.emplace_back(first + i);
    ASSERT_OK(db_->DeleteKeys(collection, std::move(keys), CancelToken()));
  }
  // Sealed segments with graphs, some rows that were replaced or deleted, and a growing segment.
  void MakeCollection(const std::string& name, int64_t rows = 500) {
    ASSERT_OK(db_->CreateCollection(name, SmallSchema(kSnapshotDim), false, CancelToken()));
    Put(name, 0, rows);
    Settle();
    Put(name, rows / 4, rows / 10);
    Delete(name, rows / 2, rows / 20);
  }
  void Snapshot(const std::string& collection, const std::string& name) {
    ASSERT_OK_AND_ASSIGN(info_, db_->CreateSnapshot(collection, name, CancelToken()));
  }
  std::string FolderOf(const std::string& id) const {
    return options_.data_dir + "/snapshots/" + id;
  }
  // Changes the manifest of info_; its checksum is right again.
  void ChangeManifest(const std::function<void(storage::SnapshotManifest&)>& change) {
    const std::string folder = FolderOf(info_.id);
    ASSERT_OK_AND_ASSIGN(storage::SnapshotManifest manifest,
                         storage::ReadSnapshotManifest(folder, storage::Files::Posix()));
    change(manifest);
    ::azimuth::testing::WriteBytes(folder + "/MANIFEST", storage::EncodeSnapshotManifest(manifest));
  }
  // The manifest has length and checksum of a file as they are now.
  void NoteFile(const std::string& name) {
    ASSERT_OK_AND_ASSIGN(const storage::SnapshotFile file,
                         storage::ChecksumOf(FolderOf(info_.id) + "/" + name, name,
                                             storage::Files::Posix(), CancelToken()));
    ChangeManifest([&](storage::SnapshotManifest& manifest) {
      for (storage::SnapshotFile& each : manifest.files) {
        if (each.name == name) each = file;
      }
    });
  }
  // Rewrites a segment file of info_ with other bytes in its sections: all its checksums are right,
  // and so is that of the manifest.
  void ChangeSegment(const std::string& name,
                     const std::function<void(const storage::SectionId&, std::string&)>& change) {
    const std::string path = FolderOf(info_.id) + "/" + name;
    {
      ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(path));
      ASSERT_OK_AND_ASSIGN(const auto writer,
                           storage::SegmentWriter::Create(path + ".new", file->header()));
      for (const storage::SectionId& id : file->Sections()) {
        const auto section = file->Find(id);
        std::string bytes(reinterpret_cast<const char*>(section->data()), section->size());
        change(id, bytes);
        ASSERT_OK(writer->BeginSection(id));
        ASSERT_OK(writer->Append(std::as_bytes(std::span(bytes.data(), bytes.size()))));
      }
      ASSERT_OK(writer->Finish());
    }
    // In another file: segment files are shared with the store.
    std::filesystem::rename(path + ".new", path);
    NoteFile(name);
  }
  // Commits to the copy of the database in info_, of the whole store; the manifest is right again.
  void ChangeStore(const std::function<void(storage::CommitBatch&)>& change) {
    const std::string folder = FolderOf(info_.id);
    {
      storage::StoreOptions options;
      options.merges_tables = false;
      options.write_buffer_bytes = uint64_t{1} << 20;
      ASSERT_OK_AND_ASSIGN(const auto store, storage::Store::Open(folder + "/rocks", options));
      storage::CommitBatch batch;
      change(batch);
      ASSERT_OK(store->Commit(batch, /*sync=*/true));
      ASSERT_OK(store->Close());
    }
    std::vector<storage::SnapshotFile> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder + "/rocks")) {
      const std::string name = "rocks/" + entry.path().filename().string();
      if (!storage::IsSnapshotFileName(name)) {
        std::filesystem::remove_all(entry.path());  // Its lock and the like.
        continue;
      }
      ASSERT_OK_AND_ASSIGN(
          storage::SnapshotFile file,
          storage::ChecksumOf(entry.path(), name, storage::Files::Posix(), CancelToken()));
      files.push_back(std::move(file));
    }
    ChangeManifest([&](storage::SnapshotManifest& manifest) {
      std::erase_if(manifest.files, [](const storage::SnapshotFile& file) {
        return file.name.starts_with("rocks/");
      });
      manifest.files.insert(manifest.files.end(), files.begin(), files.end());
      std::sort(manifest.files.begin(), manifest.files.end(),
                [](const auto& a, const auto& b) { return a.name < b.name; });
    });
  }
  // The name of the longest segment file of info_.
  std::string LongestSegment() const {
    std::string longest;
    uintmax_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(FolderOf(info_.id))) {
      if (file.path().extension() != ".seg" || file.file_size() <= bytes) continue;
      bytes = file.file_size();
      longest = file.path().filename();
    }
    return longest;
  }
  // Names in snapshots/.
  std::vector<std::string> Left() const {
    std::vector<std::string> names;
    std::error_code none;
    for (const auto& entry :
         std::filesystem::directory_iterator(options_.data_dir + "/snapshots", none)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  // Files of segments.
  size_t SegmentFiles() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.data_dir + "/segments")) {
      count += entry.is_regular_file() ? 1 : 0;
    }
    return count;
  }

  std::mt19937_64 random_{7};
  SnapshotInfo info_;
};

}  // namespace azimuth::engine::testing
