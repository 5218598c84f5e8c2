// A binary of its own: allocation_counter.cc replaces operator new for all of it.
#include "engine/query/search.h"
#include "tests/engine/manual_database.h"
#include "tests/index/graph/allocation_counter.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using index::testing::AllocationCount;
using testing::MakeRecord;
using testing::ManualDatabaseTest;
using testing::OpenOrDie;
using testing::SmallSchema;

constexpr size_t kDim = 16;
constexpr uint32_t kLimit = 10;
// The list of the answers of a search, and the list of the hits of one.
constexpr uint64_t kOfTheResult = 2;

const CancelToken kNoCancel;

class SearchAllocationTest : public ManualDatabaseTest {
 protected:
  SearchAllocationTest() {
    options_.growing_rows_max = 10'000;
    db_.reset();
    db_ = OpenOrDie(options_);
  }

  std::vector<float> RandomPoint() {
    std::normal_distribution<float> normal;
    std::vector<float> point(kDim);
    for (float& value : point) value = normal(random_);
    return point;
  }
  void Add(int64_t rows) {
    std::vector<std::vector<float>> points;
    for (int64_t i = 0; i < rows; ++i) points.push_back(RandomPoint());
    std::vector<RecordInput> records;
    for (const auto& point : points) records.push_back(MakeRecord(keys_++, 0, point));
    ASSERT_OK(db_->Insert("c", std::move(records), kNoCancel));
  }
  // The most of searches that are warm.
  uint64_t Allocations(const SearchSpec& spec, size_t queries) {
    std::vector<float> floats;
    for (size_t i = 0; i < queries; ++i) {
      const std::vector<float> point = RandomPoint();
      floats.insert(floats.end(), point.begin(), point.end());
    }
    uint64_t most = 0;
    for (int round = 0; round < 20; ++round) {
      const uint64_t before = AllocationCount();
      const auto found = db_->Search("c", floats, spec, kNoCancel);
      const uint64_t after = AllocationCount();
      EXPECT_OK(found);
      if (!found.ok()) return UINT64_MAX;
      for (const QueryHits& hits : found->queries) EXPECT_EQ(hits.hits.size(), spec.limit);
      paths_.push_back(found->queries[0].work.path);
      if (round >= 5) most = std::max(most, after - before);
    }
    return most;
  }
  static SearchSpec Spec() {
    SearchSpec spec;
    spec.limit = kLimit;
    spec.projection.fields = std::vector<std::string>{};
    return spec;
  }

  std::mt19937_64 random_{5};  // NOLINT(cert-msc51-cpp): the same rows in each run.
  int64_t keys_ = 0;
  std::vector<SearchPath> paths_;
};

TEST_F(SearchAllocationTest, AWarmSearchAllocatesItsAnswerAndNoMore) {
  for (const Metric metric : {Metric::kL2, Metric::kCosine, Metric::kIp}) {
    SCOPED_TRACE(static_cast<int>(metric));
    ASSERT_OK(db_->CreateCollection("c", SmallSchema(kDim, metric), false, kNoCancel));
    ASSERT_NO_FATAL_FAILURE(Add(5'000));
    Settle();
    EXPECT_EQ(Allocations(Spec(), 1), kOfTheResult);
    EXPECT_EQ(paths_.back(), SearchPath::kGraph);
    // Rows without a graph beside, and some that are deleted.
    ASSERT_NO_FATAL_FAILURE(Add(300));
    std::vector<Key> deleted;
    for (int64_t key = 0; key < 100; ++key) deleted.emplace_back(keys_ - 1 - 51 * key);
    ASSERT_OK(db_->DeleteKeys("c", std::move(deleted), kNoCancel));
    EXPECT_EQ(Allocations(Spec(), 1), kOfTheResult);
    EXPECT_EQ(paths_.back(), SearchPath::kMixed);
    SearchSpec exact = Spec();
    exact.exact = true;
    EXPECT_EQ(Allocations(exact, 1), kOfTheResult);
    EXPECT_EQ(paths_.back(), SearchPath::kScan);
    ASSERT_OK(db_->DropCollection("c", false, kNoCancel));
  }
}

TEST_F(SearchAllocationTest, ABatchAllocatesAListOfHitsForEachQuery) {
  ASSERT_OK(db_->CreateCollection("c", SmallSchema(kDim), false, kNoCancel));
  ASSERT_NO_FATAL_FAILURE(Add(5'000));
  Settle();
  const uint64_t few = Allocations(Spec(), 10);
  EXPECT_EQ(Allocations(Spec(), 110) - few, 100U);
}

}  // namespace
}  // namespace azimuth::engine
