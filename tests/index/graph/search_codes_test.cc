// Searches by codes: what they find, and what they measure again.
#include "index/codes/coded_vectors.h"
#include "index/graph/search.h"
#include "tests/index/codes/coded.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

namespace azimuth::index {
namespace {

using testing::BruteForce;
using testing::Clustered;
using testing::CodeKind;
using testing::kCodeKinds;
using testing::kMetrics;
using testing::NameOf;
using testing::Searchable;
using testing::Vectors;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kCount = 3000;
constexpr size_t kDim = 48;
constexpr size_t kQueries = 60;

// Distances of vectors, each changed by at most `error`, and how many were asked for.
class Blurred final : public NodeDistances {
 public:
  Blurred(const NodeDistances& exact, float error) : exact_(exact), error_(error) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    exact_.Compute(nodes, count, out);
    for (size_t i = 0; i < count; ++i) {
      const float share = static_cast<float>(nodes[i] * 2654435761U) / 4294967296.0F;
      out[i] += error_ * (2 * share - 1);
    }
    asked_ += count;
  }
  size_t asked() const { return asked_; }

 private:
  const NodeDistances& exact_;
  float error_;
  mutable size_t asked_ = 0;
};

class SearchByCodes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    vectors_ = std::make_unique<Vectors>(Clustered(kCount, kDim, 1));
    queries_ = std::make_unique<Vectors>(Clustered(kQueries, kDim, 2));
    searchable_ = std::make_unique<Searchable>(*vectors_, Metric::kL2);
  }
  static void TearDownTestSuite() {
    searchable_.reset();
    queries_.reset();
    vectors_.reset();
  }

  static VectorDistances Exact(size_t q) {
    return {searchable_->nodes(), searchable_->kernels, queries_->row(q)};
  }
  GraphSearchResult Search(const NodeDistances& codes, const NodeDistances& vectors, size_t ef,
                           size_t k, const RescoreOptions& rescore, float bound = kInfinity) {
    GraphSearchOptions options;
    options.ef = ef;
    options.node_to_position = searchable_->order.data();
    top_.Reset(k, nullptr, bound);
    const auto result = SearchGraphByCodes(searchable_->graph, codes, vectors, options, rescore,
                                           top_, scratch_, CancelToken());
    EXPECT_OK(result);
    return *result;
  }
  std::vector<uint32_t> Positions() {
    std::vector<uint32_t> positions;
    for (const Neighbor& neighbor : top_.Sorted()) positions.push_back(neighbor.position);
    return positions;
  }

  static std::unique_ptr<Vectors> vectors_;
  static std::unique_ptr<Vectors> queries_;
  static std::unique_ptr<Searchable> searchable_;
  TopK top_;
  GraphScratch scratch_;
};

std::unique_ptr<Vectors> SearchByCodes::vectors_;
std::unique_ptr<Vectors> SearchByCodes::queries_;
std::unique_ptr<Searchable> SearchByCodes::searchable_;

TEST_F(SearchByCodes, FindsTheNearestAtTheirExactDistances) {
  for (const Metric metric : kMetrics) {
    Vectors vectors = *vectors_;
    Vectors queries = *queries_;
    for (Vectors* all : {&vectors, &queries}) {
      for (size_t i = 0; metric == Metric::kCosine && i < all->count(); ++i) {
        NormalizeL2({all->data.data() + i * kDim, kDim});
      }
    }
    const Searchable searchable(vectors, metric);
    for (const CodeKind kind : kCodeKinds) {
      const std::vector<const float*> rows = searchable.rows.rows();
      const Quantizer quantizer =
          Quantizer::Train(metric, kDim, rows, {kind.bits, kind.transform, 1});
      const AlignedBytes bytes = EncodeVectors(quantizer, rows, testing::OneThread);
      ASSERT_OK_AND_ASSIGN(const CodedVectors codes,
                           CodedVectors::Open(metric, kDim, bytes.span()));
      size_t hits = 0;
      for (size_t q = 0; q < kQueries; ++q) {
        codes.EncodeQuery(queries.row(q), scratch_.query);
        GraphSearchOptions options;
        options.ef = 100;
        options.node_to_position = searchable.order.data();
        top_.Reset(10, nullptr);
        ASSERT_OK(SearchGraphByCodes(
            searchable.graph, CodeDistances(codes.rows(), codes.kernels(), scratch_.query.view()),
            VectorDistances(searchable.nodes(), searchable.kernels, queries.row(q)), options, {},
            top_, scratch_, CancelToken()));
        const auto expected = BruteForce(vectors, metric, queries.row(q), 10);
        ASSERT_EQ(top_.Sorted().size(), 10u);
        for (const Neighbor& neighbor : top_.Sorted()) {
          EXPECT_FLOAT_EQ(
              neighbor.distance,
              searchable.kernels.pair(queries.row(q), vectors.row(neighbor.position), kDim));
          hits += std::any_of(expected.begin(), expected.end(), [&](const Neighbor& near) {
            return near.position == neighbor.position;
          });
        }
      }
      EXPECT_GE(hits, static_cast<size_t>(0.93 * 10 * kQueries))
          << MetricName(metric) << ", " << NameOf(kind);
    }
  }
}

TEST_F(SearchByCodes, MeasuresAllAgainUnlessToldHowFarCodesErr) {
  for (size_t q = 0; q < kQueries; ++q) {
    const VectorDistances exact = Exact(q);
    const Blurred codes(exact, 20);
    const Blurred again(exact, 0);
    const GraphSearchResult result = Search(codes, again, 80, 10, {});
    EXPECT_EQ(again.asked(), 80u);
    EXPECT_EQ(result.distances_computed, codes.asked() + again.asked());
  }
}

// Nothing is lost as long as codes err by half of what is allowed at most: one that appears nearer,
// another one that appears farther.
TEST_F(SearchByCodes, StopsMeasuringWhereNothingCanBeNearer) {
  constexpr float kError = 4;
  size_t asked = 0;
  for (size_t q = 0; q < kQueries; ++q) {
    const VectorDistances exact = Exact(q);
    const Blurred codes(exact, kError);
    for (const size_t k : {1, 10, 50}) {
      Search(codes, exact, 200, k, {});
      const std::vector<uint32_t> all = Positions();
      const Blurred again(exact, 0);
      Search(codes, again, 200, k, {.least = k, .slack = kError});
      EXPECT_EQ(Positions(), all) << k;
      asked += again.asked();
    }
  }
  EXPECT_LT(asked, 3 * kQueries * 200 * 3 / 4);
}

TEST_F(SearchByCodes, MeasuresAsManyAgainAsItIsToldAndNoMore) {
  for (size_t q = 0; q < 10; ++q) {
    const VectorDistances exact = Exact(q);
    const auto asked = [&](const RescoreOptions& rescore, float bound = kInfinity) {
      const Blurred again(exact, 0);
      Search(exact, again, 100, 10, rescore, bound);
      return again.asked();
    };
    // What is measured is as it was said to be, so that those after the tenth are farther.
    EXPECT_EQ(asked({.least = 10, .slack = 0}), 10u);
    EXPECT_EQ(asked({.least = 37, .slack = 0}), 37u);
    EXPECT_EQ(asked({.least = 10, .most = 13, .slack = kInfinity}), 13u);
    EXPECT_EQ(asked({.least = 10, .most = 3, .slack = 0}), 3u);
    EXPECT_EQ(asked({.most = 0}), 0u);
    EXPECT_EQ(top_.size(), 0u);
    // Nothing is as near as what is known already.
    EXPECT_EQ(asked({.least = 0, .slack = 0}, -1), 0u);
    EXPECT_EQ(asked({.least = 10, .slack = 0}, -1), 10u);
  }
}

TEST_F(SearchByCodes, FindsAsASearchByVectorsIfCodesAreThem) {
  for (size_t q = 0; q < kQueries; ++q) {
    const VectorDistances exact = Exact(q);
    Search(exact, exact, 64, 10, {.least = 10, .slack = 0});
    const std::vector<uint32_t> by_codes = Positions();
    GraphSearchOptions options;
    options.ef = 64;
    options.node_to_position = searchable_->order.data();
    top_.Reset(10, nullptr);
    ASSERT_OK(SearchGraph(searchable_->graph, searchable_->nodes(), searchable_->kernels,
                          queries_->row(q), options, top_, scratch_, CancelToken()));
    EXPECT_EQ(Positions(), by_codes);
  }
}

// What is not a number when it is measured again.
class EveryOtherIsNot final : public NodeDistances {
 public:
  explicit EveryOtherIsNot(const NodeDistances& exact) : exact_(exact) {}
  void Compute(const uint32_t* nodes, size_t count, float* out) const override {
    exact_.Compute(nodes, count, out);
    for (size_t i = 0; i < count; ++i) {
      if (nodes[i] % 2 == 0) out[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }

 private:
  const NodeDistances& exact_;
};

TEST_F(SearchByCodes, LeavesOutWhatIsNotANumber) {
  for (size_t q = 0; q < kQueries; ++q) {
    const VectorDistances exact = Exact(q);
    Search(exact, EveryOtherIsNot(exact), 100, 10, {});
    ASSERT_EQ(top_.Sorted().size(), 10u);
    float last = 0;
    for (const Neighbor& neighbor : top_.Sorted()) {
      EXPECT_GE(neighbor.distance, last) << "not in order, or not a number";
      last = neighbor.distance;
    }
  }
}

TEST_F(SearchByCodes, PushesNothingIfAbandoned) {
  const VectorDistances exact = Exact(0);
  GraphSearchOptions options;
  options.ef = 100;
  options.distances_max = 50;
  top_.Reset(10, nullptr);
  ASSERT_OK_AND_ASSIGN(const GraphSearchResult result,
                       SearchGraphByCodes(searchable_->graph, exact, exact, options, {}, top_,
                                          scratch_, CancelToken()));
  EXPECT_TRUE(result.abandoned);
  EXPECT_EQ(top_.size(), 0u);
}

TEST_F(SearchByCodes, FindsOnlyWhatIsAdmitted) {
  Bitset admitted(kCount);
  for (size_t i = 0; i < kCount; i += 3) admitted.Set(i);
  const VectorDistances exact = Exact(0);
  const Blurred codes(exact, 4);
  GraphSearchOptions options;
  options.ef = 100;
  options.node_to_position = searchable_->order.data();
  options.admitted = &admitted;
  top_.Reset(10, nullptr);
  ASSERT_OK(SearchGraphByCodes(searchable_->graph, codes, exact, options, {.least = 10, .slack = 4},
                               top_, scratch_, CancelToken()));
  size_t hits = 0;
  const auto expected = BruteForce(*vectors_, Metric::kL2, queries_->row(0), 10, &admitted);
  for (const Neighbor& neighbor : top_.Sorted()) {
    EXPECT_TRUE(admitted.Test(neighbor.position));
    hits += neighbor.distance <= expected.back().distance + 1e-3F ? 1 : 0;
  }
  EXPECT_GE(hits, 9u);
}

}  // namespace
}  // namespace azimuth::index
