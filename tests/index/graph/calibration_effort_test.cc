// That a calibration says of searches what they are, and that less effort finds as much.
#include "tests/index/graph/calibrated.h"
#include "tests/support/sanitized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

// What is of many searches only: a sanitizer sees nothing new in them, and takes minutes.
constexpr const char* kStatistic = "a statistic; runs without sanitizers";

using testing::Calibrated;
using testing::Clustered;
using testing::CodeKind;
using testing::Data;
using testing::kCodeKinds;
using testing::kLimits;
using testing::kRecalls;
using testing::Make;
using testing::NameOf;
using testing::NormalVectors;
using testing::Queries;
using testing::Searchable;
using testing::Searched;
using testing::Vectors;

struct Set {
  std::string name;
  Metric metric;
  Vectors rows;
  Vectors queries;  // Of the same distribution.
};

std::vector<Set> Sets() {
  constexpr size_t kRows = 9000;
  constexpr size_t kQueries = 300;
  return {{"clustered", Metric::kL2, Clustered(kRows, 32, 1), Clustered(kQueries, 32, 2)},
          {"uniform", Metric::kL2, Make(Data::kUniform, kRows, 16, 1),
           Make(Data::kUniform, kQueries, 16, 2)},
          {"normal, cosine", Metric::kCosine, NormalVectors(kRows, 24, 1, Metric::kCosine),
           NormalVectors(kQueries, 24, 2, Metric::kCosine)}};
}

Queries NotHeldOut(const Searchable& searchable, Metric metric, const Vectors& queries) {
  Bitset others(searchable.rows.count());
  for (uint32_t node = 0; node < searchable.rows.count(); ++node) {
    if (!std::ranges::binary_search(searchable.held_out, node)) others.Set(node);
  }
  return {searchable.rows, metric, queries, &others};
}

// Queries that it was not measured with find as much as it says, but for the standard errors that
// it takes off where it has few queries, and have as much measured.
TEST(Calibration, IsUnbiased) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << kStatistic;
  for (const Set& set : Sets()) {
    const auto graph = std::make_shared<Searchable>(set.rows, set.metric);
    const Queries fresh = NotHeldOut(*graph, set.metric, set.queries);
    for (const std::optional<CodeKind>& kind :
         {std::optional<CodeKind>(kCodeKinds[0]), std::optional<CodeKind>(kCodeKinds[5]),
          std::optional<CodeKind>()}) {
      const Calibrated calibrated(graph, set.metric, kind);
      const auto asked = static_cast<double>(calibrated.queries.size());
      ASSERT_EQ(calibrated.queries.size(), CalibrationQueryCount(set.rows.count()));
      ASSERT_LT(calibrated.queries.size(), 200U);  // So that one and a half are taken off.
      size_t compared = 0;
      for (const Calibration::Point& point : calibrated.calibration.points()) {
        if (point.ef != 14 && point.ef != 28 && point.ef != 56 && point.ef != 140) continue;
        for (size_t error = 0; error < Calibration::kErrorShares.size(); ++error) {
          for (size_t column = 0; column < std::size(kLimits); ++column) {
            if (point.ef < kLimits[column]) continue;
            const Searched searched = calibrated.Search(
                graph->before, fresh, {point.ef, calibrated.calibration.errors()[error]},
                kLimits[column]);
            const double of_table = std::sqrt(searched.variance / asked);
            const double of_fresh =
                std::sqrt(searched.variance / static_cast<double>(fresh.vectors.count()));
            const double deviation = std::hypot(of_table, of_fresh);
            const std::string where = set.name + ", " + (kind ? NameOf(*kind) : "no codes") +
                                      ", width " + std::to_string(point.ef) + ", error " +
                                      std::to_string(error) + ", limit " +
                                      std::to_string(kLimits[column]);
            ++compared;
            const double told = point.recall[error][column];
            if (column == 0) {
              // Of one neighbour each it is careful, and takes what it knows of ten for more.
              EXPECT_LE(told, searched.recall + 3 * deviation) << where;
            } else {
              EXPECT_NEAR(told + 1.5 * of_table, searched.recall, 3 * deviation + 0.005) << where;
            }
            EXPECT_NEAR(point.walked / searched.walked, 1, 0.1) << where;
            if (kind.has_value()) {
              EXPECT_NEAR(point.rescored[error][column] / searched.rescored, 1, 0.3) << where;
            }
            if (!kind.has_value()) break;
          }
          if (!kind.has_value()) break;
        }
      }
      EXPECT_GE(compared, kind.has_value() ? 12U : 2U) << set.name;
    }
  }
}

// Going on with a wider walk is for queries that are unlike the rows.
TEST(Calibration, WidensFewOfTheWalksOfQueriesThatAreLikeTheRows) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << kStatistic;
  constexpr size_t kGraphs = 12;
  const Vectors queries = Clustered(150, 24, 1000);
  for (const std::optional<CodeKind>& kind :
       {std::optional<CodeKind>(kCodeKinds[5]), std::optional<CodeKind>()}) {
    size_t widened = 0;
    size_t away = 0;
    for (size_t seed = 1; seed <= kGraphs; ++seed) {
      const Calibrated calibrated(Clustered(2400, 24, seed), Metric::kL2, kind);
      const size_t ef = calibrated.EffortFor(0.95, 10).ef;
      const auto widens = [&](const float* query) {
        GraphScratch scratch;
        const VectorDistances exact(calibrated.searchable.nodes(), calibrated.searchable.kernels,
                                    query);
        if (kind.has_value()) {
          calibrated.codes->EncodeQuery(query, scratch.query);
          const CodeDistances by(calibrated.codes->rows(), calibrated.codes->kernels(),
                                 scratch.query.view());
          EXPECT_OK(WalkGraph(calibrated.searchable.graph, by, {.ef = ef}, scratch, CancelToken()));
        } else {
          EXPECT_OK(
              WalkGraph(calibrated.searchable.graph, exact, {.ef = ef}, scratch, CancelToken()));
        }
        return calibrated.calibration.Widening(scratch.found(), Metric::kL2, 1) > 1;
      };
      for (size_t q = 0; q < queries.count(); ++q) {
        widened += widens(queries.row(q)) ? 1 : 0;
        std::vector<float> other(queries.row(q), queries.row(q) + 24);
        for (size_t i = 0; i < 24; ++i) other[i] = -other[i] + (i % 2 == 0 ? 3.0F : -3.0F);
        away += widens(other.data()) ? 1 : 0;
      }
    }
    EXPECT_LE(widened, kGraphs * queries.count() / 8);
    EXPECT_GE(away, kGraphs * queries.count() * 9 / 10);
  }
}

double CostOf(const Calibrated& of, const Searched& searched) {
  const auto lines = [](size_t bytes) { return static_cast<double>((bytes + 63) / 64 + 2); };
  return searched.walked * lines(of.code_bytes()) + searched.rescored * lines(of.vector_bytes());
}

// Few queries say more or less of one graph, but what is asked for is not missed on average over
// graphs: taking what looks cheapest is not to take what only looks good.
TEST(Calibration, SearchesOfManyGraphsReachTheRecallOnAverage) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << kStatistic;
  constexpr size_t kGraphs = 12;
  constexpr size_t kRows = 2400;
  constexpr size_t kQueries = 150;
  const Vectors of_queries = Clustered(kQueries, 24, 1000);
  for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[3], kCodeKinds[5]}) {
    std::array<std::array<double, std::size(kRecalls)>, std::size(kLimits)> sums = {};
    for (size_t seed = 1; seed <= kGraphs; ++seed) {
      const Vectors rows = Clustered(kRows, 24, seed);
      const Queries fresh(rows, Metric::kL2, of_queries);
      const Calibrated calibrated(rows, Metric::kL2, kind);
      for (size_t column = 0; column < std::size(kLimits); ++column) {
        for (size_t i = 0; i < std::size(kRecalls); ++i) {
          sums[column][i] += calibrated.RecallOf(fresh, kRecalls[i], kLimits[column]);
        }
      }
    }
    for (size_t column = 0; column < std::size(kLimits); ++column) {
      for (size_t i = 0; i < std::size(kRecalls); ++i) {
        EXPECT_GE(sums[column][i] / kGraphs, kRecalls[i] - (column == 0 ? 0.02 : 0.01))
            << NameOf(kind) << ": " << kRecalls[i] << " for " << kLimits[column];
      }
    }
  }
}

// Of searches of the final graph, by queries that it was not measured with.
TEST(Calibration, EffortCostsNoMoreThanTheWidthAlone) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << kStatistic;
  for (const Set& set : Sets()) {
    const auto graph = std::make_shared<Searchable>(set.rows, set.metric);
    const Queries fresh(set.rows, set.metric, set.queries);
    for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1], kCodeKinds[5]}) {
      const Calibrated calibrated(graph, set.metric, kind);
      double all = 0;
      double all_of_width = 0;
      for (const double recall : kRecalls) {
        for (const uint32_t limit : kLimits) {
          const Calibration::Effort effort = calibrated.EffortFor(recall, limit);
          const uint32_t ef = calibrated.calibration.Ef(recall, limit);
          EXPECT_GE(effort.ef, ef);
          const Searched searched = calibrated.Search(graph->graph, fresh, effort, limit);
          const Searched by_width = calibrated.Search(
              graph->graph, fresh, {ef, calibrated.calibration.errors()[0]}, limit);
          const std::string where = set.name + ", " + NameOf(kind) + ": " + std::to_string(recall) +
                                    " for " + std::to_string(limit);
          EXPECT_LE(CostOf(calibrated, searched), 1.05 * CostOf(calibrated, by_width)) << where;
          all += CostOf(calibrated, searched);
          all_of_width += CostOf(calibrated, by_width);
          // Few queries say less of one neighbour each.
          const double deviation =
              std::sqrt(searched.variance / static_cast<double>(calibrated.queries.size()));
          EXPECT_GE(searched.recall, recall - 0.01 - 2.5 * deviation) << where;
        }
      }
      EXPECT_LE(all, all_of_width) << set.name << ", " << NameOf(kind);
    }
  }
}

}  // namespace
}  // namespace azimuth::index
