// A data directory of each format version stands under tests/fixtures and must open for ever, with
// the same answers. AZIMUTH_UPDATE_GOLDEN=1 writes that of the current version anew.

#include "engine/database.h"
#include "tests/engine/open_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <string>
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

std::string FixturePath() {
  return std::filesystem::canonical(__FILE__).parent_path().parent_path() / "fixtures" / "format-1";
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
    RecordInput input{Key{key}, {}, {}};
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
  two.push_back({Key{std::string("nord")}, {}, {{"v", north}}});
  two.push_back({Key{std::string("öst")}, {{"length", Value{int64_t{3}}}}, {{"v", east}}});
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

TEST(RecoverFormat, Version1OpensWithTheSameAnswers) {
  if (std::getenv("AZIMUTH_UPDATE_GOLDEN") != nullptr) {
    std::filesystem::remove_all(FixturePath());
    std::filesystem::create_directories(FixturePath());
    const auto db = OpenOrDie(SmallOptions(FixturePath()));
    Fill(*db);
    ASSERT_OK(db->Close());
    // RocksDB's log and its copies of the options name the machine, and are not part of the format.
    for (const auto& entry : std::filesystem::directory_iterator(FixturePath() + "/rocks")) {
      const std::string name = entry.path().filename();
      if (name.starts_with("LOG") || name.starts_with("OPTIONS")) {
        std::filesystem::remove(entry.path());
      }
    }
  }
  ASSERT_TRUE(std::filesystem::exists(FixturePath() + "/FORMAT"));
  TempDir dir;
  std::filesystem::copy(FixturePath(), dir.File("data"), std::filesystem::copy_options::recursive);
  const auto db = OpenOrDie(SmallOptions(dir.File("data")));
  ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db->GetStats("points"));
  ASSERT_FALSE(stats.segments.empty());
  EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed) << "its segment file was not taken";
  Check(*db);
}

}  // namespace
}  // namespace azimuth::engine
