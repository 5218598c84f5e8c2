#include "index/codes/principal_components.h"

#include "base/check.h"
#include "index/codes/products.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

namespace azimuth::index {
namespace {

// Each brings the subspace nearer to that of the largest variance by the ratio of variances.
constexpr int kRounds = 6;
// Some more than are wanted, so that the last of these settle as well.
constexpr size_t kMore = 8;

float Dot(std::span<const float> a, std::span<const float> b) {
  static const PairDistance kPair = KernelsFor(Metric::kIp).pair;  // The negative product.
  return -kPair(a.data(), b.data(), a.size());
}

void FillWithNormals(std::span<float> values, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
}

Matrix Transposed(const Matrix& matrix) {
  Matrix result(matrix.columns(), matrix.rows());
  for (size_t i = 0; i < matrix.rows(); ++i) {
    for (size_t at = 0; at < matrix.columns(); ++at) result.row(at)[i] = matrix.row(i)[at];
  }
  return result;
}

// Makes rows orthonormal: each against those before it, block by block so that most of the work is
// products of matrices (block Gram-Schmidt, twice). A row that lies among those before it becomes a
// random one.
class Orthonormalizer final {
 public:
  Orthonormalizer(Matrix& rows, std::mt19937_64& random)
      : rows_(rows),
        random_(random),
        dim_(rows.columns()),
        columns_(dim_, rows.rows()),
        shares_(kBlock, rows.rows()),
        among_(kBlock, dim_) {}

  // Of the rows as they are now; again after they were given other values.
  void Run() {
    // Twice is enough for rows that are not among the others.
    constexpr int kPasses = 2;
    constexpr int kPassesMax = 6;
    for (size_t first = 0; first < rows_.rows(); first += kBlock) {
      const size_t count = std::min(kBlock, rows_.rows() - first);
      int good = 0;
      for (int pass = 0; pass < kPassesMax && good < kPasses; ++pass) {
        good = Pass(first, count) ? good + 1 : 0;
      }
      for (size_t i = first; i < first + count; ++i) {
        for (size_t at = 0; at < dim_; ++at) columns_.row(at)[i] = rows_.row(i)[at];
      }
    }
  }

 private:
  static constexpr size_t kBlock = Matrix::kPadding;

  // False: a row is random now.
  bool Pass(size_t first, size_t count) {
    constexpr double kLeast = 1e-4;  // Of the length that is left, below it is rounding.
    double before[kBlock];
    for (size_t i = 0; i < count; ++i) before[i] = SquaredNorm(rows_.row(first + i));
    TakeOutThoseBefore(first, count);
    bool good = true;
    for (size_t i = first; i < first + count; ++i) {
      const std::span<float> row = rows_.row(i);
      for (size_t j = first; j < i; ++j) TakeOut(rows_.row(j), row);
      const double square = before[i - first];
      const double after = SquaredNorm(row);
      if (std::isfinite(square) && after > kLeast * kLeast * square) {
        Normalize(row, after);
        continue;
      }
      FillWithNormals(row, random_);
      Normalize(row, SquaredNorm(row));
      good = false;
    }
    return good;
  }

  void TakeOutThoseBefore(size_t first, size_t count) {
    if (first == 0) return;
    Products(MatrixRows::Of(rows_, first, count, dim_), MatrixRows::Of(rows_, 0, first, dim_),
             shares_.row(0).data(), shares_.stride());
    Products(MatrixRows::Of(shares_, 0, count, first), MatrixRows::Of(columns_, 0, dim_, first),
             among_.row(0).data(), among_.stride());
    for (size_t i = 0; i < count; ++i) {
      const std::span<float> row = rows_.row(first + i);
      const std::span<const float> among = among_.row(i);
      for (size_t at = 0; at < dim_; ++at) row[at] -= among[at];
    }
  }

  static void TakeOut(std::span<const float> other, std::span<float> row) {
    const float share = Dot(row, other);
    for (size_t at = 0; at < row.size(); ++at) row[at] -= share * other[at];
  }

  static void Normalize(std::span<float> row, double square) {
    const auto inverse = static_cast<float>(1 / std::sqrt(square));
    for (float& value : row) value *= inverse;
  }

  Matrix& rows_;
  std::mt19937_64& random_;
  const size_t dim_;
  Matrix columns_;  // Of the rows that are done.
  Matrix shares_;
  Matrix among_;
};

// Maps rows by the covariance of a sample.
class Covariance final {
 public:
  // For `count` rows, `rounds` times.
  Covariance(std::span<const float* const> sample, std::span<const float> center, size_t count,
             size_t rounds)
      : size_(sample.size()), columns_(center.size(), size_) {
    const size_t dim = center.size();
    for (size_t i = 0; i < size_; ++i) {
      for (size_t at = 0; at < dim; ++at) columns_.row(at)[i] = sample[i][at] - center[at];
    }
    // Of a small sample it is more work to have the matrix than to map by it.
    const double matrix = static_cast<double>(dim) * static_cast<double>(size_ + rounds * count);
    const double sample_only = 2 * static_cast<double>(size_) * static_cast<double>(rounds * count);
    if (sample_only < matrix) {
      rows_.emplace(Transposed(columns_));
      return;
    }
    matrix_.emplace(dim, dim);
    Products(MatrixRows::Of(columns_), MatrixRows::Of(columns_), matrix_->row(0).data(),
             matrix_->stride());
  }

  double variance() const {
    double sum = 0;
    for (size_t at = 0; at < columns_.rows(); ++at) sum += SquaredNorm(columns_.row(at));
    return sum / static_cast<double>(size_);
  }

  Matrix Map(const Matrix& rows) const {
    Matrix mapped(rows.rows(), rows.columns());
    if (matrix_.has_value()) {
      Products(MatrixRows::Of(rows), MatrixRows::Of(*matrix_), mapped.row(0).data(),
               mapped.stride());
    } else {
      Matrix by_sample(rows.rows(), size_);
      Products(MatrixRows::Of(rows), MatrixRows::Of(*rows_), by_sample.row(0).data(),
               by_sample.stride());
      Products(MatrixRows::Of(by_sample), MatrixRows::Of(columns_), mapped.row(0).data(),
               mapped.stride());
    }
    const float inverse = 1 / static_cast<float>(size_);
    for (size_t i = 0; i < mapped.rows(); ++i) {
      for (float& value : mapped.row(i)) value *= inverse;
    }
    return mapped;
  }

 private:
  const size_t size_;
  Matrix columns_;              // One row for each dimension.
  std::optional<Matrix> rows_;  // Of the sample, or
  std::optional<Matrix> matrix_;
};

}  // namespace

PrincipalComponents FindPrincipalComponents(size_t dim, size_t count,
                                            std::span<const float* const> sample,
                                            std::span<const float> center, uint64_t seed) {
  AZ_CHECK(count >= 1 && count <= dim);
  std::mt19937_64 random(seed);
  PrincipalComponents result;
  result.dim = dim;
  result.variances.assign(count, 0);
  Matrix rows(std::min(dim, count + kMore), dim);
  for (size_t i = 0; i < rows.rows(); ++i) FillWithNormals(rows.row(i), random);
  Orthonormalizer orthonormalizer(rows, random);
  orthonormalizer.Run();
  if (!sample.empty()) {
    const Covariance covariance(sample, center, rows.rows(), kRounds + 1);
    result.variance = covariance.variance();
    for (int round = 0; round < kRounds; ++round) {
      rows = covariance.Map(rows);
      orthonormalizer.Run();
    }
    const Matrix mapped = covariance.Map(rows);
    for (size_t i = 0; i < count; ++i) {
      result.variances[i] = Dot(rows.row(i), mapped.row(i));
    }
  }
  result.rows.reserve(count * dim);
  for (size_t i = 0; i < count; ++i) {
    const std::span<const float> row = rows.row(i);
    result.rows.insert(result.rows.end(), row.begin(), row.end());
  }
  return result;
}

}  // namespace azimuth::index
