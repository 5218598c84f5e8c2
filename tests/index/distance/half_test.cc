// Conversions of every target against what binary16 is, and distances against sums in double; the
// bounds are those of distance_test.cc.
#include "index/distance/half.h"

#include "gtest/gtest.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace azimuth::index {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};
constexpr size_t kHalves = 65536;

// The definition, not the implementation: sign, exponent and fraction. Infinities and NaNs apart.
double ValueOf(uint32_t half) {
  const double sign = (half & 0x8000) != 0 ? -1 : 1;
  const auto exponent = static_cast<int>(half >> 10 & 0x1F);
  const auto fraction = static_cast<double>(half & 0x3FF);
  if (exponent == 0) return sign * fraction * 0x1p-24;
  return sign * std::ldexp(1 + fraction / 1024, exponent - 15);
}

bool IsFinite(uint32_t half) {
  return (half & 0x7C00) != 0x7C00;
}

bool IsNan(uint32_t half) {
  return (half & 0x7FFF) > 0x7C00;
}

std::vector<Half> AllHalves() {
  std::vector<Half> all;
  for (uint32_t half = 0; half < kHalves; ++half) all.push_back(static_cast<Half>(half));
  return all;
}

std::vector<Half> HalvesOf(const HalfConversions& conversions, const std::vector<float>& floats) {
  std::vector<Half> halves(floats.size());
  conversions.to_half(floats.data(), floats.size(), halves.data());
  return halves;
}

std::vector<float> FloatsOf(const HalfConversions& conversions, const std::vector<Half>& halves) {
  std::vector<float> floats(halves.size());
  conversions.to_float(halves.data(), halves.size(), floats.data());
  return floats;
}

std::vector<float> RandomVector(size_t dim, float scale, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> vector(dim);
  for (float& x : vector) x = scale * normal(random);
  return vector;
}

std::vector<Half> RandomHalves(size_t dim, float scale, std::mt19937_64& random) {
  std::vector<Half> halves(dim);
  ToHalf(RandomVector(dim, scale, random).data(), dim, halves.data());
  return halves;
}

TEST(Half, ToFloatIsExactForEveryHalf) {
  for (const NamedHalfConversions& named : AllHalfConversions()) {
    const std::vector<float> floats = FloatsOf(named.conversions, AllHalves());
    for (uint32_t half = 0; half < kHalves; ++half) {
      const float got = floats[half];
      EXPECT_EQ(std::signbit(got), half >= 0x8000) << named.target << " " << half;
      EXPECT_EQ(std::isnan(got), IsNan(half)) << named.target << " " << half;
      if (IsFinite(half)) {
        EXPECT_EQ(got, ValueOf(half)) << named.target << " " << half;
      } else if (!IsNan(half)) {
        EXPECT_TRUE(std::isinf(got)) << named.target << " " << half;
      }
    }
  }
}

TEST(Half, ComesBackFromFloatForEveryHalf) {
  for (const NamedHalfConversions& named : AllHalfConversions()) {
    const std::vector<Half> back =
        HalvesOf(named.conversions, FloatsOf(named.conversions, AllHalves()));
    for (uint32_t half = 0; half < kHalves; ++half) {
      EXPECT_EQ(back[half], IsNan(half) ? half | 0x200 : half) << named.target;
    }
  }
}

// At each midpoint of two neighbours, and the floats beside it: 65519.99 rounds down, 65520 to
// infinity, 2^-25 to 0 and what is above it to the least half.
TEST(Half, RoundsToTheNearestAndTiesToEven) {
  std::vector<float> floats;
  std::vector<Half> expected;
  for (uint32_t half = 0; half < 0x7C00; ++half) {
    const double next = half + 1 == 0x7C00 ? 65536 : ValueOf(half + 1);
    const auto middle = static_cast<float>((ValueOf(half) + next) / 2);
    const float infinity = std::numeric_limits<float>::infinity();
    const auto even = static_cast<Half>(half % 2 == 0 ? half : half + 1);
    floats.insert(floats.end(),
                  {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, infinity)});
    expected.insert(expected.end(), {static_cast<Half>(half), even, static_cast<Half>(half + 1)});
  }
  std::vector<float> negative;
  std::vector<Half> negative_expected;
  for (const float x : floats) negative.push_back(-x);
  for (const Half x : expected) negative_expected.push_back(static_cast<Half>(x | 0x8000));
  for (const NamedHalfConversions& named : AllHalfConversions()) {
    EXPECT_EQ(HalvesOf(named.conversions, floats), expected) << named.target;
    EXPECT_EQ(HalvesOf(named.conversions, negative), negative_expected) << named.target;
  }
}

TEST(Half, HasTheSameBitsOnEveryTargetForAnyFloatAtAnyCountAndAlignment) {
  std::mt19937_64 random(1);
  for (size_t count = 0; count <= 70; ++count) {
    for (const size_t shift : {0, 1, 3}) {
      std::vector<float> floats(count + shift);
      for (float& x : floats) x = std::bit_cast<float>(static_cast<uint32_t>(random()));
      std::vector<Half> bits(count + shift);
      for (Half& x : bits) x = static_cast<Half>(random());
      std::vector<Half> halves(count), expected_halves(count);
      std::vector<float> numbers(count), expected_numbers(count);
      ScalarHalfConversions().to_half(floats.data() + shift, count, expected_halves.data());
      ScalarHalfConversions().to_float(bits.data() + shift, count, expected_numbers.data());
      for (const NamedHalfConversions& named : AllHalfConversions()) {
        named.conversions.to_half(floats.data() + shift, count, halves.data());
        named.conversions.to_float(bits.data() + shift, count, numbers.data());
        EXPECT_EQ(halves, expected_halves) << named.target;
        for (size_t i = 0; i < count; ++i) {
          EXPECT_EQ(std::bit_cast<uint32_t>(numbers[i]),
                    std::bit_cast<uint32_t>(expected_numbers[i]))
              << named.target << " " << bits[shift + i];
        }
      }
    }
  }
}

TEST(Half, OfTheHeaderIsTheBestTarget) {
  std::mt19937_64 random(2);
  const std::vector<float> floats = RandomVector(100, 1, random);
  std::vector<Half> halves(100);
  ToHalf(floats.data(), 100, halves.data());
  EXPECT_EQ(halves, HalvesOf(AllHalfConversions().front().conversions, floats));
  std::vector<float> back(100);
  ToFloat(halves.data(), 100, back.data());
  EXPECT_EQ(back, FloatsOf(AllHalfConversions().front().conversions, halves));
  for (const Metric metric : kMetrics) {
    const std::vector<NamedHalfKernels> all = AllHalfKernelsFor(metric);
    EXPECT_EQ(all.front().kernels.pair, HalfKernelsFor(metric).pair);
    EXPECT_EQ(all.back().target, "scalar");
    EXPECT_EQ(all.back().kernels.pair, ScalarHalfKernelsFor(metric).pair);
  }
}

void ExpectNearExact(const NamedHalfKernels& named, Metric metric, const float* query,
                     const Half* row, size_t dim) {
  constexpr double kUnit = 0x1p-24;
  double sum = 0, magnitudes = 0;
  for (size_t i = 0; i < dim; ++i) {
    const double x = query[i], y = ValueOf(row[i]);
    const double term = metric == Metric::kL2 ? (x - y) * (x - y) : x * y;
    sum += term;
    magnitudes += std::abs(term);
  }
  const auto n = static_cast<double>(dim);
  double error_max = (n + 3) * kUnit * magnitudes + n * 0x1p-149;
  double exact = sum;
  if (metric == Metric::kIp) exact = -sum;
  if (metric == Metric::kCosine) {
    exact = 1 - sum;
    error_max += kUnit * (1 + std::abs(sum));
  }
  const double got = named.kernels.pair(query, row, dim);
  EXPECT_LE(std::abs(got - exact), error_max)
      << named.target << " " << MetricName(metric) << " dim " << dim;
}

TEST(HalfKernels, StayWithinTheErrorBoundAtEveryDimensionAndAlignment) {
  std::mt19937_64 random(3);
  for (const Metric metric : kMetrics) {
    for (const NamedHalfKernels& named : AllHalfKernelsFor(metric)) {
      for (size_t dim = 1; dim <= 140; ++dim) {
        const size_t shift = dim % 9;
        const std::vector<float> query = RandomVector(dim + shift, 1, random);
        // The last row ends where the allocation does.
        const std::vector<Half> row = RandomHalves(dim + 2 * shift, 1, random);
        ExpectNearExact(named, metric, query.data() + shift, row.data() + 2 * shift, dim);
      }
      for (const size_t dim : {784, 1536}) {
        for (const float scale : {1e-7F, 1e-5F, 1e3F, 2e4F}) {  // Denormals, and near the greatest.
          const std::vector<float> query = RandomVector(dim, scale, random);
          std::vector<Half> row = RandomHalves(dim, scale, random);
          for (Half& x : row) x = IsFinite(x) ? x : Half{0x7BFF};
          ExpectNearExact(named, metric, query.data(), row.data(), dim);
        }
      }
    }
  }
}

TEST(HalfKernels, GiveNonFiniteOutputForNonFiniteInputAtEveryPlace) {
  constexpr Half kInfinity = 0x7C00, kMinusInfinity = 0xFC00, kQuiet = 0x7E00, kSignalling = 0x7C01;
  std::mt19937_64 random(4);
  for (const Metric metric : kMetrics) {
    for (const NamedHalfKernels& named : AllHalfKernelsFor(metric)) {
      for (size_t dim = 1; dim <= 67; ++dim) {
        const std::vector<float> query = RandomVector(dim, 1, random);
        std::vector<Half> row = RandomHalves(dim, 1, random);
        for (size_t place = 0; place < dim; ++place) {
          const Half before = row[place];
          for (const Half bad : {kInfinity, kMinusInfinity, kQuiet, kSignalling}) {
            row[place] = bad;
            EXPECT_FALSE(std::isfinite(named.kernels.pair(query.data(), row.data(), dim)))
                << named.target << " " << MetricName(metric) << " " << place << " of " << dim;
          }
          row[place] = before;
        }
      }
    }
  }
}

TEST(HalfKernels, GiveTheSameBitsOneByOneGatheredAndInARun) {
  constexpr size_t kRows = 19;
  std::mt19937_64 random(5);
  for (const Metric metric : kMetrics) {
    for (const NamedHalfKernels& named : AllHalfKernelsFor(metric)) {
      for (const size_t dim : {1, 3, 16, 31, 64, 100, 129}) {
        const size_t stride = dim + 5;
        const std::vector<float> query = RandomVector(dim, 1, random);
        const std::vector<Half> rows = RandomHalves(kRows * stride - 5, 1, random);
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

}  // namespace
}  // namespace azimuth::index
