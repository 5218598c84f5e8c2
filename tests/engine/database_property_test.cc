// Random operations against a plain map, with builds, merges and reopens in between: after each
// step the database must answer as the map does, by count, get, filter, exact search and graph
// search. The seed is printed; AZIMUTH_SEED replays it.

#include "engine/database.h"
#include "tests/engine/open_database.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using testing::MakeRecord;
using testing::OpenOrDie;
using testing::SmallOptions;
using testing::SmallSchema;
using testing::WaitIndexed;

const CancelToken kNoCancel;
constexpr uint32_t kDim = 4;
constexpr int64_t kKeys = 400;

struct ModelRecord {
  int64_t n = 0;
  std::vector<float> vector;
};

class Property {
 public:
  explicit Property(uint64_t seed) : random_(seed), db_(OpenOrDie(SmallOptions(dir_.path()))) {
    EXPECT_OK(db_->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  }

  void Step() {
    const uint64_t choice = random_() % 100;
    if (choice < 35) {
      Upsert();
    } else if (choice < 45) {
      Update();
    } else if (choice < 46) {
      ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
      model_.clear();
    } else if (choice < 60) {
      Insert();
    } else if (choice < 72) {
      DeleteKeys();
    } else if (choice < 80) {
      DeleteMatching();
    } else if (choice < 84) {
      ASSERT_TRUE(WaitIndexed(*db_, "c"));
    } else if (choice < 88) {
      db_.reset();
      db_ = OpenOrDie(SmallOptions(dir_.path()));
    } else {
      Check();
    }
  }

  void Check() {
    ASSERT_OK_AND_ASSIGN(const CountResult count, db_->Count("c", {}, kNoCancel));
    ASSERT_EQ(count.count, model_.size());
    ASSERT_OK_AND_ASSIGN(const CollectionStats stats, db_->GetStats("c"));
    ASSERT_EQ(stats.row_count, model_.size());
    ASSERT_EQ(db_->ListCollections()[0].row_count, model_.size());
    CheckRecords();
    CheckFilter();
    CheckSearch();
  }

 private:
  std::vector<float> RandomVector() {
    std::vector<float> vector(kDim);
    // Few values, so that ties are common.
    for (float& x : vector) x = static_cast<float>(random_() % 6);
    return vector;
  }
  int64_t RandomKey() { return static_cast<int64_t>(random_() % kKeys); }

  // Random records with distinct keys; `vectors_` keeps what they point to.
  std::vector<RecordInput> RandomBatch() {
    vectors_.clear();
    keys_.clear();
    const size_t count = 1 + random_() % 60;
    while (keys_.size() < count) keys_.insert(RandomKey());
    std::vector<RecordInput> batch;
    for (const int64_t key : keys_) {
      vectors_[key] = {static_cast<int64_t>(random_() % 20), RandomVector()};
      batch.push_back(MakeRecord(key, vectors_[key].n, vectors_[key].vector));
    }
    return batch;
  }

  void Upsert() {
    auto batch = RandomBatch();
    ASSERT_OK(db_->Upsert("c", std::move(batch), kNoCancel));
    for (const auto& [key, record] : vectors_) model_[key] = record;
  }
  // Of `n` alone; keys without a record are skipped.
  void Update() {
    auto batch = RandomBatch();
    for (RecordInput& record : batch) record.vectors.clear();
    size_t existing = 0;
    for (const int64_t key : keys_) {
      const auto it = model_.find(key);
      if (it == model_.end()) continue;
      it->second.n = vectors_[key].n;
      ++existing;
    }
    ASSERT_OK_AND_ASSIGN(const WriteResult result,
                         db_->Update("c", std::move(batch), MissingKeys::kSkip, kNoCancel));
    ASSERT_EQ(result.updated, existing);
  }
  void Insert() {
    auto batch = RandomBatch();
    const bool clash =
        std::any_of(keys_.begin(), keys_.end(), [&](int64_t key) { return model_.count(key) > 0; });
    const auto result = db_->Insert("c", std::move(batch), kNoCancel);
    ASSERT_EQ(result.ok(), !clash) << result.status();
    if (clash) return;
    for (const auto& [key, record] : vectors_) model_[key] = record;
  }
  void DeleteKeys() {
    std::vector<Key> keys;
    std::set<int64_t> existing;
    for (size_t i = 0; i < 1 + random_() % 30; ++i) {
      const int64_t key = RandomKey();
      keys.emplace_back(key);
      if (model_.count(key) > 0) existing.insert(key);
    }
    ASSERT_OK_AND_ASSIGN(const WriteResult result,
                         db_->DeleteKeys("c", std::move(keys), kNoCancel));
    ASSERT_EQ(result.deleted, existing.size());
    for (const int64_t key : existing) model_.erase(key);
  }
  void DeleteMatching() {
    const auto n = static_cast<int64_t>(random_() % 20);
    ASSERT_OK_AND_ASSIGN(
        const WriteResult result,
        db_->DeleteMatching("c", {"n == $n", {{"n", Value{n}}}}, false, kNoCancel));
    const size_t before = model_.size();
    std::erase_if(model_, [&](const auto& entry) { return entry.second.n == n; });
    ASSERT_EQ(result.deleted, before - model_.size());
  }

  void CheckRecords() {
    std::vector<Key> keys;
    for (int64_t key = 0; key < kKeys; ++key) keys.emplace_back(key);
    ASSERT_OK_AND_ASSIGN(const GetResult got, db_->Get("c", keys, {.vectors = {"v"}}, kNoCancel));
    ASSERT_EQ(got.records.size(), model_.size());
    auto expected = model_.begin();
    for (const RecordOutput& record : got.records) {
      ASSERT_EQ(record.key, Key{expected->first});
      ASSERT_EQ(record.fields.at("n"), Value{expected->second.n});
      ASSERT_EQ(record.vectors.at("v"), expected->second.vector);
      ++expected;
    }
  }
  void CheckFilter() {
    const auto low = static_cast<int64_t>(random_() % 20);
    ASSERT_OK_AND_ASSIGN(
        const QueryResult result,
        db_->Query("c", {"n >= $low and key != 7", {{"low", Value{low}}}}, kKeys, {}, kNoCancel));
    std::vector<Key> expected;
    for (const auto& [key, record] : model_) {
      if (record.n >= low && key != 7) expected.emplace_back(key);
    }
    std::vector<Key> keys;
    for (const RecordOutput& record : result.records) keys.push_back(record.key);
    ASSERT_EQ(keys, expected);
  }
  void CheckSearch() {
    const std::vector<float> query = RandomVector();
    const auto n = static_cast<int64_t>(random_() % 20);
    std::vector<std::pair<float, int64_t>> expected;
    for (const auto& [key, record] : model_) {
      if (record.n < n) continue;
      float distance = 0;
      for (size_t i = 0; i < kDim; ++i) {
        distance += (record.vector[i] - query[i]) * (record.vector[i] - query[i]);
      }
      expected.emplace_back(distance, key);
    }
    std::sort(expected.begin(), expected.end());
    const size_t limit = 1 + random_() % 20;
    expected.resize(std::min(limit, expected.size()));
    SearchSpec spec{.limit = static_cast<uint32_t>(limit),
                    .filter = {"n >= $n", {{"n", Value{n}}}},
                    .exact = true};
    ASSERT_OK_AND_ASSIGN(const SearchResult exact, db_->Search("c", query, spec, kNoCancel));
    std::vector<std::pair<float, int64_t>> found;
    for (const SearchHit& hit : exact.queries[0].hits) {
      found.emplace_back(hit.distance, std::get<int64_t>(hit.record.key));
    }
    ASSERT_EQ(found, expected);

    spec.exact = false;
    ASSERT_OK_AND_ASSIGN(const SearchResult walked, db_->Search("c", query, spec, kNoCancel));
    ASSERT_EQ(walked.queries[0].hits.size(), expected.size());
    std::set<Key> seen;
    for (const SearchHit& hit : walked.queries[0].hits) {
      const auto record = model_.find(std::get<int64_t>(hit.record.key));
      ASSERT_TRUE(record != model_.end());
      ASSERT_GE(record->second.n, n);
      ASSERT_TRUE(seen.insert(hit.record.key).second) << "a key came twice";
    }
  }

  TempDir dir_;
  std::mt19937_64 random_;
  std::unique_ptr<Database> db_;
  std::map<int64_t, ModelRecord> model_;
  std::map<int64_t, ModelRecord> vectors_;
  std::set<int64_t> keys_;
};

TEST(DatabaseProperty, AnswersAsAPlainMapDoesUnderAnySequenceOfOperations) {
  const char* given = std::getenv("AZIMUTH_SEED");
  const uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261124;
  const uint64_t seeds = given != nullptr ? 1 : 4;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("AZIMUTH_SEED=" + std::to_string(seed));
    Property property(seed);
    for (int step = 0; step < 150 && !::testing::Test::HasFatalFailure(); ++step) property.Step();
    if (!::testing::Test::HasFatalFailure()) property.Check();
  }
}

// Goal: a reader sees a batch whole or not at all, and exactly one version of each record, while
// writers replace the same batch again and again and segments are closed, built and merged below
// it. Method: every record of a batch carries the batch's generation; a read that shows two
// generations, or not exactly one record for each key, is a violation.
TEST(DatabaseProperty, ReadersSeeBatchesWholeWhileSegmentsChange) {
  TempDir dir;
  const auto db = OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  constexpr int64_t kBatchKeys = 40;
  const auto write = [&](int64_t generation) {
    const std::vector<float> vector(kDim, static_cast<float>(generation % 7));
    std::vector<RecordInput> batch;
    for (int64_t key = 0; key < kBatchKeys; ++key) {
      batch.push_back(MakeRecord(key, generation, vector));
    }
    ASSERT_OK(db->Upsert("c", std::move(batch), kNoCancel));
  };
  write(0);
  std::atomic<bool> stop{false};
  std::atomic<int> violations{0};
  const auto check = [&](size_t count, const std::set<int64_t>& generations) {
    if (count != kBatchKeys || generations.size() != 1) violations.fetch_add(1);
  };
  const auto generation_of = [](const RecordOutput& record) {
    return std::get<int64_t>(record.fields.at("n").data);
  };
  std::thread by_query([&] {
    while (!stop.load()) {
      const auto result = db->Query("c", {}, 1000, {}, kNoCancel);
      std::set<int64_t> generations;
      for (const auto& record : result->records) generations.insert(generation_of(record));
      check(result->records.size(), generations);
    }
  });
  std::thread by_search([&] {
    const std::vector<float> query(kDim, 0.0F);
    while (!stop.load()) {
      const auto result = db->Search("c", query, {.limit = 1000}, kNoCancel);
      std::set<int64_t> generations;
      for (const auto& hit : result->queries[0].hits) generations.insert(generation_of(hit.record));
      check(result->queries[0].hits.size(), generations);
    }
  });
  std::thread by_get([&] {
    std::vector<Key> keys;
    for (int64_t key = 0; key < kBatchKeys; ++key) keys.emplace_back(key);
    while (!stop.load()) {
      const auto result = db->Get("c", keys, {}, kNoCancel);
      std::set<int64_t> generations;
      for (const auto& record : result->records) generations.insert(generation_of(record));
      check(result->records.size(), generations);
    }
  });
  for (int64_t generation = 1; generation < 300; ++generation) write(generation);
  stop.store(true);
  by_query.join();
  by_search.join();
  by_get.join();
  EXPECT_EQ(violations.load(), 0);
}

// As above, with what changes a collection whole: an insert of all records, an update of all, a
// truncation. A reader sees none of the records or all, and all of one generation.
TEST(DatabaseProperty, ReadersSeeUpdatesAndTruncationsWholeWhileSegmentsChange) {
  TempDir dir;
  const auto db = OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  constexpr int64_t kBatchKeys = 120;  // More than a growing segment has.
  const std::vector<float> vector(kDim, 1.0F);
  const auto batch_of = [&](int64_t generation) {
    std::vector<RecordInput> batch;
    for (int64_t key = 0; key < kBatchKeys; ++key) {
      batch.push_back(MakeRecord(key, generation, vector));
    }
    return batch;
  };
  std::atomic<bool> stop{false};
  std::atomic<int> violations{0};
  std::atomic<int> full_reads{0};
  const auto check = [&](const std::vector<int64_t>& generations) {
    const std::set<int64_t> distinct(generations.begin(), generations.end());
    const bool whole = generations.size() == kBatchKeys && distinct.size() == 1;
    if (!whole && !generations.empty()) violations.fetch_add(1);
    if (whole) full_reads.fetch_add(1);
  };
  const auto generation_of = [](const RecordOutput& record) {
    return std::get<int64_t>(record.fields.at("n").data);
  };
  std::thread by_query([&] {
    while (!stop.load()) {
      std::vector<int64_t> seen;
      const auto result = db->Query("c", {}, 1000, {}, kNoCancel);
      for (const auto& record : result->records) seen.push_back(generation_of(record));
      check(seen);
    }
  });
  std::thread by_search([&] {
    while (!stop.load()) {
      std::vector<int64_t> seen;
      const auto result = db->Search("c", vector, {.limit = 1000}, kNoCancel);
      for (const auto& hit : result->queries[0].hits) seen.push_back(generation_of(hit.record));
      check(seen);
    }
  });
  for (int64_t round = 0; round < 60; ++round) {
    ASSERT_OK(db->Insert("c", batch_of(2 * round), kNoCancel));
    auto change = batch_of(2 * round + 1);
    for (RecordInput& record : change) record.vectors.clear();
    ASSERT_OK(db->Update("c", std::move(change), MissingKeys::kRefuse, kNoCancel));
    ASSERT_OK(db->TruncateCollection("c", kNoCancel));
  }
  ASSERT_OK(db->Insert("c", batch_of(1000), kNoCancel));
  while (full_reads.load() == 0) std::this_thread::yield();
  stop.store(true);
  by_query.join();
  by_search.join();
  EXPECT_EQ(violations.load(), 0);
}

// Goal: no write is lost between concurrent writers. Method: threads add one to counters by reading
// a record and writing it back under if_version, again after each refusal; in the end the counters
// have all that was added, although segments are built and merged below and the last word on each
// record moves from row to row.
TEST(DatabaseProperty, ConditionalWritesOfManyThreadsLoseNothing) {
  TempDir dir;
  const auto db = OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  constexpr int64_t kCounters = 6;
  constexpr int kThreads = 4;
  constexpr int kAdditions = 120;
  const std::vector<float> vector(kDim, 1.0F);
  for (int64_t key = 0; key < kCounters; ++key) {
    ASSERT_OK(db->Insert("c", {MakeRecord(key, 0, vector)}, kNoCancel));
  }
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random(static_cast<uint64_t>(thread));
      for (int done = 0; done < kAdditions;) {
        const std::vector<Key> key = {Key{static_cast<int64_t>(random() % kCounters)}};
        const auto got = db->Get("c", key, {}, kNoCancel);
        ASSERT_OK(got);
        const RecordOutput& record = got->records.at(0);
        RecordInput change;
        change.key = key[0];
        change.fields.push_back({"n", Value{std::get<int64_t>(record.fields.at("n").data) + 1}});
        change.if_version = record.version;
        const auto result = db->Update("c", {std::move(change)}, MissingKeys::kRefuse, kNoCancel);
        if (result.ok()) {
          ++done;
        } else {
          ASSERT_EQ(result.status().code(), absl::StatusCode::kAborted) << result.status();
          refused.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK_AND_ASSIGN(const QueryResult result, db->Query("c", {}, 100, {}, kNoCancel));
  int64_t sum = 0;
  for (const auto& record : result.records) {
    sum += std::get<int64_t>(record.fields.at("n").data);
  }
  EXPECT_EQ(sum, kThreads * kAdditions) << "refused " << refused.load();
}

}  // namespace
}  // namespace azimuth::engine
