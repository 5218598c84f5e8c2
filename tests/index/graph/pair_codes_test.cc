// Distances by codes of both rows against those of the rows, and where codes are refused.
#include "index/graph/pair_codes.h"

#include "index/distance/distance.h"
#include "tests/index/vectors.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace azimuth::index {
namespace {

using testing::Clustered;
using testing::Vectors;

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};

std::vector<std::vector<std::byte>> EncodeAll(const PairCodes& codes, const Vectors& vectors) {
  std::vector<float> scratch;
  std::vector<std::vector<std::byte>> coded(vectors.count());
  for (size_t i = 0; i < vectors.count(); ++i) {
    coded[i].resize(codes.bytes() + 1);
    codes.Encode(vectors.row(i), scratch, coded[i].data() + 1);  // Needs no alignment.
  }
  return coded;
}

Vectors Prepared(Metric metric, size_t count, size_t dim, float offset) {
  Vectors vectors = Clustered(count, dim, 1);
  for (float& x : vectors.data) x += offset;
  for (size_t i = 0; metric == Metric::kCosine && i < count; ++i) {
    NormalizeL2({&vectors.data[i * dim], dim});
  }
  return vectors;
}

TEST(PairCodes, AreNearTheDistancesOfTheRows) {
  for (const Metric metric : kMetrics) {
    for (const size_t dim : {48, 100, 128, 300}) {
      for (const float offset : {0.0F, 100.0F}) {
        // Far from the origin angles drown in the rounding of the kernels themselves.
        if (metric == Metric::kCosine && offset != 0) continue;
        const Vectors vectors = Prepared(metric, 300, dim, offset);
        const auto codes = PairCodes::Make(metric, dim, vectors.rows());
        ASSERT_TRUE(codes.has_value()) << MetricName(metric) << " " << dim << " " << offset;
        const auto coded = EncodeAll(*codes, vectors);
        const PairDistance exact = KernelsFor(metric).pair;
        double error = 0, least = 0, greatest = 0;
        for (size_t i = 0; i < 100; ++i) {
          for (size_t j = 100; j < 300; ++j) {
            const double expected = exact(vectors.row(i), vectors.row(j), dim);
            const double got = codes->Distance(coded[i].data() + 1, coded[j].data() + 1);
            EXPECT_NEAR(got, codes->Distance(coded[j].data() + 1, coded[i].data() + 1),
                        1e-2 + 1e-6 * std::abs(got));
            error += std::abs(got - expected) / 20000;
            least = std::min(least, expected);
            greatest = std::max(greatest, expected);
          }
        }
        // A hundredth of what tells rows apart.
        EXPECT_LT(error, (greatest - least) / 100)
            << MetricName(metric) << ", dim " << dim << ", offset " << offset;
      }
    }
  }
}

TEST(PairCodes, PutARowNearestToItself) {
  const Vectors vectors = Prepared(Metric::kL2, 200, 64, 1000);
  const auto codes = PairCodes::Make(Metric::kL2, 64, vectors.rows());
  ASSERT_TRUE(codes.has_value());
  const auto coded = EncodeAll(*codes, vectors);
  for (size_t i = 0; i < 200; ++i) {
    for (size_t j = 0; j < 200; ++j) {
      const float distance = codes->Distance(coded[i].data() + 1, coded[j].data() + 1);
      EXPECT_GE(distance, 0);
      if (i == j) {
        EXPECT_LT(distance, 0.01F);
      } else {
        EXPECT_GT(distance, 1);
      }
    }
  }
}

// Two far clusters whose rows differ by less than a step of the codes.
TEST(PairCodes, AreRefusedWhereTheyCannotTellNeighboursApart) {
  constexpr size_t kDim = 64;
  Vectors vectors{kDim, {}};
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 500; ++i) {
    for (size_t j = 0; j < kDim; ++j) {
      const float center = (i % 2 == 0 ? 100.0F : -100.0F) * static_cast<float>(j % 3);
      vectors.data.push_back(center + 0.1F * normal(random));
    }
  }
  EXPECT_FALSE(PairCodes::Make(Metric::kL2, kDim, vectors.rows()).has_value());
  // As are rows of which most are the same.
  vectors = Clustered(500, kDim, 1);
  for (size_t i = 0; i < 300 * kDim; ++i) vectors.data[i] = vectors.data[i % kDim];
  EXPECT_FALSE(PairCodes::Make(Metric::kL2, kDim, vectors.rows()).has_value());
}

// Two clusters on both sides of the mean: each row's own code is fine, but a distance within a
// cluster is the difference of numbers so large that it is lost in their rounding.
TEST(PairCodes, AreRefusedWhereDistancesAreLostInRounding) {
  constexpr size_t kDim = 128;
  for (const float offset : {1.0F, 100.0F, 1000.0F, 10000.0F}) {
    Vectors vectors{kDim, {}};
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    for (int i = 0; i < 500; ++i) {
      const float center = i % 2 == 0 ? offset : -offset;
      for (size_t j = 0; j < kDim; ++j) vectors.data.push_back(center + normal(random));
    }
    EXPECT_EQ(PairCodes::Make(Metric::kL2, kDim, vectors.rows()).has_value(), offset <= 100)
        << offset;
  }
}

// At an index that no sample has.
TEST(PairCodes, AreRefusedForOneRowOfWhichDistancesOverflow) {
  constexpr size_t kDim = 64;
  Vectors vectors = Clustered(10'001, kDim, 1);
  const auto codes = PairCodes::Make(Metric::kL2, kDim, vectors.rows());
  ASSERT_TRUE(codes.has_value());
  float* const row = &vectors.data[5001 * kDim];
  row[7] = -9e18F;  // Its square is still a float.
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    EXPECT_FALSE(PairCodes::Make(metric, kDim, vectors.rows()).has_value()) << MetricName(metric);
  }
  row[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(PairCodes::Make(Metric::kL2, kDim, vectors.rows()).has_value());
  // A large row that can be coded stays far from all others.
  row[7] = -1e16F;
  const auto large = PairCodes::Make(Metric::kL2, kDim, vectors.rows());
  ASSERT_TRUE(large.has_value());
  std::vector<float> scratch;
  std::vector<std::byte> coded(codes->bytes());
  std::vector<std::byte> other(codes->bytes());
  large->Encode(row, scratch, coded.data());
  large->Encode(vectors.row(0), scratch, other.data());
  EXPECT_GT(large->Distance(coded.data(), other.data()), 1e31F);
  // Nor is one near that is coded against the rules.
  row[7] = -9e18F;
  codes->Encode(row, scratch, coded.data());
  codes->Encode(vectors.row(0), scratch, other.data());
  EXPECT_EQ(codes->Distance(coded.data(), other.data()), std::numeric_limits<float>::infinity());
}

TEST(PairCodes, AreRefusedForShortHugeAndNoVectors) {
  EXPECT_FALSE(PairCodes::Make(Metric::kL2, 16, Clustered(100, 16, 1).rows()).has_value());
  EXPECT_FALSE(PairCodes::Make(Metric::kL2, 64, {}).has_value());
  Vectors huge = Clustered(100, 64, 1);
  for (size_t i = 0; i < huge.data.size(); i += 7) {
    huge.data[i] = std::numeric_limits<float>::max() * (i % 2 == 0 ? 1 : -1);
  }
  for (const Metric metric : kMetrics) {
    EXPECT_FALSE(PairCodes::Make(metric, 64, huge.rows()).has_value());
  }
}

}  // namespace
}  // namespace azimuth::index
