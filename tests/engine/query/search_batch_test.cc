// Batches on several threads: they answer as searches one by one do, fail as those do, and see one
// state of the collection.
#include "base/failpoint.h"
#include "base/mutex.h"
#include "engine/database.h"
#include "engine/worker_pool.h"
#include "tests/engine/open_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::testing::Each;
using testing::MakeRecord;
using testing::OpenOrDie;
using ::testing::SizeIs;
using testing::SmallOptions;
using testing::SmallSchema;

constexpr size_t kDim = 16;
constexpr int64_t kRows = 3000;
constexpr size_t kQueries = 300;
constexpr int kCompanions = 3;

const CancelToken kNoCancel;

// What has to be equal of two answers to one query.
struct Answer {
  std::vector<Key> keys;
  std::vector<float> distances;
  std::vector<float> scores;
  std::vector<Seq> versions;
  std::vector<ValueMap> fields;
  std::vector<std::map<std::string, std::vector<float>>> vectors;
  std::vector<uint64_t> work;
  friend bool operator==(const Answer&, const Answer&) = default;
};

Answer AnswerOf(const QueryHits& found) {
  Answer answer;
  for (const SearchHit& hit : found.hits) {
    answer.keys.push_back(hit.record.key);
    answer.distances.push_back(hit.distance);
    answer.scores.push_back(hit.score);
    answer.versions.push_back(hit.record.version);
    answer.fields.push_back(hit.record.fields);
    answer.vectors.push_back(hit.record.vectors);
  }
  const SearchWork& work = found.work;
  answer.work = {static_cast<uint64_t>(work.path), work.distances_computed, work.segments_by_graph,
                 work.segments_by_scan, work.rows_matching};
  return answer;
}

// With companions whatever the number of processors. One segment has a graph, another takes rows,
// and nothing changes them meanwhile.
class SearchBatchTest : public ::testing::Test {
 protected:
  SearchBatchTest() : options_(SmallOptions(dir_.path())) {
    options_.growing_rows_max = 1000;
    options_.growing_idle_ms = 600'000;
    options_.make_workers = [](int) { return std::make_unique<WorkerPool>(1, kCompanions); };
    db_ = OpenOrDie(options_);
  }
  ~SearchBatchTest() override { SetFailpointHook(Failpoint::kReadBeforeFetch, nullptr); }

  std::vector<float> RandomFloats(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> floats(count);
    for (float& value : floats) value = normal(random_);
    return floats;
  }
  void Fill(Metric metric) {
    ASSERT_OK(db_->CreateCollection("c", SmallSchema(kDim, metric), false, kNoCancel));
    const std::vector<float> points = RandomFloats(kRows * kDim);
    std::vector<RecordInput> records;
    for (int64_t key = 0; key < kRows; ++key) {
      RecordInput record;
      record.key = key;
      record.fields.push_back({"n", Value{key % 10}});
      record.vectors.push_back(
          {"v", std::span(points).subspan(static_cast<size_t>(key) * kDim, kDim)});
      records.push_back(std::move(record));
      if (key % 500 != 499) continue;
      ASSERT_OK(db_->Insert("c", std::exchange(records, {}), kNoCancel));
      if (key + 501 != kRows) continue;
      ASSERT_OK(db_->Optimize(
          "c", [](const OptimizeProgress&) { return absl::OkStatus(); }, kNoCancel));
    }
    std::vector<Key> deleted;
    for (int64_t key = 0; key < kRows; key += 37) deleted.emplace_back(key);
    ASSERT_OK(db_->DeleteKeys("c", std::move(deleted), kNoCancel));
  }
  std::vector<SearchSpec> Specs() {
    SearchSpec by_recall{.limit = 10};
    by_recall.projection.fields = std::vector<std::string>{};
    SearchSpec with_fields{.limit = 5, .ef = 40};
    with_fields.projection.vectors = {"v"};
    SearchSpec filtered{.limit = 20, .filter = {"n < 4", {}}};
    SearchSpec exact{.limit = 30, .exact = true};
    exact.projection.fields = std::vector<std::string>{"n"};
    return {by_recall, with_fields, filtered, exact};
  }

  // Threads that have fetched hits. That of the request, the first to do so, takes its time for the
  // first query, and goes on past the second one only once another thread has answered some.
  class Watch {
   public:
    Watch() {
      SetFailpointHook(Failpoint::kReadBeforeFetch, [this] { return Visit(); });
    }
    ~Watch() { SetFailpointHook(Failpoint::kReadBeforeFetch, nullptr); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    size_t threads() {
      MutexLock lock(mu_);
      return threads_.size();
    }
    // Other threads than that of the request fail from now on.
    void FailCompanions() { fails_ = true; }

   private:
    absl::Status Visit() {
      MutexLock lock(mu_);
      const auto self = std::this_thread::get_id();
      const auto now = std::chrono::steady_clock::now();
      const bool first = threads_.empty();
      if (first) request_ = self;
      threads_.insert(self);
      another_.NotifyAll();
      if (self != request_) {
        return fails_ ? absl::UnavailableError("of a companion") : absl::OkStatus();
      }
      if (first) {
        while (another_.WaitUntil(mu_, now + std::chrono::milliseconds(2))) {
        }
        return absl::OkStatus();
      }
      while (threads_.size() < 2 && !gave_up_) {
        gave_up_ = !another_.WaitUntil(mu_, now + std::chrono::seconds(20));
      }
      return absl::OkStatus();
    }

    std::atomic<bool> fails_{false};
    Mutex mu_;
    CondVar another_;
    std::set<std::thread::id> threads_ AZ_GUARDED_BY(mu_);
    std::thread::id request_ AZ_GUARDED_BY(mu_);
    bool gave_up_ AZ_GUARDED_BY(mu_) = false;
  };

  ::azimuth::testing::TempDir dir_;
  DatabaseOptions options_;
  std::unique_ptr<Database> db_;
  std::mt19937_64 random_{11};  // NOLINT(cert-msc51-cpp): the same rows in each run.
};

TEST_F(SearchBatchTest, AnswersAsOneByOne) {
  for (const Metric metric : {Metric::kL2, Metric::kCosine, Metric::kIp}) {
    ASSERT_NO_FATAL_FAILURE(Fill(metric));
    const std::vector<float> queries = RandomFloats(kQueries * kDim);
    for (const SearchSpec& spec : Specs()) {
      Watch watch;
      ASSERT_OK_AND_ASSIGN(const SearchResult batch, db_->Search("c", queries, spec, kNoCancel));
      EXPECT_GE(watch.threads(), 2U) << "no companion took part";
      ASSERT_THAT(batch.queries, SizeIs(kQueries));
      for (size_t i = 0; i < kQueries; ++i) {
        const auto query = std::span(queries).subspan(i * kDim, kDim);
        ASSERT_OK_AND_ASSIGN(const SearchResult alone, db_->Search("c", query, spec, kNoCancel));
        ASSERT_THAT(alone.queries[0].hits, SizeIs(spec.limit));
        ASSERT_EQ(AnswerOf(batch.queries[i]), AnswerOf(alone.queries[0])) << "query " << i;
        ASSERT_EQ(batch.as_of, alone.as_of);
      }
    }
    ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  }
}

TEST_F(SearchBatchTest, FailsAsAWholeAndTheNextOneIsRight) {
  ASSERT_NO_FATAL_FAILURE(Fill(Metric::kL2));
  const std::vector<float> queries = RandomFloats(kQueries * kDim);
  const SearchSpec spec = Specs()[0];
  ASSERT_OK_AND_ASSIGN(const SearchResult before, db_->Search("c", queries, spec, kNoCancel));
  for (int round = 0; round < 5; ++round) {
    Watch watch;
    watch.FailCompanions();
    const auto failed = db_->Search("c", queries, spec, kNoCancel);
    EXPECT_EQ(failed.status(), absl::UnavailableError("of a companion"));
    EXPECT_GE(watch.threads(), 2U);
  }
  ASSERT_OK_AND_ASSIGN(const SearchResult after, db_->Search("c", queries, spec, kNoCancel));
  for (size_t i = 0; i < kQueries; ++i) {
    ASSERT_EQ(AnswerOf(after.queries[i]), AnswerOf(before.queries[i]));
  }
}

TEST_F(SearchBatchTest, NamesTheQueryThatIsWrong) {
  ASSERT_NO_FATAL_FAILURE(Fill(Metric::kCosine));
  std::vector<float> queries = RandomFloats(kQueries * kDim);
  queries[17 * kDim + 3] = std::numeric_limits<float>::quiet_NaN();
  queries[200 * kDim] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(
      db_->Search("c", queries, Specs()[0], kNoCancel).status(),
      absl::InvalidArgumentError("queries[17][3]: NaN or infinite; every element must be finite"));
}

TEST_F(SearchBatchTest, EndsSoonOnceItIsCancelled) {
  ASSERT_NO_FATAL_FAILURE(Fill(Metric::kL2));
  const std::vector<float> queries = RandomFloats(kQueries * kDim);
  Watch watch;
  // By the caller's client, as soon as there are companions.
  const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return watch.threads() >= 2; });
  EXPECT_EQ(db_->Search("c", queries, Specs()[0], cancel).status().code(),
            absl::StatusCode::kCancelled);
  const CancelToken late(std::chrono::steady_clock::now() + std::chrono::milliseconds(1), {});
  EXPECT_EQ(db_->Search("c", queries, Specs()[0], late).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SearchBatchTest, SeesOneStateWhileRowsComeAndGo) {
  ASSERT_NO_FATAL_FAILURE(Fill(Metric::kL2));
  // The same query again and again, and records near it that come and go.
  const std::vector<float> query = RandomFloats(kDim);
  std::vector<float> queries;
  for (size_t i = 0; i < kQueries; ++i) queries.insert(queries.end(), query.begin(), query.end());
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int64_t round = 0; !stop; ++round) {
      std::vector<RecordInput> records;
      for (int64_t i = 0; i < 5; ++i) records.push_back(MakeRecord(10'000 + i, round, query));
      EXPECT_OK(db_->Upsert("c", std::move(records), kNoCancel));
      EXPECT_OK(db_->DeleteKeys("c", {Key(10'000 + round % 5)}, kNoCancel));
    }
  });
  SearchSpec spec{.limit = 10};
  size_t threads = 0;
  std::set<Seq> states;
  for (int round = 0; round < 30; ++round) {
    Watch watch;
    const auto batch = db_->Search("c", queries, spec, kNoCancel);
    EXPECT_OK(batch);
    if (!batch.ok()) break;
    std::vector<Answer> answers;
    for (const QueryHits& found : batch->queries) answers.push_back(AnswerOf(found));
    EXPECT_THAT(answers, Each(answers[0]));
    threads = std::max(threads, watch.threads());
    states.insert(batch->as_of);
  }
  stop = true;
  writer.join();
  EXPECT_GE(threads, 2U);
  EXPECT_GE(states.size(), 2U) << "nothing was written meanwhile";
}

TEST_F(SearchBatchTest, SeveralAtATimeAnswerAsOne) {
  ASSERT_NO_FATAL_FAILURE(Fill(Metric::kL2));
  const std::vector<float> queries = RandomFloats(kQueries * kDim);
  const SearchSpec spec = Specs()[3];
  ASSERT_OK_AND_ASSIGN(const SearchResult before, db_->Search("c", queries, spec, kNoCancel));
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        const auto batch = db_->Search("c", queries, spec, kNoCancel);
        ASSERT_OK(batch);
        for (size_t q = 0; q < kQueries; ++q) {
          ASSERT_EQ(AnswerOf(batch->queries[q]), AnswerOf(before.queries[q]));
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace azimuth::engine
