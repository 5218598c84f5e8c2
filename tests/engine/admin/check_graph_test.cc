// Whether a graph is good is no matter of how hard its data is to search.
#include "engine/admin/check_graph.h"

#include "engine/admin/verify.h"
#include "tests/engine/manual_database.h"
#include "tests/support/sanitized.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using testing::MakeRecord;

const CancelToken kNoCancel{};

class CheckGraphTest : public testing::ManualDatabaseTest {
 protected:
  static constexpr int64_t kRows = 12'000;
  static constexpr uint32_t kDim = 256;

  // One segment file of rows in which no direction says anything.
  void MakeRandom(const IndexOptions& index) {
    options_.growing_rows_max = 1 << 16;
    Reopen();
    Schema schema = testing::SmallSchema(kDim);
    schema.vectors[0].index = index;
    ASSERT_OK(db_->CreateCollection("c", schema, false, kNoCancel));
    std::mt19937_64 random(5);
    std::normal_distribution<float> normal;
    vectors_.resize(kRows);
    for (int64_t first = 0; first < kRows; first += 1000) {
      std::vector<RecordInput> records;
      for (int64_t key = first; key < first + 1000; ++key) {
        std::vector<float>& vector = vectors_[static_cast<size_t>(key)];
        vector.resize(kDim);
        for (float& x : vector) x = normal(random);
        records.push_back(MakeRecord(key, key, vector));
      }
      ASSERT_OK(db_->Upsert("c", std::move(records), kNoCancel));
    }
    Settle();
  }

  std::vector<std::vector<float>> vectors_;
};

TEST_F(CheckGraphTest, AGoodOneOfRandomVectorsIsNoFinding) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << "a statistic; runs without sanitizers";
  MakeRandom({});
  // So hard that a walk as narrow as that of a search misses more than a bad graph may.
  int missed = 0;
  int asked = 0;
  for (int64_t key = 0; key < kRows; key += kRows / 100) {
    ++asked;
    ASSERT_OK_AND_ASSIGN(const SearchResult result,
                         db_->Search("c", vectors_[static_cast<size_t>(key)],
                                     {.limit = 1, .ef = kSelfEfMin}, kNoCancel));
    if (std::get<int64_t>(result.queries[0].hits.at(0).record.key) != key) ++missed;
  }
  EXPECT_GT(missed, asked / 8);
  ASSERT_OK_AND_ASSIGN(const VerifyReport report, db_->Verify("c", false, kNoCancel));
  EXPECT_TRUE(report.graph_nodes + 100 >= static_cast<uint64_t>(kRows));
  for (const Finding& finding : report.findings) ADD_FAILURE() << finding.message;
}

}  // namespace
}  // namespace azimuth::engine
