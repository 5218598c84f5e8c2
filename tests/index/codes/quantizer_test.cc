// What codes say of distances, for all metrics, numbers of bits and transforms, and what becomes of
// rows, queries and bytes that are not as they should be.
#include "index/codes/quantizer.h"

#include "tests/index/codes/coded.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::CodedRows;
using testing::CodeKind;
using testing::kCodeKinds;
using testing::kMetrics;
using testing::NameOf;
using testing::NormalVectors;
using testing::RootMeanSquare;
using testing::TakesLong;
using testing::Vectors;

constexpr size_t kDims[] = {1, 2, 3, 15, 31, 63, 64, 65, 100, 127, 128, 129, 200, 784};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Quantizer Train(Metric metric, const Vectors& vectors, CodeKind kind, uint64_t seed = 1) {
  return Quantizer::Train(metric, vectors.dim, vectors.rows(), {kind.bits, kind.transform, seed});
}

absl::StatusOr<Quantizer> Open(const std::string& bytes, size_t dim = 5) {
  return Quantizer::Open(Metric::kL2, dim, std::as_bytes(std::span(bytes)));
}

// Rows whose every dimension takes each level once: dimension i of row r is (r + i) % levels.
Vectors Levels(size_t levels, size_t dim) {
  Vectors rows{dim, {}};
  for (size_t r = 0; r < levels; ++r) {
    for (size_t i = 0; i < dim; ++i) rows.data.push_back(static_cast<float>((r + i) % levels));
  }
  return rows;
}

double Distance(Metric metric, const float* a, const float* b, size_t dim) {
  double square = 0;
  double product = 0;
  for (size_t i = 0; i < dim; ++i) {
    square += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    product += double{a[i]} * b[i];
  }
  return metric == Metric::kL2 ? square : metric == Metric::kIp ? -product : 1 - product;
}

// Root of the mean square of what estimates miss.
double ErrorOf(Metric metric, const CodedRows& coded, const Vectors& rows, const Vectors& queries) {
  double squares = 0;
  for (size_t q = 0; q < queries.count(); ++q) {
    const std::vector<float> estimates = coded.Distances(queries.row(q));
    for (size_t i = 0; i < rows.count(); ++i) {
      const double error = estimates[i] - Distance(metric, queries.row(q), rows.row(i), rows.dim);
      squares += error * error;
    }
  }
  return std::sqrt(squares / static_cast<double>(rows.count() * queries.count()));
}

// Errors are those of a product of a query with what a row's code loses, which points anywhere: the
// product of the norms and the root of the loss, over the root of dimensions.
TEST(Quantizer, EstimatesAreAsCloseAsTheLossSays) {
  for (const Metric metric : kMetrics) {
    for (const size_t dim : kDims) {
      const Vectors rows = NormalVectors(300, dim, 1, metric);
      const Vectors queries = NormalVectors(20, dim, 2, metric);
      const double size =
          RootMeanSquare(rows) * RootMeanSquare(queries) / std::sqrt(static_cast<double>(dim));
      for (const CodeKind kind : kCodeKinds) {
        if (TakesLong(kind, dim)) continue;
        const Quantizer quantizer = Train(metric, rows, kind);
        const double loss = quantizer.Loss(rows.rows());
        const double of_query = 0.015;
        // Of 7 bits, once for the row and once for the query.
        const double of_map = kind.transform == CodeTransform::kProjected ? 0.03 : 0;
        const double bound =
            1.3 * (metric == Metric::kL2 ? 2 : 1) * size * (std::sqrt(loss) + of_query + of_map);
        EXPECT_LE(ErrorOf(metric, CodedRows(quantizer, rows), rows, queries), bound)
            << MetricName(metric) << ", " << NameOf(kind) << ", dim " << dim << ", loss " << loss;
        EXPECT_LE(loss, kind.bits == CodeBits::k8 ? 0.001 : 0.02)
            << MetricName(metric) << ", " << NameOf(kind) << ", dim " << dim;
        if (dim > 3) {
          EXPECT_GT(loss, kind.bits == CodeBits::k8 ? 1e-5 : 0.002) << NameOf(kind);
        }
      }
    }
  }
}

// An offset that all rows share costs nothing.
TEST(Quantizer, IsRelativeToACenter) {
  for (const CodeKind kind : kCodeKinds) {
    double errors[2] = {};
    for (const float offset : {0.0F, 100.0F}) {
      const Vectors rows = NormalVectors(300, 100, 1, Metric::kL2, offset);
      const Vectors queries = NormalVectors(20, 100, 2, Metric::kL2, offset);
      const Quantizer quantizer = Train(Metric::kL2, rows, kind);
      errors[offset > 0] = ErrorOf(Metric::kL2, CodedRows(quantizer, rows), rows, queries);
    }
    EXPECT_NEAR(errors[1] / errors[0], 1, 0.1) << NameOf(kind);
  }
}

// The mean over many rotations, of one row and one query that are not theirs.
TEST(Quantizer, EstimatesOfRotatedCodesAreUnbiased) {
  constexpr int kSeeds = 400;
  for (const size_t dim : {size_t{64}, size_t{100}}) {
    Vectors rows = NormalVectors(2, dim, 5);
    // Far from evenly spread, and in parts as the query.
    for (size_t i = 0; i < dim; ++i) rows.data[i] *= i % 7 == 0 ? 5.0F : 0.1F;
    Vectors query = rows;
    query.data.resize(dim);
    for (size_t i = 0; i < dim; i += 3) query.data[i] += 1;
    for (const CodeBits bits : {CodeBits::k4, CodeBits::k8}) {
      double sum = 0;
      double squares = 0;
      const double exact = Distance(Metric::kIp, query.row(0), rows.row(0), dim);
      for (int seed = 1; seed <= kSeeds; ++seed) {
        const Quantizer quantizer =
            Train(Metric::kIp, rows, {bits, CodeTransform::kRotated}, static_cast<uint64_t>(seed));
        const double error = CodedRows(quantizer, rows).Distances(query.row(0))[0] - exact;
        sum += error;
        squares += error * error;
      }
      const double mean = sum / kSeeds;
      const double deviation = std::sqrt(squares / kSeeds - mean * mean);
      EXPECT_GT(deviation, 0);
      EXPECT_LE(std::abs(mean), 4 * deviation / std::sqrt(kSeeds))
          << static_cast<int>(bits) << " bits, dim " << dim;
    }
  }
}

// A row's own scale makes up for what its code is shorter.
TEST(Quantizer, ARowIsAtNoDistanceOfItself) {
  for (const CodeKind kind : kCodeKinds) {
    for (const size_t dim : {size_t{64}, size_t{129}, size_t{784}}) {
      if (TakesLong(kind, dim)) continue;
      const Vectors rows = NormalVectors(200, dim, 1);
      const Quantizer quantizer = Train(Metric::kL2, rows, kind);
      const CodedRows coded(quantizer, rows);
      double sum = 0;
      for (size_t i = 0; i < rows.count(); ++i) sum += coded.Distances(rows.row(i))[i];
      const double square = RootMeanSquare(rows) * RootMeanSquare(rows);
      EXPECT_NEAR(sum / 200, 0, 0.002 * square) << NameOf(kind) << ", dim " << dim;
    }
  }
}

// Of which no code says anything.
TEST(Quantizer, ARowAtTheCenterIsAtItsDistance) {
  for (const CodeKind kind : kCodeKinds) {
    const size_t levels = kind.bits == CodeBits::k8 ? 128 : 16;
    const float middle = static_cast<float>(levels - 1) / 2;
    const Quantizer quantizer = Train(Metric::kL2, Levels(levels, 65), kind);
    const Vectors center{65, std::vector<float>(65, middle)};
    const Vectors queries = NormalVectors(10, 65, 2);
    for (size_t q = 0; q < queries.count(); ++q) {
      const double exact = Distance(Metric::kL2, queries.row(q), center.row(0), 65);
      EXPECT_NEAR(CodedRows(quantizer, center).Distances(queries.row(q))[0], exact, 1e-5 * exact)
          << NameOf(kind);
    }
  }
}

TEST(Quantizer, IsTheSameAfterSaveAndOpen) {
  for (const Metric metric : kMetrics) {
    for (const size_t dim : kDims) {
      const Vectors rows = NormalVectors(50, dim, 1, metric, 0.5F);
      for (const CodeKind kind : kCodeKinds) {
        if (TakesLong(kind, dim)) continue;
        const Quantizer quantizer = Train(metric, rows, kind, 99);
        const std::string saved = quantizer.Save();
        ASSERT_OK_AND_ASSIGN(const Quantizer opened,
                             Quantizer::Open(metric, dim, std::as_bytes(std::span(saved))));
        EXPECT_EQ(opened.Save(), saved);
        EXPECT_EQ(opened.bits(), kind.bits);
        EXPECT_EQ(opened.transform(), kind.transform);
        const CodedRows before(quantizer, rows);
        const CodedRows after(opened, rows);
        EXPECT_TRUE(std::ranges::equal(before.bytes(), after.bytes())) << NameOf(kind);
        EXPECT_EQ(std::memcmp(before.factors().data(), after.factors().data(),
                              before.factors().size() * sizeof(CodeFactors)),
                  0);
        EXPECT_EQ(before.Distances(rows.row(7)), after.Distances(rows.row(7)));
      }
    }
  }
}

// --- Layout
// ---------------------------------------------------------------------------------------

TEST(Quantizer, AByteIsADimensionOf8Bits) {
  for (const size_t dim : kDims) {
    const Vectors rows = Levels(128, dim);
    const Quantizer quantizer =
        Train(Metric::kL2, rows, {CodeBits::k8, CodeTransform::kPerDimension});
    CodedRows coded(quantizer, rows);
    ASSERT_EQ(quantizer.code_bytes(), (dim + 63) / 64 * 64);
    EXPECT_EQ(quantizer.used_bytes(), dim);
    for (size_t r = 0; r < 128; r += 5) {
      for (size_t i = 0; i < dim; ++i) ASSERT_EQ(coded.code(r)[i], (r + i) % 128) << "dim " << dim;
    }
  }
}

// Of whole blocks of 128 the first 64 are in the low halves of 64 bytes; of the rest, its first
// half.
TEST(Quantizer, HalfAByteIsADimensionOf4Bits) {
  for (const size_t dim : kDims) {
    const Vectors rows = Levels(16, dim);
    const Quantizer quantizer =
        Train(Metric::kL2, rows, {CodeBits::k4, CodeTransform::kPerDimension});
    CodedRows coded(quantizer, rows);
    const size_t whole = dim / 128 * 128;
    const size_t rest = dim - whole;
    ASSERT_EQ(quantizer.code_bytes(), whole / 2 + (rest > 0 ? 64 : 0));
    EXPECT_EQ(quantizer.used_bytes(), whole / 2 + (rest + 1) / 2);
    for (size_t r = 0; r < 16; ++r) {
      std::vector<uint8_t> decoded;
      for (size_t block = 0; block < whole / 2; block += 64) {
        for (size_t i = 0; i < 64; ++i) decoded.push_back(coded.code(r)[block + i] & 15);
        for (size_t i = 0; i < 64; ++i) decoded.push_back(coded.code(r)[block + i] >> 4);
      }
      const uint8_t* last = coded.code(r) + whole / 2;
      for (size_t i = 0; i < (rest + 1) / 2; ++i) decoded.push_back(last[i] & 15);
      for (size_t i = 0; i < rest / 2; ++i) decoded.push_back(last[i] >> 4);
      ASSERT_EQ(decoded.size(), dim);
      for (size_t i = 0; i < dim; ++i) ASSERT_EQ(decoded[i], (r + i) % 16) << "dim " << dim;
    }
  }
}

TEST(Quantizer, BytesThatAreNotUsedMayHoldAnything) {
  for (const CodeKind kind : kCodeKinds) {
    for (const size_t dim : kDims) {
      if (TakesLong(kind, dim)) continue;
      const Vectors rows = NormalVectors(20, dim, 1);
      const Quantizer quantizer = Train(Metric::kL2, rows, kind);
      CodedRows coded(quantizer, rows);
      const std::vector<float> before = coded.Distances(rows.row(3));
      for (size_t i = 0; i < rows.count(); ++i) {
        std::fill(coded.code(i) + quantizer.used_bytes(), coded.code(i) + quantizer.code_bytes(),
                  uint8_t{0xA5});
      }
      EXPECT_EQ(coded.Distances(rows.row(3)), before) << NameOf(kind) << ", dim " << dim;
    }
  }
}

TEST(Quantizer, WritesEveryByteOfACode) {
  for (const CodeKind kind : kCodeKinds) {
    const Vectors rows = NormalVectors(20, 65, 1);
    const Quantizer quantizer = Train(Metric::kL2, rows, kind);
    CodedRows expected(quantizer, rows);
    EncodeScratch scratch;
    std::vector<uint8_t> code(quantizer.code_bytes() + 1, 0xFF);
    quantizer.Encode(rows.row(1), scratch, code.data());
    EXPECT_TRUE(std::equal(code.begin(), code.end() - 1, expected.code(1))) << NameOf(kind);
    EXPECT_EQ(code.back(), 0xFF);
  }
}

// --- Rows and queries that are not as others
// ------------------------------------------------------

TEST(Quantizer, RowsWithoutACodeAreNeverNear) {
  for (const Metric metric : kMetrics) {
    for (const CodeKind kind : kCodeKinds) {
      Vectors rows = NormalVectors(100, 65, 1, metric);
      const Quantizer quantizer = Train(metric, rows, kind);
      const std::vector<float> before = CodedRows(quantizer, rows).Distances(rows.row(50));
      const float bad[] = {kNan, kInfinity, -kInfinity, 1e30F, FLT_MAX, -FLT_MAX};
      for (size_t i = 0; i < std::size(bad); ++i) rows.data[i * 65 + 10 * i] = bad[i];
      const std::vector<float> after = CodedRows(quantizer, rows).Distances(rows.row(50));
      for (size_t i = 0; i < rows.count(); ++i) {
        if (i < std::size(bad)) {
          EXPECT_TRUE(std::isnan(after[i])) << bad[i] << ": " << after[i];
        } else {
          EXPECT_EQ(after[i], before[i]);
        }
      }
    }
  }
}

TEST(Quantizer, AFewWildRowsOfASampleSpoilNoOther) {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const CodeKind kind : kCodeKinds) {
      const Vectors good = NormalVectors(500, 65, 1);
      const double loss = Train(metric, good, kind).Loss(good.rows());
      for (const float wild : {kNan, kInfinity, 1e6F, 1e15F, 1e30F, FLT_MAX}) {
        Vectors sample = good;
        sample.data[65 * 100 + 3] = wild;
        sample.data[65 * 400 + 64] = -wild;
        const Quantizer quantizer = Train(metric, sample, kind);
        EXPECT_LE(quantizer.Loss(good.rows()), 1.1 * loss) << NameOf(kind) << ", " << wild;
        // Of the wild ones, too, estimates are as good as they can be.
        for (const float distance : CodedRows(quantizer, sample).Distances(good.row(0))) {
          EXPECT_TRUE(std::isnan(distance) || std::isfinite(distance)) << wild;
        }
      }
    }
  }
}

// No row is near by having nothing in it.
TEST(Quantizer, ASampleOfNoFiniteRowIsASampleOfNothing) {
  for (const CodeKind kind : kCodeKinds) {
    const Vectors bad{3, std::vector<float>(6, kNan)};
    const Quantizer quantizer = Train(Metric::kL2, bad, kind);
    EXPECT_EQ(quantizer.Loss(bad.rows()), 0);
    const Vectors rows = NormalVectors(10, 3, 1);
    const CodedRows coded(quantizer, rows);
    for (size_t i = 0; i < rows.count(); ++i) {
      EXPECT_TRUE(std::isfinite(coded.Distances(rows.row(0))[i])) << NameOf(kind);
    }
    ASSERT_OK(Open(quantizer.Save(), 3));
  }
}

TEST(Quantizer, RowsThatAreAllTheSameAreAtTheirDistance) {
  for (const Metric metric : kMetrics) {
    for (const CodeKind kind : kCodeKinds) {
      for (const size_t dim : {size_t{1}, size_t{3}, size_t{65}}) {
        for (const size_t count : {size_t{1}, size_t{40}}) {
          const Vectors one = NormalVectors(1, dim, 1, metric);
          Vectors rows = one;
          for (size_t i = 1; i < count; ++i) {
            rows.data.insert(rows.data.end(), one.data.begin(), one.data.end());
          }
          const Quantizer quantizer = Train(metric, rows, kind);
          const Vectors queries = NormalVectors(5, dim, 2, metric);
          for (size_t q = 0; q < queries.count(); ++q) {
            const double exact = Distance(metric, queries.row(q), one.row(0), dim);
            for (const float distance : CodedRows(quantizer, rows).Distances(queries.row(q))) {
              EXPECT_NEAR(distance, exact, 1e-5 * (1 + std::abs(exact)) * std::sqrt(dim))
                  << MetricName(metric) << ", " << NameOf(kind) << ", dim " << dim;
            }
          }
          // Another row than those of the sample.
          const float other = CodedRows(quantizer, queries).Distances(queries.row(1))[0];
          EXPECT_TRUE(std::isfinite(other)) << NameOf(kind);
        }
      }
    }
  }
}

TEST(Quantizer, DimensionsThatDoNotVaryCostNothing) {
  for (const CodeKind kind : kCodeKinds) {
    Vectors rows = NormalVectors(300, 100, 1);
    Vectors queries = NormalVectors(20, 100, 2);
    for (Vectors* all : {&rows, &queries}) {
      for (size_t i = 0; i < all->data.size(); ++i) {
        if (i % 100 >= 60) all->data[i] = static_cast<float>(i % 100) / 10;
      }
    }
    const Quantizer quantizer = Train(Metric::kL2, rows, kind);
    const double error = ErrorOf(Metric::kL2, CodedRows(quantizer, rows), rows, queries);
    // As of 60 dimensions: 2 |q| |v| / sqrt(60), times the root of the loss.
    EXPECT_LE(error, 1.3 * 2 * std::sqrt(60) * (kind.bits == CodeBits::k8 ? 0.045 : 0.15))
        << NameOf(kind);
  }
}

TEST(Quantizer, QueriesOfZeroOrNextToNothing) {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const CodeKind kind : kCodeKinds) {
      for (const float element : {0.0F, -0.0F, 1e-45F, 1e-40F, 1e-38F, -1e-36F, 1e-30F}) {
        const Vectors rows = NormalVectors(100, 65, 1);
        const Quantizer quantizer = Train(metric, rows, kind);
        const std::vector<float> query(65, element);
        const std::vector<float> distances = CodedRows(quantizer, rows).Distances(query.data());
        for (size_t i = 0; i < rows.count(); ++i) {
          const double exact = Distance(metric, query.data(), rows.row(i), 65);
          EXPECT_NEAR(distances[i], exact, metric == Metric::kL2 ? 0.05 * exact : 1e-6)
              << NameOf(kind) << ", " << element;
        }
      }
    }
  }
}

TEST(Quantizer, QueriesThatOverflowAreNearNothing) {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const CodeKind kind : kCodeKinds) {
      for (const size_t dim : {size_t{1}, size_t{3}, size_t{65}, size_t{784}}) {
        if (TakesLong(kind, dim)) continue;
        const Vectors rows = NormalVectors(20, dim, 1);
        const Quantizer quantizer = Train(metric, rows, kind);
        for (const float element : {1e30F, FLT_MAX, -FLT_MAX}) {
          const std::vector<float> query(dim, element);
          for (const float distance : CodedRows(quantizer, rows).Distances(query.data())) {
            EXPECT_TRUE(std::isnan(distance))
                << NameOf(kind) << ", dim " << dim << ": " << distance;
          }
        }
      }
    }
  }
}

TEST(Quantizer, RowsNextToNothing) {
  for (const CodeKind kind : kCodeKinds) {
    for (const float scale : {1e-45F, 1e-39F, 1e-37F, 1e-20F}) {
      Vectors rows = NormalVectors(100, 65, 1);
      for (float& x : rows.data) x *= scale;
      const Quantizer quantizer = Train(Metric::kL2, rows, kind);
      const CodedRows coded(quantizer, rows);
      const Vectors query = NormalVectors(1, 65, 2);
      for (const float distance : coded.Distances(query.row(0))) {
        EXPECT_NEAR(distance, 65, 35) << NameOf(kind) << ", " << scale;
      }
      ASSERT_OK(Open(quantizer.Save(), 65));
    }
  }
}

// A query keeps its memory, and what the last one left in it does not matter.
TEST(Quantizer, AnEncodedQueryIsReused) {
  const Vectors wide = NormalVectors(50, 200, 1);
  const Vectors narrow = NormalVectors(50, 31, 1);
  EncodedQuery reused;
  for (int round = 0; round < 3; ++round) {
    for (const Vectors* rows : {&wide, &narrow}) {
      for (const CodeKind kind : kCodeKinds) {
        const Quantizer quantizer = Train(Metric::kL2, *rows, kind);
        EncodedQuery fresh;
        quantizer.EncodeQuery(rows->row(1), quantizer.code_bytes(), fresh);
        quantizer.EncodeQuery(rows->row(1), quantizer.code_bytes(), reused);
        const size_t size = quantizer.code_bytes() * (kind.bits == CodeBits::k4 ? 2 : 1);
        EXPECT_EQ(std::memcmp(fresh.view().code, reused.view().code, size), 0);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(reused.view().code) % kCodeAlignment, 0u);
        EXPECT_EQ(fresh.view().off, reused.view().off);
        EXPECT_EQ(fresh.norm(), reused.norm());
      }
    }
  }
}

// --- Bytes
// ----------------------------------------------------------------------------------------

std::string With(std::string bytes, size_t offset, const std::string& other) {
  return bytes.replace(offset, other.size(), other);
}
std::string With(std::string bytes, size_t offset, float number) {
  std::memcpy(&bytes[offset], &number, sizeof(number));
  return bytes;
}

TEST(Quantizer, OpenSaysWhatIsWrongWithBytes) {
  for (const CodeKind kind : kCodeKinds) {
    const std::string good = Train(Metric::kL2, NormalVectors(30, 5, 1), kind).Save();
    ASSERT_OK(Open(good));
    for (size_t size = 0; size < good.size(); ++size) {
      EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
    }
    const auto says = [&](const std::string& bytes, const std::string& what) {
      EXPECT_THAT(Open(bytes), StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr(what)));
    };
    says(good + '\0', kind.transform == CodeTransform::kProjected ? "instead of" : "too many");
    says(With(good, 0, "x"), "magic");
    for (const char bits : {'\0', '\1', '\5', '\x10', '\xFF'})
      says(With(good, 4, std::string(1, bits)), "bits");
    for (const char transform : {'\0', '\4', '\xFF'}) {
      says(With(good, 5, std::string(1, transform)), "transform");
    }
    says(With(good, 6, "\1"), "reserved");
    const size_t center_end = 16 + 5 * sizeof(float);
    const size_t floats_end =
        kind.transform == CodeTransform::kProjected ? center_end : good.size();
    for (size_t at = 16; at < floats_end; at += sizeof(float)) {
      for (const float bad : {kNan, kInfinity, -kInfinity}) says(With(good, at, bad), "finite");
    }
    EXPECT_THAT(Open(good, 4), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Open(good, 6), StatusIs(absl::StatusCode::kDataLoss));
    if (kind.transform != CodeTransform::kPerDimension) continue;
    for (size_t at = center_end; at < good.size(); at += sizeof(float)) {
      for (const float bad : {0.0F, -0.0F, -1.0F}) says(With(good, at, bad), "scale");
    }
  }
}

TEST(Quantizer, WhatOpensFromDamagedBytesWorks) {
  const Vectors rows = NormalVectors(30, 5, 1);
  const float queries[][5] = {{1, 2, 3, 4, 5}, {FLT_MAX, FLT_MAX, 0, -FLT_MAX, 1}, {0, 0, 0, 0, 0}};
  for (const CodeKind kind : kCodeKinds) {
    const std::string good = Train(Metric::kL2, rows, kind).Save();
    size_t opened = 0;
    for (size_t at = 0; at < good.size(); ++at) {
      for (const char byte : {'\0', '\1', '\x7F', '\x80', '\xFE', '\xFF'}) {
        const auto quantizer = Open(With(good, at, std::string(1, byte)));
        if (!quantizer.ok()) {
          EXPECT_THAT(quantizer.status(), StatusIs(absl::StatusCode::kDataLoss));
          continue;
        }
        ++opened;
        const CodedRows coded(*quantizer, rows);
        for (const float* query : queries) EXPECT_EQ(coded.Distances(query).size(), 30u);
      }
    }
    EXPECT_GT(opened, 50u);
  }
}

}  // namespace
}  // namespace azimuth::index
