// Every target that this CPU runs against sums in double. The bounds follow from the header: with
// unit roundoff u = 2^-24, a sum of n terms in float is off by at most about (n + 3) u times the
// sum of their magnitudes, plus half the least denormal for each product that underflows.
#include "index/distance/distance.h"

#include "gtest/gtest.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<size_t> Dims() {
  std::vector<size_t> dims;
  for (size_t dim = 1; dim <= 67; ++dim) dims.push_back(dim);
  for (const size_t dim : {127, 128, 129, 784}) dims.push_back(dim);
  return dims;
}

struct Exact {
  double distance = 0;
  double error_max = 0;
};

Exact ExactDistance(Metric metric, const float* a, const float* b, size_t dim) {
  constexpr double kUnit = 0x1p-24;
  constexpr double kLeastDenormal = 0x1p-149;
  double sum = 0, magnitudes = 0;
  for (size_t i = 0; i < dim; ++i) {
    const double x = a[i], y = b[i];
    const double term = metric == Metric::kL2 ? (x - y) * (x - y) : x * y;
    sum += term;
    magnitudes += std::abs(term);
  }
  const auto n = static_cast<double>(dim);
  Exact exact{sum, (n + 3) * kUnit * magnitudes + n * kLeastDenormal};
  if (metric == Metric::kIp) exact.distance = -sum;
  if (metric == Metric::kCosine) {
    exact.distance = 1 - sum;
    exact.error_max += kUnit * (1 + std::abs(sum));
  }
  return exact;
}

std::vector<float> RandomVector(size_t dim, float scale, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> vector(dim);
  for (float& x : vector) x = scale * normal(random);
  return vector;
}

void ExpectNearExact(const NamedKernels& named, Metric metric, const float* a, const float* b,
                     size_t dim) {
  const Exact exact = ExactDistance(metric, a, b, dim);
  const float got = named.kernels.pair(a, b, dim);
  EXPECT_LE(std::abs(static_cast<double>(got) - exact.distance), exact.error_max)
      << named.target << " " << MetricName(metric) << " dim " << dim << ": " << got << ", not "
      << exact.distance;
}

TEST(DistanceKernels, ListTheBestTargetFirstAndTheScalarOneLast) {
  for (const Metric metric : kMetrics) {
    const std::vector<NamedKernels> all = AllKernelsFor(metric);
    ASSERT_GE(all.size(), 2u);
    EXPECT_EQ(all.front().kernels.pair, KernelsFor(metric).pair);
    EXPECT_EQ(all.front().kernels.gather, KernelsFor(metric).gather);
    EXPECT_EQ(all.front().kernels.run, KernelsFor(metric).run);
    EXPECT_EQ(all.back().target, "scalar");
    EXPECT_EQ(all.back().kernels.pair, ScalarKernelsFor(metric).pair);
    for (size_t i = 1; i < all.size(); ++i) {
      EXPECT_NE(all[i].kernels.pair, all[i - 1].kernels.pair) << all[i].target;
    }
  }
}

TEST(DistanceKernels, StayWithinTheErrorBoundAtEveryDimension) {
  std::mt19937_64 random(1);
  for (const Metric metric : kMetrics) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      for (const size_t dim : Dims()) {
        const std::vector<float> a = RandomVector(dim, 1, random);
        const std::vector<float> b = RandomVector(dim, 1, random);
        ExpectNearExact(named, metric, a.data(), b.data(), dim);
      }
    }
  }
}

TEST(DistanceKernels, StayWithinTheErrorBoundAtEveryAlignment) {
  std::mt19937_64 random(2);
  for (const Metric metric : kMetrics) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      for (size_t shift = 0; shift < 16; ++shift) {
        for (const size_t dim : {1, 15, 16, 17, 63, 64, 65, 129}) {
          const std::vector<float> a = RandomVector(dim + shift, 1, random);
          const std::vector<float> b = RandomVector(dim + 2 * shift, 1, random);
          ExpectNearExact(named, metric, a.data() + shift, b.data() + 2 * shift, dim);
        }
      }
    }
  }
}

TEST(DistanceKernels, StayWithinTheErrorBoundForHugeTinyAndDenormalValues) {
  std::mt19937_64 random(3);
  for (const Metric metric : kMetrics) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      for (const float scale : {1e17f, 1e-17f, 1e-21f, 1e-30f, 1e-40f}) {
        for (const size_t dim : {1, 7, 16, 67, 784}) {
          const std::vector<float> a = RandomVector(dim, scale, random);
          const std::vector<float> b = RandomVector(dim, scale, random);
          ExpectNearExact(named, metric, a.data(), b.data(), dim);
        }
      }
    }
  }
}

TEST(DistanceKernels, GiveInfinityWhereTheSquareOverflows) {
  const float huge = std::numeric_limits<float>::max();
  for (const NamedKernels& named : AllKernelsFor(Metric::kL2)) {
    for (const size_t dim : Dims()) {
      const std::vector<float> a(dim, huge);
      const std::vector<float> b(dim, -huge);
      EXPECT_EQ(named.kernels.pair(a.data(), b.data(), dim), kInfinity)
          << named.target << " " << dim;
    }
  }
}

TEST(DistanceKernels, GiveZeroForTheDistanceToItself) {
  std::mt19937_64 random(4);
  for (const NamedKernels& named : AllKernelsFor(Metric::kL2)) {
    for (const size_t dim : Dims()) {
      const std::vector<float> a = RandomVector(dim, 100, random);
      EXPECT_EQ(named.kernels.pair(a.data(), a.data(), dim), 0) << named.target << " " << dim;
    }
  }
}

TEST(DistanceKernels, GiveNonFiniteOutputForNonFiniteInputAtEveryPlace) {
  std::mt19937_64 random(5);
  for (const Metric metric : kMetrics) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      for (size_t dim = 1; dim <= 67; ++dim) {
        std::vector<float> a = RandomVector(dim, 1, random);
        const std::vector<float> b = RandomVector(dim, 1, random);
        for (size_t place = 0; place < dim; ++place) {
          for (const float bad : {kNan, kInfinity, -kInfinity}) {
            const float before = a[place];
            a[place] = bad;
            EXPECT_FALSE(std::isfinite(named.kernels.pair(a.data(), b.data(), dim)))
                << named.target << " " << MetricName(metric) << " " << place << " of " << dim;
            a[place] = before;
          }
        }
      }
    }
  }
}

// Ties between rows that different paths found must be ties, so not even the last bit may differ.
TEST(DistanceKernels, GiveTheSameBitsOneByOneGatheredAndInARun) {
  constexpr size_t kRows = 19;
  std::mt19937_64 random(6);
  for (const Metric metric : kMetrics) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      for (const size_t dim : {1, 3, 16, 31, 64, 100, 129}) {
        const size_t stride = dim + 5;
        const std::vector<float> query = RandomVector(dim, 1, random);
        // The last row ends where the allocation does.
        const std::vector<float> rows = RandomVector(kRows * stride - 5, 1, random);
        std::vector<uint32_t> ids;
        for (size_t i = 0; i < kRows; ++i) ids.push_back(static_cast<uint32_t>(i * 7 % kRows));
        for (size_t count = 0; count <= kRows; ++count) {
          std::vector<float> gathered(count), run(count);
          named.kernels.gather(query.data(), rows.data(), stride, dim, ids.data(), count,
                               gathered.data());
          named.kernels.run(query.data(), rows.data(), stride, dim, count, run.data());
          for (size_t i = 0; i < count; ++i) {
            EXPECT_EQ(gathered[i],
                      named.kernels.pair(query.data(), rows.data() + ids[i] * stride, dim));
            EXPECT_EQ(run[i], named.kernels.pair(query.data(), rows.data() + i * stride, dim));
          }
        }
      }
    }
  }
}

TEST(NormalizeL2, MakesUnitLengthOutOfAnyFiniteVector) {
  std::mt19937_64 random(7);
  for (const float scale : {1.0f, 1e37f, 1e-37f, 1e-42f}) {
    for (const size_t dim : {1, 2, 67, 784}) {
      std::vector<float> vector = RandomVector(dim, scale, random);
      vector[0] = scale;
      NormalizeL2(vector);
      EXPECT_NEAR(SquaredNorm(vector), 1, 1e-6) << "scale " << scale << " dim " << dim;
    }
  }
}

TEST(NormalizeL2, KeepsTheDirection) {
  std::vector<float> vector = {3, 0, -4};
  NormalizeL2(vector);
  EXPECT_FLOAT_EQ(vector[0], 0.6f);
  EXPECT_EQ(vector[1], 0);
  EXPECT_FLOAT_EQ(vector[2], -0.8f);
}

TEST(SquaredNorm, SumsSquaresWithoutOverflowInDouble) {
  EXPECT_EQ(SquaredNorm({}), 0);
  EXPECT_EQ(SquaredNorm(std::vector<float>{1, 2, 3, 4, 5}), 55);
  const std::vector<float> huge(100, std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(SquaredNorm(huge)));
  EXPECT_FALSE(std::isfinite(SquaredNorm(std::vector<float>{1, kInfinity})));
  EXPECT_FALSE(std::isfinite(SquaredNorm(std::vector<float>{kNan, 1})));
}

TEST(AllFinite, FindsNanAndInfinityAtEveryPlace) {
  const float signalling = std::bit_cast<float>(0x7F800001u);
  for (size_t dim = 1; dim <= 67; ++dim) {
    std::vector<float> vector(dim, std::numeric_limits<float>::max());
    EXPECT_TRUE(AllFinite(vector));
    for (size_t place = 0; place < dim; ++place) {
      for (const float bad : {kNan, -kNan, signalling, kInfinity, -kInfinity}) {
        vector[place] = bad;
        EXPECT_FALSE(AllFinite(vector)) << place << " of " << dim;
        vector[place] = std::numeric_limits<float>::denorm_min();
      }
    }
  }
  EXPECT_TRUE(AllFinite({}));
}

}  // namespace
}  // namespace azimuth::index
