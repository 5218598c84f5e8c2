// A data directory of each format version stands under tests/fixtures and must open for ever, with
// the same answers. AZIMUTH_UPDATE_GOLDEN=1 writes that of the current version anew.

#include "engine/database.h"
#include "storage/data_dir.h"
#include "storage/watermark.h"
#include "tests/engine/open_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using ::testing::ElementsAre;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::WaitIndexed;

const CancelToken kNoCancel;
constexpr int64_t kRows = 200;

constexpr int64_t kYear2100 = int64_t{4102444800} * 1000000;

std::string FixturePath(const std::string& version) {
  return std::filesystem::canonical(__FILE__).parent_path().parent_path() / "fixtures" / version;
}

// Two collections: `points` (int64 keys; sealed rows with a graph, retired rows, growing rows, all
// kinds of values) and `words` (string keys, cosine, not dynamic, defaults).
void Fill(Database& db) {
  Schema points;
  points.fields.push_back({.name = "n", .type = FieldType::kInt64});
  points.vectors.push_back({.name = "a", .dim = 3, .metric = Metric::kL2});
  points.vectors.push_back({.name = "b", .dim = 2, .metric = Metric::kIp});
  ASSERT_OK(db.CreateCollection("points", points, false, kNoCancel));
  std::vector<std::vector<float>> a;
  for (int64_t i = 0; i < kRows + 5; ++i) a.push_back({static_cast<float>(i), 1.0F, -1.0F});
  const std::vector<float> b = {0.5F, 2.0F};
  const auto record = [&](int64_t key) {
    RecordInput input{.key = Key{key}, .fields = {}, .vectors = {}};
    input.fields.push_back({"n", Value{key % 7}});
    input.fields.push_back({"tag", Value{std::string(key % 2 == 0 ? "even" : "odd")}});
    if (key % 5 == 0) {
      input.fields.push_back(
          {"meta", Value{ValueMap{{"price", Value{0.25 * static_cast<double>(key)}},
                                  {"list", Value{ValueList{Value{}, Value{true}}}}}}});
    }
    input.vectors.push_back({"a", a[static_cast<size_t>(key)]});
    if (key % 3 == 0) input.vectors.push_back({"b", b});
    return input;
  };
  std::vector<RecordInput> batch;
  for (int64_t key = 0; key < kRows; ++key) batch.push_back(record(key));
  ASSERT_OK(db.Insert("points", std::move(batch), kNoCancel));
  ASSERT_TRUE(WaitIndexed(db, "points"));
  batch.clear();
  for (int64_t key = kRows; key < kRows + 5; ++key) batch.push_back(record(key));
  ASSERT_OK(db.Insert("points", std::move(batch), kNoCancel));
  ASSERT_OK(db.DeleteKeys("points", {Key{int64_t{10}}, Key{int64_t{11}}}, kNoCancel));

  Schema words;
  words.key_type = KeyType::kString;
  words.dynamic = false;
  words.fields.push_back({.name = "length",
                          .type = FieldType::kInt64,
                          .nullable = false,
                          .default_value = Value{int64_t{4}}});
  words.vectors.push_back({.name = "v", .dim = 2, .metric = Metric::kCosine});
  ASSERT_OK(db.CreateCollection("words", words, false, kNoCancel));
  const std::vector<float> north = {0.0F, 2.0F};
  const std::vector<float> east = {3.0F, 0.0F};
  std::vector<RecordInput> two;
  two.push_back({.key = Key{std::string("nord")}, .fields = {}, .vectors = {{"v", north}}});
  two.push_back({.key = Key{std::string("öst")},
                 .fields = {{"length", Value{int64_t{3}}}},
                 .vectors = {{"v", east}}});
  ASSERT_OK(db.Insert("words", std::move(two), kNoCancel));
}

void Check(Database& db) {
  ASSERT_OK_AND_ASSIGN(const CountResult all, db.Count("points", {}, kNoCancel));
  EXPECT_EQ(all.count, static_cast<uint64_t>(kRows + 3));
  ASSERT_OK_AND_ASSIGN(const CountResult dear,
                       db.Count("points", {"meta.price > 48", {}}, kNoCancel));
  EXPECT_EQ(dear.count, 2U);
  const std::vector<Key> keys = {Key{int64_t{15}}, Key{int64_t{10}}};
  ASSERT_OK_AND_ASSIGN(const GetResult got,
                       db.Get("points", keys, {.vectors = {"a", "b"}}, kNoCancel));
  ASSERT_EQ(got.records.size(), 1U);
  EXPECT_THAT(got.missing, ElementsAre(Key{int64_t{10}}));
  EXPECT_EQ(got.records[0].fields.at("n"), Value{int64_t{1}});
  EXPECT_EQ(std::get<ValueMap>(got.records[0].fields.at("meta").data).at("price"), Value{3.75});
  EXPECT_THAT(got.records[0].vectors.at("a"), ElementsAre(15.0F, 1.0F, -1.0F));
  EXPECT_THAT(got.records[0].vectors.at("b"), ElementsAre(0.5F, 2.0F));
  const std::vector<float> query = {10.4F, 1.0F, -1.0F};
  ASSERT_OK_AND_ASSIGN(const SearchResult found,
                       db.Search("points", query, {.vector_field = "a", .limit = 2}, kNoCancel));
  ASSERT_EQ(found.queries[0].hits.size(), 2U);
  EXPECT_EQ(found.queries[0].hits[0].record.key, Key{int64_t{9}});
  EXPECT_EQ(found.queries[0].hits[1].record.key, Key{int64_t{12}});
  const std::vector<float> direction = {0.1F, 5.0F};
  ASSERT_OK_AND_ASSIGN(const SearchResult word,
                       db.Search("words", direction, {.limit = 1}, kNoCancel));
  EXPECT_EQ(word.queries[0].hits[0].record.key, Key{std::string("nord")});
  EXPECT_EQ(word.queries[0].hits[0].record.fields.at("length"), Value{int64_t{4}});
}

// What format 2 brought: records that end, the ttl of a collection, remembered requests.
void FillVersion2(Database& db) {
  Schema ends;
  ends.fields.push_back({.name = "n", .type = FieldType::kInt64});
  ends.vectors.push_back({.name = "v", .dim = 2});
  ends.ttl_seconds = int64_t{50} * 366 * 86400;
  ASSERT_OK(db.CreateCollection("ends", ends, false, kNoCancel));
  const std::vector<float> vector = {1.0F, 2.0F};
  std::vector<RecordInput> batch;
  for (int64_t key = 0; key < kRows; ++key) {
    RecordInput record{.key = Key{key}, .fields = {{"n", Value{key}}}, .vectors = {{"v", vector}}};
    if (key % 2 == 0) record.expires_at_unix_us = key % 4 == 0 ? kYear2100 : 1;
    batch.push_back(std::move(record));
  }
  ASSERT_OK(db.Insert("ends", std::move(batch), kNoCancel,
                      {.request_id = "first", .request_digest = "digest"}));
  ASSERT_TRUE(WaitIndexed(db, "ends"));
}

void CheckVersion2(Database& db) {
  ASSERT_OK_AND_ASSIGN(const CollectionInfo info, db.DescribeCollection("ends"));
  EXPECT_EQ(info.schema.ttl_seconds, int64_t{50} * 366 * 86400);
  ASSERT_OK_AND_ASSIGN(const CountResult count, db.Count("ends", {}, kNoCancel));
  EXPECT_EQ(count.count, static_cast<uint64_t>(kRows) * 3 / 4);
  const std::vector<Key> keys = {Key{int64_t{4}}, Key{int64_t{2}}};
  ASSERT_OK_AND_ASSIGN(const GetResult got, db.Get("ends", keys, {}, kNoCancel));
  ASSERT_EQ(got.records.size(), 1U);
  EXPECT_EQ(got.records[0].expires_at_unix_us, kYear2100);
}

// A copy of the fixture, opened.
std::unique_ptr<Database> OpenCopy(const std::string& fixture, const TempDir& dir) {
  EXPECT_TRUE(std::filesystem::exists(fixture + "/FORMAT"));
  std::filesystem::copy(fixture, dir.File("data"), std::filesystem::copy_options::recursive);
  return OpenOrDie(SmallOptions(dir.File("data")));
}

void ExpectSealed(const Database& db, const std::string& collection) {
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db.GetStats(collection));
  ASSERT_FALSE(stats.segments.empty());
  EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed) << "its segment file was not taken";
}

// What format 3 brought: the mark of the last synced commit, which every version has once it is
// open.
void CheckVersion3(std::unique_ptr<Database> db, const TempDir& dir) {
  EXPECT_OK(db->CheckWritable());
  const std::vector<float> vector = {1.0F, 2.0F};
  std::vector<RecordInput> one;
  one.push_back({.key = Key{std::string("more")}, .fields = {}, .vectors = {{"v", vector}}});
  ASSERT_OK(db->Insert("words", std::move(one), kNoCancel));
  ASSERT_OK(db->Close());
  db.reset();
  ASSERT_OK_AND_ASSIGN(const auto data, storage::DataDir::OpenToRead(dir.File("data")));
  EXPECT_EQ(data.format_version(), 4U);
  ASSERT_OK_AND_ASSIGN(const auto mark,
                       storage::Watermark::Read(data.watermark_path(), data.instance()));
  EXPECT_FALSE(mark.damaged);
  ASSERT_TRUE(mark.mark.has_value());
  EXPECT_TRUE(mark.mark->clean);
  EXPECT_GT(mark.mark->seq, kSeqZero);
}

TEST(RecoverFormat, Version1OpensWithTheSameAnswers) {
  const TempDir dir;
  auto db = OpenCopy(FixturePath("format-1"), dir);
  ExpectSealed(*db, "points");
  Check(*db);
  CheckVersion3(std::move(db), dir);
}

TEST(RecoverFormat, Version2OpensWithTheSameAnswers) {
  const TempDir dir;
  auto db = OpenCopy(FixturePath("format-2"), dir);
  ExpectSealed(*db, "points");
  ExpectSealed(*db, "ends");
  Check(*db);
  CheckVersion2(*db);
  CheckVersion3(std::move(db), dir);
}

TEST(RecoverFormat, Version3OpensWithTheSameAnswers) {
  const TempDir dir;
  auto db = OpenCopy(FixturePath("format-3"), dir);
  ExpectSealed(*db, "points");
  ExpectSealed(*db, "ends");
  Check(*db);
  CheckVersion2(*db);
  CheckVersion3(std::move(db), dir);
}

// What format 4 brought: bulk loads, and vectors in row tables, of which a note tells.
void FillVersion4(Database& db) {
  Schema loaded;
  loaded.vectors.push_back({.name = "a", .dim = 64, .metric = Metric::kL2});
  ASSERT_OK(db.CreateCollection("loaded", loaded, false, kNoCancel));
  const std::vector<float> vector(64, 1.0F);
  std::vector<IngestBatch> batches;
  for (uint64_t number = 1; number <= 3; ++number) {
    batches.push_back({.number = number});
    for (int64_t i = 0; i < 20; ++i) {
      batches.back().records.push_back({.key = Key{static_cast<int64_t>(number) * 20 + i},
                                        .fields = {},
                                        .vectors = {{"a", vector}}});
    }
  }
  for (const auto& result :
       db.Ingest({.collection = "loaded", .load = "first"}, std::move(batches), kNoCancel)) {
    ASSERT_OK(result);
  }
}

void CheckVersion4(Database& db) {
  ASSERT_OK_AND_ASSIGN(const auto count, db.Count("loaded", {}, kNoCancel));
  EXPECT_EQ(count.count, 60U);
  ASSERT_OK_AND_ASSIGN(const auto report, db.Verify("", /*deep=*/true, kNoCancel));
  EXPECT_TRUE(report.sound());
}

TEST(RecoverFormat, Version4OpensWithTheSameAnswers) {
  const std::string fixture = FixturePath("format-4");
  if (std::getenv("AZIMUTH_UPDATE_GOLDEN") != nullptr) {
    std::filesystem::remove_all(fixture);
    std::filesystem::create_directories(fixture);
    const auto db = OpenOrDie(SmallOptions(fixture));
    Fill(*db);
    FillVersion2(*db);
    FillVersion4(*db);
    ASSERT_OK(db->Close());
    // RocksDB's log and its copies of the options name the machine, and are not part of the format.
    for (const auto& entry : std::filesystem::directory_iterator(fixture + "/rocks")) {
      const std::string name = entry.path().filename();
      if (name.starts_with("LOG") || name.starts_with("OPTIONS")) {
        std::filesystem::remove(entry.path());
      }
    }
  }
  const TempDir dir;
  {
    ASSERT_OK_AND_ASSIGN(const auto data, storage::DataDir::OpenToRead(fixture));
    EXPECT_NE(data.instance(), data.incarnation());
    ASSERT_OK_AND_ASSIGN(const auto mark,
                         storage::Watermark::Read(data.watermark_path(), data.instance()));
    ASSERT_TRUE(mark.mark.has_value());
    EXPECT_TRUE(mark.mark->clean);
  }
  auto db = OpenCopy(fixture, dir);
  ExpectSealed(*db, "points");
  ExpectSealed(*db, "ends");
  Check(*db);
  CheckVersion2(*db);
  CheckVersion4(*db);
  CheckVersion3(std::move(db), dir);
}

}  // namespace
}  // namespace azimuth::engine
