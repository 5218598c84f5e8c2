// Rows that are held out, and their true neighbours, which codes help to find where they are good.
#include "index/graph/calibration_queries.h"

#include "tests/index/graph/calibrated.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::Clustered;
using testing::CodeKind;
using testing::kCodeKinds;
using testing::kMetrics;
using testing::NameOf;
using testing::NormalVectors;
using testing::OneThread;
using testing::TwoHeaps;
using testing::Vectors;

// Rows as codes, in memory.
struct Coded {
  Coded(const Vectors& vectors, Metric metric, CodeKind kind)
      : bytes(EncodeVectors(
            Quantizer::Train(metric, vectors.dim, vectors.rows(), {kind.bits, kind.transform, 1}),
            vectors.rows(), OneThread)) {
    auto opened = CodedVectors::Open(metric, vectors.dim, bytes.span());
    AZ_CHECK(opened.ok());
    codes.emplace(*std::move(opened));
  }
  AlignedBytes bytes;
  std::optional<CodedVectors> codes;
};

std::vector<uint32_t> EveryNth(size_t count, size_t n) {
  std::vector<uint32_t> nodes;
  for (size_t i = n / 2; i < count; i += n) nodes.push_back(static_cast<uint32_t>(i));
  return nodes;
}

std::vector<CalibrationQuery> Find(const Vectors& vectors, Metric metric,
                                   const std::vector<uint32_t>& held_out, const CodedVectors* codes,
                                   const ParallelFor& parallel = OneThread) {
  const auto found = FindCalibrationQueries(held_out, codes, vectors.rows(), metric, vectors.dim,
                                            parallel, CancelToken());
  EXPECT_OK(found);
  return found.ok() ? *found : std::vector<CalibrationQuery>();
}

// The share of the true neighbours among the others that are found.
double Share(const Vectors& vectors, Metric metric, const std::vector<uint32_t>& held_out,
             const std::vector<CalibrationQuery>& found) {
  Bitset others(vectors.count());
  for (size_t i = 0; i < vectors.count(); ++i) others.Set(i);
  for (const uint32_t node : held_out) others.Clear(node);
  size_t hits = 0;
  size_t all = 0;
  EXPECT_EQ(found.size(), held_out.size());
  for (size_t q = 0; q < found.size(); ++q) {
    EXPECT_EQ(found[q].node, held_out[q]);
    const float* const query = vectors.row(found[q].node);
    const std::vector<Neighbor> expected = BruteForce(vectors, metric, query, 100, &others);
    EXPECT_EQ(found[q].nearest.size(), expected.size());
    std::set<uint32_t> nodes;
    for (size_t i = 0; i < found[q].nearest.size(); ++i) {
      const Neighbor& near = found[q].nearest[i];
      EXPECT_TRUE(i == 0 || found[q].nearest[i - 1].distance <= near.distance);
      EXPECT_TRUE(others.Test(near.position)) << "held out";
      EXPECT_TRUE(nodes.insert(near.position).second) << "twice";
      const float exact = KernelsFor(metric).pair(query, vectors.row(near.position), vectors.dim);
      EXPECT_EQ(near.distance, exact);
      const float bound = expected[i].distance;
      hits += near.distance <= bound + 1e-5F * std::abs(bound) + 1e-6F ? 1 : 0;
    }
    all += expected.size();
  }
  return static_cast<double>(hits) / static_cast<double>(all);
}

TEST(CalibrationQueries, AreFewOfFewRows) {
  const std::pair<size_t, uint32_t> cases[] = {
      {0, 0},       {1, 0},       {3, 0},       {4, 1},        {100, 25},
      {127, 31},    {128, 32},    {1760, 32},   {1815, 33},    {5500, 100},
      {27500, 500}, {27499, 499}, {40000, 500}, {1 << 30, 500}};
  for (const auto& [rows, expected] : cases) {
    EXPECT_EQ(CalibrationQueryCount(rows), expected) << rows;
  }
}

TEST(CalibrationQueries, HaveTheNeighboursOfBruteForce) {
  for (const Metric metric : kMetrics) {
    Vectors vectors = Clustered(2500, 24, 1);
    for (size_t i = 0; metric == Metric::kCosine && i < vectors.count(); ++i) {
      NormalizeL2({vectors.data.data() + i * 24, 24});
    }
    const std::vector<uint32_t> held_out = EveryNth(2500, 40);
    EXPECT_EQ(Share(vectors, metric, held_out, Find(vectors, metric, held_out, nullptr)), 1);
    for (const CodeKind kind : kCodeKinds) {
      const Coded coded(vectors, metric, kind);
      EXPECT_GE(Share(vectors, metric, held_out, Find(vectors, metric, held_out, &*coded.codes)),
                0.995)
          << MetricName(metric) << ", " << NameOf(kind);
    }
  }
}

// By which any rows of a heap are as near as others: all are measured.
TEST(CalibrationQueries, HaveThemWithHopelessCodesToo) {
  const Vectors vectors = TwoHeaps(2500, 24);
  const std::vector<uint32_t> held_out = EveryNth(2500, 40);
  for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1]}) {
    const Coded coded(vectors, Metric::kL2, kind);
    EXPECT_EQ(
        Share(vectors, Metric::kL2, held_out, Find(vectors, Metric::kL2, held_out, &*coded.codes)),
        1)
        << NameOf(kind);
  }
}

TEST(CalibrationQueries, OfFewOtherRowsHaveAll) {
  for (const size_t count : {2, 3, 50, 130}) {
    const Vectors vectors = Clustered(count, 24, 1);
    const std::vector<uint32_t> held_out = EveryNth(count, 2);
    EXPECT_EQ(Share(vectors, Metric::kL2, held_out, Find(vectors, Metric::kL2, held_out, nullptr)),
              1);
    const Coded coded(vectors, Metric::kL2, kCodeKinds[0]);
    EXPECT_EQ(
        Share(vectors, Metric::kL2, held_out, Find(vectors, Metric::kL2, held_out, &*coded.codes)),
        1);
  }
  EXPECT_TRUE(Find(Clustered(50, 24, 1), Metric::kL2, {}, nullptr).empty());
  // Of all rows: none has a neighbour.
  const Vectors vectors = Clustered(4, 24, 1);
  for (const CalibrationQuery& query : Find(vectors, Metric::kL2, {0, 1, 2, 3}, nullptr)) {
    EXPECT_TRUE(query.nearest.empty());
  }
}

TEST(CalibrationQueries, AreNotOfRowsThatAreNotFinite) {
  Vectors vectors = Clustered(500, 24, 1);
  const std::vector<uint32_t> held_out = EveryNth(500, 20);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(), -FLT_MAX};
  for (size_t i = 0; i < std::size(bad); ++i) {
    vectors.data[held_out[i] * 24 + 3] = bad[i];
    vectors.data[(held_out[i] + 1) * 24 + 3] = bad[i];
  }
  const std::vector<CalibrationQuery> found = Find(vectors, Metric::kL2, held_out, nullptr);
  ASSERT_EQ(found.size(), held_out.size() - 2);
  EXPECT_EQ(found[0].node, held_out[2]);
  for (const CalibrationQuery& query : found) {
    for (const Neighbor& near : query.nearest) {
      EXPECT_FALSE(std::isnan(near.distance));
      EXPECT_NE(near.position, held_out[0] + 1);
    }
  }
}

TEST(CalibrationQueries, AreTheSameWhoeverFindsThem) {
  const Vectors vectors = Clustered(1500, 24, 1);
  const std::vector<uint32_t> held_out = EveryNth(1500, 20);
  const Coded coded(vectors, Metric::kL2, kCodeKinds[1]);
  const ParallelFor backwards = [](size_t count, const std::function<void(size_t)>& body) {
    for (size_t i = count; i > 0; --i) body(i - 1);
  };
  for (const CodedVectors* codes : {static_cast<const CodedVectors*>(nullptr), &*coded.codes}) {
    const auto expected = Find(vectors, Metric::kL2, held_out, codes);
    for (const ParallelFor& parallel : {ParallelFor(testing::FourThreads), backwards}) {
      const auto found = Find(vectors, Metric::kL2, held_out, codes, parallel);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t q = 0; q < found.size(); ++q) {
        EXPECT_EQ(found[q].node, expected[q].node);
        EXPECT_TRUE(std::ranges::equal(
            found[q].nearest, expected[q].nearest, [](const Neighbor& a, const Neighbor& b) {
              return a.distance == b.distance && a.position == b.position;
            }));
      }
    }
  }
}

TEST(CalibrationQueries, StopWhenCancelled) {
  const Vectors vectors = Clustered(3000, 24, 1);
  const std::vector<uint32_t> held_out = EveryNth(3000, 30);
  const Coded coded(vectors, Metric::kL2, kCodeKinds[0]);
  for (const CodedVectors* codes : {static_cast<const CodedVectors*>(nullptr), &*coded.codes}) {
    for (const int looks : {0, 1, 20}) {
      std::atomic<int> asked = 0;
      const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return asked++ >= looks; });
      EXPECT_THAT(FindCalibrationQueries(held_out, codes, vectors.rows(), Metric::kL2, 24,
                                         testing::FourThreads, cancel),
                  StatusIs(absl::StatusCode::kCancelled))
          << looks;
    }
  }
}

}  // namespace
}  // namespace azimuth::index
