// What a calibration promises, held against queries that it did not see.
#include "index/graph/calibration.h"

#include "tests/index/graph/calibrated.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::Calibrated;
using testing::Clustered;
using testing::CodeKind;
using testing::Data;
using testing::ExpectMonotone;
using testing::kCodeKinds;
using testing::kLimits;
using testing::kRecalls;
using testing::Make;
using testing::NameOf;
using testing::NormalVectors;
using testing::Queries;
using testing::Searchable;
using testing::Searched;
using testing::TwoHeaps;
using testing::Vectors;

TEST(Calibration, SearchesReachTheRecallThatIsAskedFor) {
  for (const Data data : {Data::kClustered, Data::kUniform}) {
    const size_t dim = data == Data::kClustered ? 32 : 16;
    const Vectors vectors = Make(data, 6000, dim, 1);
    const Queries queries(vectors, Metric::kL2, Make(data, 300, dim, 2));
    const auto graph = std::make_shared<Searchable>(vectors, Metric::kL2);
    std::vector<std::optional<CodeKind>> kinds(std::begin(kCodeKinds), std::end(kCodeKinds));
    kinds.push_back(std::nullopt);
    for (const auto& kind : kinds) {
      const Calibrated calibrated(graph, Metric::kL2, kind);
      const std::string name = std::string(data == Data::kClustered ? "clustered, " : "uniform, ") +
                               (kind.has_value() ? NameOf(*kind) : "no codes");
      ExpectMonotone(calibrated.calibration);
      for (const double recall : kRecalls) {
        for (const uint32_t limit : kLimits) {
          const Searched searched =
              calibrated.Search(graph->graph, queries, calibrated.EffortFor(recall, limit), limit);
          // 80 rows are asked for their neighbours, and no more is spent than they need.
          const double deviation = std::sqrt(searched.variance / 80);
          EXPECT_GE(searched.recall, recall - 0.01 - 2.5 * deviation)
              << name << ": " << recall << " for " << limit << " at width "
              << calibrated.calibration.Ef(recall, limit);
        }
      }
      // And not by walks that are as wide as can be.
      EXPECT_LT(calibrated.calibration.Ef(0.8, 10), 200u) << name;
      EXPECT_LT(calibrated.calibration.Ef(0.8, 10), calibrated.calibration.Ef(0.99, 10)) << name;
    }
  }
}

TEST(Calibration, WorksForEveryMetric) {
  for (const Metric metric : {Metric::kIp, Metric::kCosine}) {
    const Vectors vectors = NormalVectors(4000, 24, 1, metric);
    const Queries queries(vectors, metric, NormalVectors(200, 24, 2, metric));
    const auto graph = std::make_shared<Searchable>(vectors, metric);
    for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1], kCodeKinds[3], kCodeKinds[5]}) {
      const Calibrated calibrated(graph, metric, kind);
      EXPECT_GT(calibrated.calibration.errors()[0], 0);
      for (const double recall : {0.9, 0.95}) {
        EXPECT_GE(calibrated.RecallOf(queries, recall, 10), recall - 0.03)
            << MetricName(metric) << ", " << NameOf(kind);
      }
    }
  }
}

// Which is why codes of 4 bits have more to measure again.
TEST(Calibration, KnowsThatCoarserCodesErrMore) {
  const Vectors vectors = Clustered(3000, 32, 1);
  const Calibrated eight(vectors, Metric::kL2, kCodeKinds[0]);
  const Calibrated four(vectors, Metric::kL2, kCodeKinds[1]);
  EXPECT_GT(eight.calibration.errors()[0], 0);
  EXPECT_GT(four.calibration.errors()[0], 3 * eight.calibration.errors()[0]);
  for (size_t i = 1; i < Calibration::kErrorShares.size(); ++i) {
    EXPECT_LT(four.calibration.errors()[i], four.calibration.errors()[i - 1]);
    EXPECT_GE(four.calibration.errors()[i], eight.calibration.errors()[i]);
  }
  const RescoreOptions rescore = Calibration::Rescore(10, four.calibration.errors()[1], 2);
  EXPECT_EQ(rescore.least, 10u);
  EXPECT_FLOAT_EQ(rescore.slack, 2 * four.calibration.errors()[1]);
  const Calibration none = Calibrated(vectors, Metric::kL2, std::nullopt).calibration;
  EXPECT_EQ(none.errors(), Calibration::Errors());
}

// Few queries are no reason for walks that are as wide as the graph.
TEST(Calibration, ASmallGraphIsWalkedNarrowly) {
  const Vectors vectors = Clustered(1000, 32, 1);
  const Queries queries(vectors, Metric::kL2, Clustered(300, 32, 2));
  const auto graph = std::make_shared<Searchable>(vectors, Metric::kL2);
  for (const auto& kind : {std::optional<CodeKind>(kCodeKinds[0]),
                           std::optional<CodeKind>(kCodeKinds[1]), std::optional<CodeKind>()}) {
    const Calibrated calibrated(graph, Metric::kL2, kind);
    EXPECT_TRUE(calibrated.calibration.Reaches(0.99));
    EXPECT_LE(calibrated.calibration.Ef(0.95, 1), 60u);
    EXPECT_LE(calibrated.calibration.Ef(0.95, 10), 100u);
    EXPECT_LE(calibrated.calibration.Ef(0.99, 10), 200u);
    for (const uint32_t limit : {1U, 10U}) {
      EXPECT_GE(calibrated.RecallOf(queries, 0.95, limit), 0.92) << limit;
    }
  }
}

// What a walk by codes finds is what the codes say, but not the nearest.
TEST(Calibration, CodesThatSayNothingReachNothing) {
  const Vectors vectors = TwoHeaps(4000, 32);
  const auto graph = std::make_shared<Searchable>(vectors, Metric::kL2);
  for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1]}) {
    const Calibration coded = Calibrated(graph, Metric::kL2, kind).calibration;
    EXPECT_FALSE(coded.Reaches(0.9)) << NameOf(kind);
    EXPECT_LT(coded.points().back().recall[0][1], 0.9F) << NameOf(kind);
  }
  EXPECT_TRUE(Calibrated(graph, Metric::kL2, std::nullopt).calibration.Reaches(0.985));
}

TEST(Calibration, ADefaultOneGuessesAndMeasuresAllAgain) {
  const Calibration none;
  ExpectMonotone(none);
  EXPECT_EQ(none.Ef(0.95, 1), 64u);
  EXPECT_EQ(none.Ef(0.95, 10), 64u);
  EXPECT_EQ(none.Ef(0.95, 100), 200u);
  EXPECT_EQ(none.Ef(0.95, 1000), 2000u);
  // Nor less than the limit, however large.
  EXPECT_EQ(none.Ef(0.95, 32768), 32768u);
  EXPECT_EQ(none.Ef(0.95, 100000), 100000u);
  const Calibration::Effort effort = none.EffortFor(0.95, 10, 64, 256);
  EXPECT_EQ(effort.ef, 64u);
  const RescoreOptions rescore = Calibration::Rescore(10, effort.error, 1);
  EXPECT_EQ(rescore.least, 10u);
  EXPECT_EQ(rescore.slack, std::numeric_limits<float>::infinity());
  EXPECT_EQ(none.Cost(64, 256), std::numeric_limits<double>::infinity());
}

TEST(Calibration, OfSmallGraphs) {
  for (const auto& kind : {std::optional<CodeKind>(kCodeKinds[1]), std::optional<CodeKind>()}) {
    for (const size_t count : {1, 2, 3, 4, 50, 101}) {
      const Vectors vectors = Clustered(count, 8, 1);
      const Calibrated calibrated(vectors, Metric::kL2, kind);
      ExpectMonotone(calibrated.calibration);
      // Of less than four none is held out.
      EXPECT_EQ(calibrated.calibration.points().empty(), count < 4) << count;
      const Queries queries(vectors, Metric::kL2, Clustered(20, 8, 2));
      for (const uint32_t limit : {1U, 10U}) {
        if (limit > count) continue;
        EXPECT_GE(calibrated.RecallOf(queries, 0.95, limit), 0.85) << count;
      }
    }
  }
}

TEST(Calibration, OfNoNodes) {
  const auto calibration = Calibrate(FrozenGraph(), nullptr, {}, Metric::kL2, 8, {}, {},
                                     testing::OneThread, CancelToken());
  ASSERT_OK(calibration);
  EXPECT_TRUE(calibration->points().empty());
}

TEST(Calibration, OfDuplicatesOnly) {
  const Vectors one = Clustered(1, 16, 1);
  Vectors vectors{16, {}};
  for (int i = 0; i < 500; ++i) {
    vectors.data.insert(vectors.data.end(), one.data.begin(), one.data.end());
  }
  const Queries ones(vectors, Metric::kL2, one);
  for (const auto& kind : {std::optional<CodeKind>(kCodeKinds[0]),
                           std::optional<CodeKind>(kCodeKinds[3]), std::optional<CodeKind>()}) {
    const Calibrated calibrated(vectors, Metric::kL2, kind);
    ExpectMonotone(calibrated.calibration);
    // Any of them are the nearest.
    EXPECT_EQ(calibrated.calibration.points().front().recall[0][0], 1) << kind.has_value();
    EXPECT_EQ(calibrated.RecallOf(ones, 0.95, 10), 1);
  }
}

// Rows of which the sums overflow, both ways: their products are not numbers.
TEST(Calibration, OfRowsWhoseProductsAreNotNumbers) {
  Vectors vectors = Clustered(500, 16, 1);
  for (size_t i = 0; i < 500; i += 4) {
    vectors.data[i * 16 + 1] = 3e38F;
    vectors.data[i * 16 + 2] = i % 8 == 0 ? -3e38F : 3e38F;
    vectors.data[i * 16 + 3] = -3e38F;
  }
  for (const auto& kind : {std::optional<CodeKind>(kCodeKinds[1]), std::optional<CodeKind>()}) {
    for (const Metric metric : {Metric::kIp, Metric::kL2}) {
      const Calibrated calibrated(vectors, metric, kind);
      for (const Calibration::Point& point : calibrated.calibration.points()) {
        for (const Calibration::ByLimit& recalls : point.recall) {
          for (const float recall : recalls) EXPECT_TRUE(recall >= 0 && recall <= 1);
        }
      }
      for (const float error : calibrated.calibration.errors()) EXPECT_TRUE(std::isfinite(error));
      ExpectMonotone(calibrated.calibration);
    }
  }
}

TEST(Calibration, IsTheSameWhoeverMeasures) {
  const Vectors vectors = Clustered(2000, 32, 1);
  const Calibrated calibrated(vectors, Metric::kL2, kCodeKinds[1]);
  const std::string expected = calibrated.calibration.Save();
  const ParallelFor backwards = [](size_t count, const std::function<void(size_t)>& body) {
    for (size_t i = count; i > 0; --i) body(i - 1);
  };
  for (const ParallelFor& parallel : {ParallelFor(testing::FourThreads), backwards}) {
    ASSERT_OK_AND_ASSIGN(const Calibration other, calibrated.Measure({}, parallel, CancelToken()));
    EXPECT_EQ(other.Save(), expected);
  }
}

TEST(Calibration, StopsWhereRecallIsEnough) {
  const Vectors vectors = Clustered(2000, 32, 1);
  const Calibrated all(vectors, Metric::kL2, kCodeKinds[0]);
  const Calibrated some(vectors, Metric::kL2, kCodeKinds[0], {.recall_enough = 0.9F});
  ASSERT_FALSE(some.calibration.points().empty());
  EXPECT_LT(some.calibration.points().size(), all.calibration.points().size());
  for (size_t i = 0; i < some.calibration.points().size(); ++i) {
    const Calibration::Point& point = some.calibration.points()[i];
    EXPECT_EQ(point.ef, all.calibration.points()[i].ef);
    EXPECT_EQ(point.recall, all.calibration.points()[i].recall);
    EXPECT_GT(point.walked, 0);
    for (size_t error = 0; error < point.recall.size(); ++error) {
      for (size_t column = 0; column < std::size(kLimits); ++column) {
        EXPECT_LE(point.rescored[error][column], static_cast<float>(point.ef));
        if (point.ef >= kLimits[column]) {
          EXPECT_GE(point.rescored[error][column], static_cast<float>(kLimits[column]));
        } else {
          EXPECT_EQ(point.recall[error][column], 0);
        }
        // Who assumes less of an error measures less again, and finds less.
        if (error == 0) continue;
        EXPECT_LE(point.rescored[error][column], point.rescored[error - 1][column]);
      }
    }
  }
}

TEST(Calibration, CostsMoreByLongerCodes) {
  const Calibrated calibrated(Clustered(2000, 32, 1), Metric::kL2, kCodeKinds[0]);
  const double cost = calibrated.calibration.Cost(64, 128);
  EXPECT_TRUE(std::isfinite(cost));
  EXPECT_GT(cost, 0);
  EXPECT_GT(calibrated.calibration.Cost(128, 128), cost);
  EXPECT_GT(calibrated.calibration.Cost(64, 4096), cost);
}

TEST(Calibration, StopsWhenCancelled) {
  const Calibrated calibrated(Clustered(2000, 32, 1), Metric::kL2, kCodeKinds[0]);
  for (const int looks : {0, 1, 100}) {
    std::atomic<int> asked = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return asked++ >= looks; });
    EXPECT_THAT(calibrated.Measure({}, testing::FourThreads, cancel),
                StatusIs(absl::StatusCode::kCancelled))
        << looks;
  }
}

}  // namespace
}  // namespace azimuth::index
