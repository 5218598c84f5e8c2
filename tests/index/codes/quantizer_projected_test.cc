// Codes of fewer dimensions than rows have.
#include "index/codes/quantizer.h"
#include "index/codes/rotation.h"
#include "tests/index/codes/coded.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using testing::CodedRows;
using testing::kMetrics;
using testing::NormalVectors;
using testing::RootMeanSquare;
using testing::Vectors;

constexpr size_t kDim = 96;
constexpr size_t kVaries = 8;

// Rows that vary in kVaries of kDim directions, and hardly (by `rest`) in the others.
Vectors Flat(size_t count, uint64_t seed, Metric metric = Metric::kL2, float rest = 0) {
  Vectors rows = NormalVectors(count, kDim, seed);
  const Rotation rotation(kDim, 77);
  for (size_t i = 0; i < count; ++i) {
    const std::span<float> row = std::span(rows.data).subspan(i * kDim, kDim);
    for (size_t at = kVaries; at < kDim; ++at) row[at] *= rest;
    rotation.Apply(row);
    if (metric == Metric::kCosine) NormalizeL2(row);
  }
  return rows;
}

QuantizerOptions Projected(CodeBits bits, size_t components, uint64_t seed = 1,
                           const PrincipalComponents* known = nullptr) {
  return {bits, CodeTransform::kProjected, seed, components, known};
}

double Exact(Metric metric, const float* a, const float* b) {
  double square = 0;
  double product = 0;
  for (size_t i = 0; i < kDim; ++i) {
    square += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    product += double{a[i]} * b[i];
  }
  return metric == Metric::kL2 ? square : metric == Metric::kIp ? -product : 1 - product;
}

double ErrorOf(Metric metric, const Quantizer& quantizer, const Vectors& rows,
               const Vectors& queries) {
  const CodedRows coded(quantizer, rows);
  double squares = 0;
  for (size_t q = 0; q < queries.count(); ++q) {
    const std::vector<float> estimates = coded.Distances(queries.row(q));
    for (size_t i = 0; i < rows.count(); ++i) {
      const double error = estimates[i] - Exact(metric, queries.row(q), rows.row(i));
      squares += error * error;
    }
  }
  return std::sqrt(squares / static_cast<double>(rows.count() * queries.count()));
}

TEST(ProjectedCodes, AreAsLongAsTheirDimensionsNeed) {
  const Vectors rows = NormalVectors(200, kDim, 1);
  const struct {
    CodeBits bits;
    size_t components;
    size_t dims;
    size_t used;
    size_t bytes;
  } cases[] = {{CodeBits::k4, 10, 10, 5, 64},  {CodeBits::k4, 11, 11, 6, 64},
               {CodeBits::k4, 0, 96, 48, 64},  {CodeBits::k4, 97, 96, 48, 64},
               {CodeBits::k8, 64, 64, 64, 64}, {CodeBits::k8, 65, 65, 65, 128},
               {CodeBits::k8, 1, 1, 1, 64}};
  for (const auto& of : cases) {
    const Quantizer quantizer =
        Quantizer::Train(Metric::kL2, kDim, rows.rows(), Projected(of.bits, of.components));
    EXPECT_EQ(quantizer.code_dim(), of.dims);
    EXPECT_EQ(quantizer.used_bytes(), of.used) << of.components;
    EXPECT_EQ(quantizer.code_bytes(), of.bytes) << of.components;
    const std::string saved = quantizer.Save();
    ASSERT_OK_AND_ASSIGN(const Quantizer opened,
                         Quantizer::Open(Metric::kL2, kDim, std::as_bytes(std::span(saved))));
    EXPECT_EQ(opened.Save(), saved);
    EXPECT_EQ(opened.code_dim(), of.dims);
    const CodedRows before(quantizer, rows);
    const CodedRows after(opened, rows);
    EXPECT_TRUE(std::ranges::equal(before.bytes(), after.bytes()));
    EXPECT_EQ(before.Distances(rows.row(7)), after.Distances(rows.row(7)));
  }
}

// What is left out of a row is nothing: a query may have anything there.
TEST(ProjectedCodes, OfRowsThatVaryInFewDirectionsAreAsGoodAsThoseOfAll) {
  for (const Metric metric : kMetrics) {
    const Vectors rows = Flat(400, 1, metric);
    for (const Vectors& queries : {Flat(20, 2, metric), NormalVectors(20, kDim, 3, metric)}) {
      const double size =
          RootMeanSquare(rows) * RootMeanSquare(queries) / std::sqrt(static_cast<double>(kVaries));
      for (const CodeBits bits : {CodeBits::k4, CodeBits::k8}) {
        const Quantizer quantizer =
            Quantizer::Train(metric, kDim, rows.rows(), Projected(bits, kVaries));
        const double loss = quantizer.Loss(rows.rows());
        EXPECT_LE(loss, bits == CodeBits::k8 ? 0.001 : 0.02);
        const double of_query_and_map = 0.015 + 0.03;
        EXPECT_LE(
            ErrorOf(metric, quantizer, rows, queries),
            1.3 * (metric == Metric::kL2 ? 2 : 1) * size * (std::sqrt(loss) + of_query_and_map))
            << MetricName(metric) << ", " << static_cast<int>(bits);
      }
    }
  }
}

// Lengths are of all dimensions, so that only products of what is left out are missing, which are
// small and of either sign.
TEST(ProjectedCodes, LeaveOutNoMoreThanTheProductOfWhatIsLeftOut) {
  constexpr float kRest = 0.3F;
  const Vectors rows = Flat(400, 1, Metric::kL2, kRest);
  const Vectors queries = Flat(20, 2, Metric::kL2, kRest);
  const Quantizer quantizer =
      Quantizer::Train(Metric::kL2, kDim, rows.rows(), Projected(CodeBits::k8, kVaries));
  // Two such products of kDim - kVaries dimensions.
  const double missing = 2 * kRest * kRest * std::sqrt(kDim - kVaries);
  const double error = ErrorOf(Metric::kL2, quantizer, rows, queries);
  EXPECT_LE(error, 1.5 * missing);
  EXPECT_GE(error, 0.7 * missing);
  const CodedRows coded(quantizer, rows);
  double sum = 0;
  for (size_t q = 0; q < queries.count(); ++q) {
    const std::vector<float> estimates = coded.Distances(queries.row(q));
    for (size_t i = 0; i < rows.count(); ++i) {
      sum += estimates[i] - Exact(Metric::kL2, queries.row(q), rows.row(i));
    }
  }
  EXPECT_NEAR(sum / static_cast<double>(queries.count() * rows.count()), 0, 0.2 * missing);
}

// The mean over many rotations, of one row and one query that are not theirs.
TEST(ProjectedCodes, EstimatesAreUnbiased) {
  constexpr int kSeeds = 400;
  const Vectors rows = Flat(200, 1);
  const PrincipalComponents known = Quantizer::Components(kDim, rows.rows(), kVaries, 1);
  Vectors query = Flat(1, 9);
  // Not across each other.
  for (size_t i = 0; i < kDim; ++i) query.data[i] += rows.data[i];
  const double exact = Exact(Metric::kIp, query.row(0), rows.row(0));
  for (const CodeBits bits : {CodeBits::k4, CodeBits::k8}) {
    double sum = 0;
    double squares = 0;
    for (int seed = 1; seed <= kSeeds; ++seed) {
      const Quantizer quantizer =
          Quantizer::Train(Metric::kIp, kDim, rows.rows(),
                           Projected(bits, kVaries, static_cast<uint64_t>(seed), &known));
      const double error = CodedRows(quantizer, rows).Distances(query.row(0))[0] - exact;
      sum += error;
      squares += error * error;
    }
    const double mean = sum / kSeeds;
    const double deviation = std::sqrt(squares / kSeeds - mean * mean);
    EXPECT_GT(deviation, 0);
    // The rounding of the map adds its own square to lengths.
    EXPECT_LE(std::abs(mean), 4 * deviation / std::sqrt(kSeeds) + 1e-3 * std::abs(exact))
        << static_cast<int>(bits);
  }
}

TEST(ProjectedCodes, ComponentsThatAreKnownAreTaken) {
  const Vectors rows = Flat(300, 1, Metric::kL2, 0.2F);
  const PrincipalComponents known = Quantizer::Components(kDim, rows.rows(), 16, 5);
  EXPECT_EQ(known.count(), 16U);
  const auto train = [&](size_t components, const PrincipalComponents* given) {
    return Quantizer::Train(Metric::kL2, kDim, rows.rows(),
                            Projected(CodeBits::k4, components, 5, given));
  };
  EXPECT_EQ(train(16, &known).Save(), train(16, nullptr).Save());
  // Or the first of them.
  EXPECT_EQ(train(kVaries, &known).code_dim(), kVaries);
  const Vectors queries = Flat(20, 2, Metric::kL2, 0.2F);
  EXPECT_NEAR(ErrorOf(Metric::kL2, train(kVaries, &known), rows, queries) /
                  ErrorOf(Metric::kL2, train(kVaries, nullptr), rows, queries),
              1, 0.1);
}

// Rows that have gone wild do not turn the components to themselves.
TEST(ProjectedCodes, WildRowsOfASampleAreLeftOut) {
  const Vectors good = Flat(500, 1);
  const Vectors queries = Flat(20, 2);
  const auto error = [&](const Vectors& sample) {
    return ErrorOf(
        Metric::kL2,
        Quantizer::Train(Metric::kL2, kDim, sample.rows(), Projected(CodeBits::k8, kVaries)), good,
        queries);
  };
  const double usual = error(good);
  for (const float wild : {std::numeric_limits<float>::quiet_NaN(), 1e6F, 1e30F}) {
    Vectors sample = good;
    sample.data[kDim * 100 + 3] = wild;
    sample.data[kDim * 400 + 64] = -wild;
    EXPECT_LE(error(sample), 1.2 * usual) << wild;
  }
}

}  // namespace
}  // namespace azimuth::index
