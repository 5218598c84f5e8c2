// Codes of rows: every target that this CPU runs against the scalar kernels, and bounds against the
// distances that the kernels of rows compute.
#include "index/distance/row_code.h"

#include "index/distance/distance.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<size_t> Dims() {
  std::vector<size_t> dims;
  for (size_t dim = 1; dim <= 70; ++dim) dims.push_back(dim);
  for (const size_t dim : {127, 128, 129, 784, 1536, 4096, 32768}) dims.push_back(dim);
  return dims;
}

std::vector<float> RandomRow(size_t dim, float scale, float offset, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> row(dim);
  for (float& x : row) x = offset + scale * normal(random);
  return row;
}

// The norm of the row less what its code says, in double.
double ErrorOf(const std::vector<float>& row, const RowCode& code,
               const std::vector<uint8_t>& bytes) {
  double square = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double decoded = double{code.offset} + double{code.scale} * static_cast<double>(bytes[i]);
    square += (double{row[i]} - decoded) * (double{row[i]} - decoded);
  }
  return std::sqrt(square);
}

TEST(RowCode, EveryTargetSumsAsTheScalarOne) {
  std::mt19937_64 random(1);
  for (const size_t bytes : {size_t{64}, size_t{128}, size_t{832}, size_t{4096}}) {
    for (const size_t count : {1, 2, 3, 4, 5, 63, 64}) {
      std::vector<uint8_t> codes(bytes * count + 1);
      std::vector<int8_t> query(bytes + 1);
      const bool extremes = count % 2 == 1;  // The largest products, all of one sign.
      for (uint8_t& x : codes) x = extremes ? 127 : static_cast<uint8_t>(random() % 128);
      for (int8_t& x : query) {
        x = extremes ? int8_t{-127} : static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
      }
      const std::vector<NamedCodeKernels> all = AllCodeKernels();
      std::vector<int32_t> expected(count), got(count);
      // From an odd address: nothing needs alignment.
      all.back().dots(query.data() + 1, codes.data() + 1, bytes, count, expected.data());
      for (const NamedCodeKernels& kernels : all) {
        kernels.dots(query.data() + 1, codes.data() + 1, bytes, count, got.data());
        EXPECT_EQ(got, expected) << kernels.target << ": " << bytes << " bytes, " << count;
      }
    }
  }
}

TEST(RowCode, KeepsAnErrorThatHoldsOnEveryTarget) {
  std::mt19937_64 random(2);
  for (const size_t dim : Dims()) {
    for (const float offset : {0.0F, 300.0F}) {
      const std::vector<float> row = RandomRow(dim, 3, offset, random);
      for (const NamedCodeKernels& kernels : AllCodeKernels()) {
        std::vector<uint8_t> bytes(RowCodeBytes(dim), 255);
        const RowCode code = kernels.encode(row, bytes.data());
        const double error = ErrorOf(row, code, bytes);
        const std::string where = std::string(kernels.target) + ", dim " + std::to_string(dim);
        EXPECT_GE(code.error, error) << where;
        // And is not far from it: half a step at most in each dimension.
        const double half_step = code.scale / 2 * std::sqrt(static_cast<double>(dim));
        const double rounding = std::max(2e-4, 5e-8 * static_cast<double>(dim)) * code.norm;
        EXPECT_LE(code.error, half_step + rounding) << where;
        EXPECT_NEAR(code.norm, std::sqrt(SquaredNorm(row)), rounding) << where;
        for (const uint8_t x : bytes) EXPECT_LE(x, 127) << where;
        for (size_t i = dim; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0) << where;
      }
    }
  }
}

// How many of the rows have a bound above their distance, and how near the bounds are.
struct Outcome {
  size_t wrong = 0;
  double mean_gap = 0;  // Distance less bound, as a share of the mean distance's magnitude.
};

std::vector<float> BoundsOf(Metric metric, const std::vector<std::vector<float>>& rows,
                            const std::vector<float>& query) {
  const size_t bytes = RowCodeBytes(query.size());
  std::vector<uint8_t> codes(rows.size() * bytes);
  std::vector<RowCode> of_row(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) of_row[i] = EncodeRow(rows[i], &codes[i * bytes]);
  QueryCode query_code;
  EncodeQuery(query, query_code);
  std::vector<float> bounds(rows.size());
  LowerBounds(metric, query_code, codes.data(), bytes, of_row.data(), rows.size(), bounds.data());
  return bounds;
}

Outcome Compare(Metric metric, const std::vector<std::vector<float>>& rows,
                const std::vector<float>& query) {
  const size_t dim = query.size();
  const std::vector<float> bounds = BoundsOf(metric, rows, query);
  Outcome outcome;
  double gap = 0, magnitude = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const DistanceKernels& kernels : {KernelsFor(metric), ScalarKernelsFor(metric)}) {
      const float distance = kernels.pair(query.data(), rows[i].data(), dim);
      if (bounds[i] > distance) ++outcome.wrong;
      gap += double{distance} - double{bounds[i]};
      magnitude += std::abs(double{distance});
    }
  }
  outcome.mean_gap = gap / magnitude;
  return outcome;
}

TEST(RowCode, BoundsAreNeverAboveTheDistance) {
  std::mt19937_64 random(3);
  for (const Metric metric : kMetrics) {
    for (const size_t dim : Dims()) {
      for (const auto& [scale, offset] : {std::pair{1.0F, 0.0F}, std::pair{1.0F, 1000.0F},
                                          std::pair{1e-12F, 0.0F}, std::pair{1e12F, 1e12F}}) {
        std::vector<std::vector<float>> rows;
        for (int i = 0; i < 70; ++i) rows.push_back(RandomRow(dim, scale, offset, random));
        // The query itself, and the zero row, are among them.
        const std::vector<float> query = RandomRow(dim, scale, offset, random);
        rows.push_back(query);
        rows.emplace_back(dim, 0.0F);
        EXPECT_EQ(Compare(metric, rows, query).wrong, 0u)
            << MetricName(metric) << ", dim " << dim << ", scale " << scale << ", " << offset;
      }
    }
  }
}

// The offset times the sum of the query's code, and what the code takes off again, are then many
// times what is left of them.
TEST(RowCode, BoundsHoldWhereOneElementIsNearlyAllOfTheRow) {
  std::mt19937_64 random(6);
  for (const size_t dim : Dims()) {
    std::vector<std::vector<float>> rows;
    for (const float large : {-1e6F, 1e6F, -1000.0F, 3.0F}) {
      for (const float small : {0.0F, 1e-3F, 1.0F}) {
        rows.push_back(RandomRow(dim, small, 0, random));
        rows.back()[dim / 2] = large;
        rows.emplace_back(dim, small);
        rows.back()[dim - 1] = large;
      }
    }
    for (const Metric metric : kMetrics) {
      for (const float element : {1.0F, -1.0F, 0.3F, 1e4F}) {
        const std::vector<float> query(dim, element);
        EXPECT_EQ(Compare(metric, rows, query).wrong, 0u)
            << MetricName(metric) << ", dim " << dim << ", " << element;
      }
    }
  }
}

// As they are stored for cosine.
TEST(RowCode, BoundsHoldForRowsOfUnitLength) {
  std::mt19937_64 random(7);
  for (const size_t dim : Dims()) {
    std::vector<std::vector<float>> rows;
    for (const float offset : {0.0F, 0.1F, 5.0F}) {
      for (int i = 0; i < 20; ++i) {
        rows.push_back(RandomRow(dim, 1, offset, random));
        NormalizeL2(rows.back());
      }
    }
    // Itself, and what is next to it and opposite.
    std::vector<float> near = rows[3];
    near[0] += 1e-4F;
    NormalizeL2(near);
    std::vector<float> opposite = rows[3];
    for (float& x : opposite) x = -x;
    rows.push_back(near);
    rows.push_back(opposite);
    for (const Metric metric : kMetrics) {
      for (const size_t i : {3, 30, 50}) {
        EXPECT_EQ(Compare(metric, rows, rows[i]).wrong, 0u)
            << MetricName(metric) << ", dim " << dim << ", row " << i;
      }
    }
  }
}

// Squares of such numbers, or of their errors, are less than the least float.
TEST(RowCode, BoundsHoldWhereSquaresVanish) {
  std::mt19937_64 random(8);
  constexpr float kScales[] = {1e-22F, 1e-21F, 1e-20F, 1e-19F, 1e-18F, 1e-17F, 1e-16F, 1e-15F};
  for (const size_t dim : {1, 3, 32, 100, 784, 32768}) {
    std::vector<std::vector<float>> rows;
    for (const float scale : kScales) {
      for (const float offset : {0.0F, scale, 1e-15F}) {
        rows.push_back(RandomRow(dim, scale, offset, random));
        rows.push_back(RandomRow(dim, scale, offset, random));
      }
    }
    rows.push_back(RandomRow(dim, 1, 0, random));
    const std::vector<std::vector<float>> queries = rows;
    for (const Metric metric : kMetrics) {
      for (size_t i = 0; i < queries.size(); i += 2) {
        EXPECT_EQ(Compare(metric, rows, queries[i]).wrong, 0u)
            << MetricName(metric) << ", dim " << dim << ", query " << i;
      }
    }
  }
}

TEST(RowCode, SaysNothingOfWhatIsNotFinite) {
  std::mt19937_64 random(9);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity};
  for (const size_t dim : {1, 2, 17, 32, 100}) {
    std::vector<std::vector<float>> rows;
    rows.push_back(RandomRow(dim, 1, 0, random));
    for (const float x : bad) {
      for (const size_t place : {size_t{0}, dim / 2, dim - 1}) {
        rows.push_back(RandomRow(dim, 1, 0, random));
        rows.back()[place] = x;
      }
      rows.emplace_back(dim, x);
    }
    for (const NamedCodeKernels& kernels : AllCodeKernels()) {
      for (size_t i = 1; i < rows.size(); ++i) {
        std::vector<uint8_t> bytes(RowCodeBytes(dim), 255);
        const RowCode code = kernels.encode(rows[i], bytes.data());
        EXPECT_EQ(code.error, kInfinity) << kernels.target << ", dim " << dim << ", row " << i;
        for (const uint8_t x : bytes) EXPECT_LE(x, 127) << kernels.target;
      }
    }
    for (const Metric metric : kMetrics) {
      for (const std::vector<float>& query : rows) {
        const std::vector<float> bounds = BoundsOf(metric, rows, query);
        for (size_t i = 0; i < rows.size(); ++i) {
          if (&query == rows.data() && i == 0) continue;  // Both are finite.
          EXPECT_TRUE(std::isnan(bounds[i]) || bounds[i] == -kInfinity)
              << MetricName(metric) << ", dim " << dim << ", row " << i << ": " << bounds[i];
        }
      }
    }
  }
}

TEST(RowCode, BoundsAreNearTheDistance) {
  std::mt19937_64 random(4);
  for (const size_t dim : {64, 128, 784}) {
    std::vector<std::vector<float>> rows;
    for (int i = 0; i < 200; ++i) rows.push_back(RandomRow(dim, 1, 0, random));
    const Outcome outcome = Compare(Metric::kL2, rows, RandomRow(dim, 1, 0, random));
    EXPECT_GT(outcome.mean_gap, 0);
    EXPECT_LT(outcome.mean_gap, 0.03) << "dim " << dim;
  }
}

TEST(RowCode, SaysNothingWhereNumbersOverflow) {
  std::mt19937_64 random(5);
  constexpr float kHuge = std::numeric_limits<float>::max();
  for (const Metric metric : kMetrics) {
    for (const size_t dim : {1, 2, 17, 128}) {
      std::vector<std::vector<float>> rows;
      rows.emplace_back(dim, kHuge);
      rows.emplace_back(dim, -kHuge);
      std::vector<float> both(dim, kHuge);
      both[0] = -kHuge;
      rows.push_back(both);
      rows.push_back(RandomRow(dim, 1e30F, 0, random));
      rows.push_back(RandomRow(dim, 1e-40F, 0, random));
      rows.push_back(RandomRow(dim, 1e-20F, 0, random));
      for (const std::vector<float>& query : rows) {
        EXPECT_EQ(Compare(metric, rows, query).wrong, 0u) << MetricName(metric) << ", dim " << dim;
      }
    }
  }
}

TEST(RowCode, OfARangeThatOverflowsHasAnInfiniteError) {
  const std::vector<float> row = {std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::lowest(), 0, 1};
  std::vector<uint8_t> bytes(RowCodeBytes(row.size()));
  EXPECT_EQ(EncodeRow(row, bytes.data()).error, kInfinity);
}

TEST(RowCode, OfARowWithoutARangeIsExact) {
  const std::vector<float> row(100, 0.25F);
  std::vector<uint8_t> bytes(RowCodeBytes(row.size()));
  for (const NamedCodeKernels& kernels : AllCodeKernels()) {
    const RowCode code = kernels.encode(row, bytes.data());
    EXPECT_EQ(code.offset, 0.25F);
    EXPECT_EQ(code.scale, 0.0F);
    EXPECT_LT(code.error, 1e-4F);
  }
}

}  // namespace
}  // namespace azimuth::index
