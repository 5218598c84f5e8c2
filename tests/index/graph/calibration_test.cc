// What a calibration promises, held against queries that it did not see.
#include "index/graph/calibration.h"

#include "tests/index/codes/coded.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::Clustered;
using testing::CodeKind;
using testing::kCodeKinds;
using testing::NameOf;
using testing::NormalVectors;
using testing::Searchable;
using testing::Vectors;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kRecalls[] = {0.8, 0.9, 0.95, 0.99};
constexpr uint32_t kLimits[] = {1, 10, 100};

// Queries, and the nearest of `rows` by brute force: as many as the largest of kLimits.
struct Queries {
  Queries(const Vectors& rows, Metric metric, Vectors of) : vectors(std::move(of)) {
    for (size_t q = 0; q < vectors.count(); ++q) {
      nearest.push_back(BruteForce(rows, metric, vectors.row(q), 100));
    }
  }
  Vectors vectors;
  std::vector<std::vector<Neighbor>> nearest;
};

// A graph, codes of its rows (or none), and its calibration.
struct Calibrated {
  Calibrated(const Vectors& vectors, Metric by, std::optional<CodeKind> kind,
             const CalibrateOptions& options = {})
      : Calibrated(std::make_shared<Searchable>(vectors, by), by, kind, options) {}
  Calibrated(std::shared_ptr<const Searchable> graph, Metric by, std::optional<CodeKind> kind,
             const CalibrateOptions& options = {})
      : metric(by), shared(std::move(graph)), searchable(*shared) {
    const std::vector<const float*> rows = searchable.rows.rows();
    if (kind.has_value()) {
      const Quantizer quantizer =
          Quantizer::Train(metric, searchable.rows.dim, rows, {kind->bits, kind->transform, 1});
      bytes = EncodeVectors(quantizer, rows, testing::OneThread);
      auto opened = CodedVectors::Open(metric, searchable.rows.dim, bytes.span());
      AZ_CHECK(opened.ok());
      codes = *std::move(opened);
    }
    const auto measured = Measure(options, testing::OneThread, CancelToken());
    EXPECT_OK(measured);
    if (measured.ok()) calibration = *measured;
  }

  absl::StatusOr<Calibration> Measure(const CalibrateOptions& options, const ParallelFor& parallel,
                                      const CancelToken& cancel) const {
    const std::vector<const float*> rows = searchable.rows.rows();
    return Calibrate(searchable.graph, codes.has_value() ? &*codes : nullptr, rows, metric,
                     searchable.rows.dim, options, parallel, cancel);
  }

  // The share of the `limit` nearest that searches at `recall` find.
  double RecallOf(const Queries& asked, double recall, uint32_t limit) const {
    const Vectors& queries = asked.vectors;
    GraphScratch scratch;
    TopK top;
    size_t hits = 0;
    for (size_t q = 0; q < queries.count(); ++q) {
      GraphSearchOptions options;
      options.ef = calibration.Ef(recall, limit);
      options.node_to_position = searchable.order.data();
      top.Reset(limit, nullptr);
      const VectorDistances exact(searchable.nodes(), searchable.kernels, queries.row(q));
      if (codes.has_value()) {
        codes->EncodeQuery(queries.row(q), scratch.query);
        EXPECT_OK(SearchGraphByCodes(
            searchable.graph, CodeDistances(codes->rows(), codes->kernels(), scratch.query.view()),
            exact, options, calibration.Rescore(limit, scratch.query.norm()), top, scratch,
            CancelToken()));
      } else {
        EXPECT_OK(SearchGraph(searchable.graph, searchable.nodes(), searchable.kernels,
                              queries.row(q), options, top, scratch, CancelToken()));
      }
      const float last = asked.nearest[q][limit - 1].distance;
      const float bound = last + 1e-5F * std::abs(last) + 1e-6F;
      for (const Neighbor& neighbor : top.Sorted()) hits += neighbor.distance <= bound ? 1 : 0;
    }
    return static_cast<double>(hits) / static_cast<double>(limit * queries.count());
  }

  Metric metric;
  std::shared_ptr<const Searchable> shared;
  const Searchable& searchable;
  AlignedBytes bytes;
  std::optional<CodedVectors> codes;
  Calibration calibration;
};

// Width by width as the recall and the number of neighbours grow.
void ExpectMonotone(const Calibration& calibration) {
  for (uint32_t limit = 1; limit <= 3000; limit += limit < 120 ? 1 : 97) {
    uint32_t last = 0;
    for (int percent = 1; percent <= 1000; ++percent) {
      const uint32_t ef = calibration.Ef(percent / 1000.0, limit);
      ASSERT_GE(ef, last) << limit << ", " << percent;
      ASSERT_GE(ef, limit);
      ASSERT_LE(ef, 32768u);
      last = ef;
    }
  }
  for (const double recall : kRecalls) {
    uint32_t last = 0;
    for (uint32_t limit = 1; limit <= 16384; limit += 1 + limit / 10) {
      const uint32_t ef = calibration.Ef(recall, limit);
      EXPECT_GE(ef, last) << recall << " for " << limit;
      last = ef;
    }
  }
}

enum class Data { kClustered, kUniform };

Vectors Make(Data data, size_t count, size_t dim, uint64_t seed) {
  if (data == Data::kClustered) return Clustered(count, dim, seed);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Vectors vectors{dim, std::vector<float>(count * dim)};
  for (float& x : vectors.data) x = uniform(random);
  return vectors;
}

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
          const double got = calibrated.RecallOf(queries, recall, limit);
          // 80 rows are asked for their neighbours, which says little of one neighbour each.
          const double tolerance = limit == 1 ? 0.05 : 0.01;
          EXPECT_GE(got, recall - tolerance)
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
    for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1], kCodeKinds[3]}) {
      const Calibrated calibrated(graph, metric, kind);
      EXPECT_GT(calibrated.calibration.error(), 0);
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
  EXPECT_GT(eight.calibration.error(), 0);
  EXPECT_GT(four.calibration.error(), 3 * eight.calibration.error());
  const RescoreOptions rescore = four.calibration.Rescore(10, 2);
  EXPECT_EQ(rescore.least, 10u);
  EXPECT_FLOAT_EQ(rescore.slack, 2 * four.calibration.error());
  EXPECT_EQ(Calibrated(vectors, Metric::kL2, std::nullopt).calibration.error(), 0);
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

// Two groups of rows that are so near to each other that they have one code each: what a walk by
// codes finds is what the codes say, but not the nearest.
TEST(Calibration, CodesThatSayNothingReachNothing) {
  Vectors vectors = NormalVectors(4000, 32, 1);
  for (size_t i = 0; i < vectors.data.size(); ++i) {
    vectors.data[i] = (i / 32 % 2 == 0 ? 500.0F : -500.0F) + vectors.data[i] / 10;
  }
  const auto graph = std::make_shared<Searchable>(vectors, Metric::kL2);
  for (const CodeKind kind : {kCodeKinds[0], kCodeKinds[1]}) {
    const Calibration coded = Calibrated(graph, Metric::kL2, kind).calibration;
    EXPECT_FALSE(coded.Reaches(0.9)) << NameOf(kind);
    EXPECT_LT(coded.points().back().recall[1], 0.9F) << NameOf(kind);
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
  EXPECT_EQ(none.Rescore(10, 1).least, 10u);
  EXPECT_EQ(none.Rescore(10, 1).slack, std::numeric_limits<float>::infinity());
  EXPECT_EQ(none.Cost(64, 256), std::numeric_limits<double>::infinity());
}

TEST(Calibration, OfSmallGraphs) {
  for (const auto& kind : {std::optional<CodeKind>(kCodeKinds[1]), std::optional<CodeKind>()}) {
    for (const size_t count : {1, 2, 3, 50, 101}) {
      const Vectors vectors = Clustered(count, 8, 1);
      const Calibrated calibrated(vectors, Metric::kL2, kind);
      ExpectMonotone(calibrated.calibration);
      EXPECT_EQ(calibrated.calibration.points().empty(), count == 1) << count;
      const Queries queries(vectors, Metric::kL2, Clustered(20, 8, 2));
      for (const uint32_t limit : {1U, 10U}) {
        if (limit > count) continue;
        EXPECT_GE(calibrated.RecallOf(queries, 0.95, limit), 0.85) << count;
      }
    }
  }
}

TEST(Calibration, OfNoNodes) {
  const auto calibration =
      Calibrate(FrozenGraph(), nullptr, {}, Metric::kL2, 8, {}, testing::OneThread, CancelToken());
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
    EXPECT_EQ(calibrated.calibration.points().front().recall[0], 1) << kind.has_value();
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
        for (const float recall : point.recall) EXPECT_TRUE(recall >= 0 && recall <= 1);
      }
      EXPECT_TRUE(std::isfinite(calibrated.calibration.error()));
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
  ASSERT_OK_AND_ASSIGN(const Calibration seeded,
                       calibrated.Measure({.seed = 2}, testing::OneThread, CancelToken()));
  EXPECT_NE(seeded.Save(), expected);
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
    for (size_t column = 0; column < std::size(kLimits); ++column) {
      if (point.ef >= kLimits[column]) continue;
      EXPECT_EQ(point.recall[column], 0);
    }
    EXPECT_GT(point.walked, 0);
    EXPECT_LE(point.rescored, static_cast<float>(point.ef));
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

// --- Bytes
// ----------------------------------------------------------------------------------------

absl::StatusOr<Calibration> Open(const std::string& bytes) {
  return Calibration::Open(std::as_bytes(std::span(bytes)));
}

template <typename T>
std::string With(std::string bytes, size_t offset, T value) {
  std::memcpy(&bytes[offset], &value, sizeof(value));
  return bytes;
}

// Where the bytes of `value` are.
template <typename T>
size_t Find(const std::string& bytes, T value) {
  return bytes.find(std::string(reinterpret_cast<const char*>(&value), sizeof(value)));
}

TEST(Calibration, IsTheSameAfterSaveAndOpen) {
  const Calibrated calibrated(Clustered(1000, 32, 1), Metric::kL2, kCodeKinds[1]);
  for (const Calibration& calibration : {calibrated.calibration, Calibration()}) {
    ASSERT_OK_AND_ASSIGN(const Calibration opened, Open(calibration.Save()));
    EXPECT_EQ(opened.Save(), calibration.Save());
    EXPECT_EQ(opened.error(), calibration.error());
    EXPECT_EQ(opened.points().size(), calibration.points().size());
    for (const double recall : kRecalls) {
      EXPECT_EQ(opened.Ef(recall, 10), calibration.Ef(recall, 10));
    }
  }
}

TEST(Calibration, OpenSaysWhatIsWrongWithBytes) {
  const Calibrated calibrated(Clustered(1000, 32, 1), Metric::kL2, kCodeKinds[1]);
  const std::string good = calibrated.calibration.Save();
  const size_t points = calibrated.calibration.points().size();
  ASSERT_GE(points, 3u);
  constexpr size_t kPoint = sizeof(Calibration::Point);
  const size_t first = good.size() - points * kPoint;
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  const auto says = [&](const std::string& bytes, const std::string& what) {
    EXPECT_THAT(Open(bytes), StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr(what)));
  };
  says(good + '\0', "points");
  says(good + std::string(kPoint, '\0'), "points");
  says(With(good, 0, 'x'), "magic");
  const size_t count_at = Find(good, static_cast<uint32_t>(points));
  ASSERT_LT(count_at, first);
  for (const uint32_t count : {uint32_t{0}, static_cast<uint32_t>(points + 1), UINT32_MAX}) {
    says(With(good, count_at, count), "points");
  }
  const size_t error_at = Find(good, calibrated.calibration.error());
  ASSERT_LT(error_at, first);
  for (const float bad : {kNan, std::numeric_limits<float>::infinity(), -1.0F}) {
    says(With(good, error_at, bad), "error");
  }
  const size_t second = first + kPoint;
  const uint32_t ef = calibrated.calibration.points()[0].ef;
  for (const uint32_t bad : {0U, ef, 32769U, UINT32_MAX}) says(With(good, second, bad), "width");
  for (size_t field = 4; field < kPoint; field += 4) {
    for (const float bad : {kNan, -0.5F, std::numeric_limits<float>::infinity()}) {
      says(With(good, second + field, bad), "width");
    }
    if (field <= 12) says(With(good, second + field, 1.5F), "width");
  }
}

TEST(Calibration, WhatOpensFromDamagedBytesAnswers) {
  const Calibrated calibrated(Clustered(500, 16, 1), Metric::kL2, kCodeKinds[1]);
  const std::string good = calibrated.calibration.Save();
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const auto opened = Open(With(good, at, static_cast<char>(good[at] ^ (1 << bit))));
      if (!opened.ok()) continue;
      for (const uint32_t limit : {1U, 5U, 10U, 77U, 100U, 16384U}) {
        uint32_t last = limit;
        for (const double recall : kRecalls) {
          const uint32_t ef = opened->Ef(recall, limit);
          EXPECT_GE(ef, last);
          last = ef;
        }
        EXPECT_LE(last, 32768u);
      }
      EXPECT_GE(opened->Rescore(10, 3).slack, 0);
      EXPECT_GE(opened->Cost(64, 256), 0);
    }
  }
}

}  // namespace
}  // namespace azimuth::index
