// Principal components: that they keep what varies most, and what they are of samples that are not
// as they should be.
#include "index/codes/principal_components.h"

#include "tests/index/codes/components.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace azimuth::index {
namespace {

using testing::Find;
using testing::Geometric;
using testing::MeanOf;
using testing::NormalVectors;
using testing::ProductOf;
using testing::Spread;
using testing::Vectors;

using Matrix = std::vector<std::vector<double>>;

Matrix CovarianceOf(const Vectors& rows, const std::vector<float>& center) {
  Matrix covariance(rows.dim, std::vector<double>(rows.dim, 0));
  for (size_t i = 0; i < rows.count(); ++i) {
    for (size_t a = 0; a < rows.dim; ++a) {
      for (size_t b = 0; b < rows.dim; ++b) {
        covariance[a][b] += (double{rows.row(i)[a]} - center[a]) *
                            (double{rows.row(i)[b]} - center[b]) /
                            static_cast<double>(rows.count());
      }
    }
  }
  return covariance;
}

// Of a symmetric matrix, descending: by rotations of Jacobi.
std::vector<double> Eigenvalues(Matrix matrix) {
  const size_t dim = matrix.size();
  for (int sweep = 0; sweep < 40; ++sweep) {
    for (size_t p = 0; p < dim; ++p) {
      for (size_t q = p + 1; q < dim; ++q) {
        if (std::abs(matrix[p][q]) < 1e-14) continue;
        const double angle = 0.5 * std::atan2(2 * matrix[p][q], matrix[q][q] - matrix[p][p]);
        const double c = std::cos(angle);
        const double s = std::sin(angle);
        for (size_t k = 0; k < dim; ++k) {
          const double a = matrix[p][k];
          const double b = matrix[q][k];
          matrix[p][k] = c * a - s * b;
          matrix[q][k] = s * a + c * b;
        }
        for (size_t k = 0; k < dim; ++k) {
          const double a = matrix[k][p];
          const double b = matrix[k][q];
          matrix[k][p] = c * a - s * b;
          matrix[k][q] = s * a + c * b;
        }
      }
    }
  }
  std::vector<double> values;
  for (size_t i = 0; i < dim; ++i) values.push_back(matrix[i][i]);
  std::sort(values.rbegin(), values.rend());
  return values;
}

double VarianceAlong(const Matrix& covariance, const float* row) {
  double variance = 0;
  for (size_t a = 0; a < covariance.size(); ++a) {
    for (size_t b = 0; b < covariance.size(); ++b) variance += row[a] * covariance[a][b] * row[b];
  }
  return variance;
}

void ExpectOrthonormal(const PrincipalComponents& components) {
  ASSERT_EQ(components.rows.size(), components.count() * components.dim);
  for (size_t i = 0; i < components.count(); ++i) {
    for (size_t j = 0; j <= i; ++j) {
      EXPECT_NEAR(ProductOf(&components.rows[i * components.dim],
                            &components.rows[j * components.dim], components.dim),
                  i == j ? 1 : 0, 1e-5)
          << i << ", " << j;
    }
  }
}

TEST(PrincipalComponents, KeepNearlyTheMostVarianceThatCanBeKept) {
  constexpr size_t kDim = 24;
  std::vector<float> stepped(kDim, 0.1F);
  std::fill_n(stepped.begin(), 5, 10.0F);
  const std::vector<float> flat(kDim, 1);
  for (const std::vector<float>& scales :
       {Geometric(kDim, 0.7F), Geometric(kDim, 0.95F), stepped, flat}) {
    Vectors rows = Spread(500, scales, 1);
    // What all rows share does not vary.
    for (size_t i = 0; i < rows.data.size(); ++i) rows.data[i] += i % kDim == 3 ? 20.0F : 0;
    const Matrix covariance = CovarianceOf(rows, MeanOf(rows));
    const std::vector<double> best = Eigenvalues(covariance);
    for (const size_t count : {size_t{1}, size_t{5}, size_t{12}, kDim}) {
      const PrincipalComponents found = Find(rows, count);
      ASSERT_EQ(found.count(), count);
      ExpectOrthonormal(found);
      double kept = 0;
      double most = 0;
      double all = 0;
      for (size_t i = 0; i < count; ++i) {
        const double along = VarianceAlong(covariance, &found.rows[i * kDim]);
        EXPECT_NEAR(found.variances[i], along, 1e-4 * best[0]) << i;
        kept += along;
        most += best[i];
      }
      for (const double value : best) all += value;
      EXPECT_NEAR(found.variance, all, 1e-4 * all);
      EXPECT_LE(kept, most * (1 + 1e-5));
      // Directions that matter nearly as much may stand for each other.
      EXPECT_GE(kept, most - (count == 1 ? 0.05 : 0.02) * all)
          << count << " of scales " << scales[1];
    }
  }
}

// More than are made orthonormal at a time; of few rows, the covariance is never made.
TEST(PrincipalComponents, OfManyDimensionsKeepTheMostThatCanBeKept) {
  constexpr size_t kDim = 90;
  constexpr size_t kCount = 50;
  for (const size_t sample : {12, 40, 400}) {
    const Vectors rows = Spread(sample, Geometric(kDim, 0.93F), 3);
    const Matrix covariance = CovarianceOf(rows, MeanOf(rows));
    const std::vector<double> best = Eigenvalues(covariance);
    const PrincipalComponents found = Find(rows, kCount);
    ExpectOrthonormal(found);
    double kept = 0;
    double most = 0;
    for (size_t i = 0; i < kCount; ++i) {
      EXPECT_NEAR(found.variances[i], VarianceAlong(covariance, &found.rows[i * kDim]),
                  1e-4 * best[0])
          << i;
      kept += found.variances[i];
      most += best[i];
    }
    EXPECT_GE(kept, 0.999 * most) << sample;
    EXPECT_LE(kept, 1.00001 * most) << sample;
  }
}

TEST(PrincipalComponents, ComeInTheOrderOfWhatVariesMost) {
  const Vectors rows = Spread(2000, Geometric(16, 0.5F), 1);
  const PrincipalComponents found = Find(rows, 8);
  for (size_t i = 1; i < 8; ++i) EXPECT_LT(found.variances[i], found.variances[i - 1]) << i;
  // So that the first of many are the same as few.
  const PrincipalComponents few = Find(rows, 3);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(std::abs(ProductOf(&found.rows[i * 16], &few.rows[i * 16], 16)), 1, 0.01) << i;
  }
}

TEST(PrincipalComponents, OfSamplesThatVaryLittle) {
  std::vector<float> three(20, 0);
  std::fill_n(three.begin(), 3, 1.0F);
  std::vector<float> two_of_many(70, 0);
  std::fill_n(two_of_many.begin(), 2, 1.0F);
  const Vectors constant{20, std::vector<float>(20 * 50, 3.5F)};
  const Vectors of_two = Spread(2, Geometric(20, 0.9F), 1);
  for (const Vectors& rows : {Spread(300, three, 1), constant, of_two}) {
    for (const size_t count : {size_t{1}, size_t{8}, size_t{20}}) {
      const PrincipalComponents found = Find(rows, count);
      ExpectOrthonormal(found);
      double kept = 0;
      for (const double variance : found.variances) kept += variance;
      // There are no more directions than three in which they vary.
      if (count >= 3) {
        EXPECT_NEAR(kept, found.variance, 1e-3 * found.variance + 1e-6);
      }
    }
  }
  EXPECT_NEAR(Find(constant, 8).variance, 0, 1e-6);
  ExpectOrthonormal(Find(Spread(300, two_of_many, 1), 70));
  ExpectOrthonormal(FindPrincipalComponents(20, 8, {}, std::vector<float>(20, 0), 1));
}

// Whose squares are past the range of a float, or nothing in it.
TEST(PrincipalComponents, OfSamplesWhoseSquaresAreOutOfRange) {
  for (const float scale : {1e19F, 1e30F, 1e-25F, 1e-38F}) {
    Vectors rows = NormalVectors(100, 12, 1);
    for (float& x : rows.data) x *= scale;
    for (const size_t count : {size_t{1}, size_t{5}, size_t{12}})
      ExpectOrthonormal(Find(rows, count));
  }
}

TEST(PrincipalComponents, OfOneDimension) {
  const PrincipalComponents found = Find(NormalVectors(100, 1, 1), 1);
  ASSERT_EQ(found.rows.size(), 1U);
  EXPECT_NEAR(std::abs(found.rows[0]), 1, 1e-6);
  EXPECT_NEAR(found.variances[0], found.variance, 1e-5);
}

}  // namespace
}  // namespace azimuth::index
