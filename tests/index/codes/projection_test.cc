// Maps to fewer dimensions, and what becomes of vectors and bytes that are not as they should be.
#include "index/codes/projection.h"

#include "tests/index/codes/components.h"
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
using testing::Find;
using testing::Geometric;
using testing::NormalVectors;
using testing::ProductOf;
using testing::Spread;
using testing::Vectors;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kHeader = 8;

using Matrix = std::vector<std::vector<double>>;

// What the bytes of Save say: a row for each dimension of what comes out.
Matrix Decoded(const Projection& projection, size_t dim) {
  const std::string bytes = projection.Save();
  EXPECT_EQ(bytes.size(), kHeader + projection.count() * (sizeof(float) + dim));
  Matrix matrix(projection.count(), std::vector<double>(dim));
  for (size_t i = 0; i < projection.count(); ++i) {
    float scale = 0;
    std::memcpy(&scale, &bytes[kHeader + i * sizeof(float)], sizeof(scale));
    for (size_t at = 0; at < dim; ++at) {
      const size_t place = kHeader + projection.count() * sizeof(float) + i * dim + at;
      matrix[i][at] = scale * (static_cast<uint8_t>(bytes[place]) - 64.0);
    }
  }
  return matrix;
}

std::vector<float> Mapped(const Projection& projection, std::vector<float> values) {
  const std::vector<float> before = values;
  std::vector<int8_t> memory;
  std::vector<float> out(projection.count() + 1, -5);
  projection.Apply(values.data(), memory, out.data());
  EXPECT_EQ(std::memcmp(values.data(), before.data(), values.size() * sizeof(float)), 0);
  EXPECT_EQ(out.back(), -5) << "past the end";
  out.pop_back();
  return out;
}

absl::StatusOr<Projection> Open(const std::string& bytes, size_t dim) {
  return Projection::Open(dim, std::as_bytes(std::span(bytes)));
}

constexpr size_t kDims[] = {1, 2, 3, 63, 64, 65, 130};

TEST(Projection, IsOrthonormalButForItsRounding) {
  for (const size_t dim : kDims) {
    for (const size_t count : {size_t{1}, (dim + 1) / 2, dim}) {
      const Projection projection(Find(NormalVectors(200, dim, 1), count), count, 5);
      ASSERT_EQ(projection.count(), count);
      const Matrix matrix = Decoded(projection, dim);
      for (size_t i = 0; i < count; ++i) {
        for (size_t j = 0; j <= i; ++j) {
          double product = 0;
          for (size_t at = 0; at < dim; ++at) product += matrix[i][at] * matrix[j][at];
          EXPECT_NEAR(product, i == j ? 1 : 0, 0.03) << dim << " to " << count;
        }
      }
    }
  }
}

// A vector has levels of its largest element in 127 while it is mapped.
TEST(Projection, MapsByItsBytes) {
  for (const size_t dim : kDims) {
    for (const size_t count : {size_t{1}, (dim + 1) / 2, dim}) {
      const Projection projection(Find(NormalVectors(100, dim, 1), count), count, 5);
      const Matrix matrix = Decoded(projection, dim);
      for (const float scale : {1e-30F, 1.0F, 1e15F}) {
        Vectors vectors = NormalVectors(5, dim, 2);
        for (float& x : vectors.data) x *= scale;
        for (size_t v = 0; v < vectors.count(); ++v) {
          const std::vector<float> values(vectors.row(v), vectors.row(v) + dim);
          double largest = 0;
          for (const float x : values) largest = std::max<double>(largest, std::abs(x));
          const std::vector<float> mapped = Mapped(projection, values);
          for (size_t i = 0; i < count; ++i) {
            double exact = 0;
            double size = 0;
            double largest_element = 0;
            for (size_t at = 0; at < dim; ++at) {
              exact += matrix[i][at] * values[at];
              size += std::abs(matrix[i][at]);
              largest_element = std::max(largest_element, std::abs(matrix[i][at]));
            }
            // And sums of levels that are not centered, as floats.
            const double rounding = 1e-6 * largest * largest_element * 2 * static_cast<double>(dim);
            EXPECT_NEAR(mapped[i], exact, 0.501 * largest / 127 * size + rounding)
                << dim << " to " << count << ", " << scale;
          }
        }
      }
    }
  }
}

TEST(Projection, KeepsTheLengthsOfWhatVaries) {
  std::vector<float> eight(64, 0);
  std::fill_n(eight.begin(), 8, 1.0F);
  const Vectors rows = Spread(300, eight, 1);
  const Projection projection(Find(rows, 8), 8, 5);
  double before = 0;
  double after = 0;
  for (size_t i = 0; i < rows.count(); ++i) {
    const std::vector<float> values(rows.row(i), rows.row(i) + 64);
    const std::vector<float> mapped = Mapped(projection, values);
    const double length = ProductOf(values.data(), values.data(), 64);
    EXPECT_NEAR(ProductOf(mapped.data(), mapped.data(), 8), length, 0.1 * length);
    before += length;
    after += ProductOf(mapped.data(), mapped.data(), 8);
  }
  EXPECT_NEAR(after, before, 0.01 * before);
}

// As many levels serve all of them then.
TEST(Projection, SpreadsWhatARowIsEvenly) {
  const Vectors rows = Spread(1000, Geometric(32, 0.7F), 1);
  const PrincipalComponents components = Find(rows, 16);
  ASSERT_GT(components.variances[0], 1000 * components.variances[15]);
  const Projection projection(components, 16, 5);
  std::vector<double> squares(16, 0);
  for (size_t i = 0; i < rows.count(); ++i) {
    const std::vector<float> mapped = Mapped(projection, {rows.row(i), rows.row(i) + 32});
    for (size_t at = 0; at < 16; ++at) squares[at] += double{mapped[at]} * mapped[at];
  }
  const auto [least, most] = std::ranges::minmax(squares);
  EXPECT_LT(most, 30 * least);
}

TEST(Projection, DependsOnItsSeed) {
  const PrincipalComponents components = Find(NormalVectors(100, 40, 1), 20);
  EXPECT_EQ(Projection(components, 20, 5).Save(), Projection(components, 20, 5).Save());
  EXPECT_NE(Projection(components, 20, 5).Save(), Projection(components, 20, 6).Save());
  EXPECT_EQ(Projection(components, 10, 5).count(), 10U);
  EXPECT_EQ(Projection().count(), 0U);
}

TEST(Projection, OfVectorsThatAreNotAsOthers) {
  const Projection projection(Find(NormalVectors(100, 40, 1), 20), 20, 5);
  for (const float bad : {kInfinity, -kInfinity}) {
    std::vector<float> values(40, 1);
    values[17] = bad;
    for (const float mapped : Mapped(projection, values)) EXPECT_TRUE(std::isnan(mapped));
  }
  for (const float small : {0.0F, -0.0F, 1e-45F, 1e-40F}) {
    for (const float mapped : Mapped(projection, std::vector<float>(40, small))) {
      EXPECT_NEAR(mapped, 0, 1e-38);
    }
  }
  for (const float mapped : Mapped(projection, std::vector<float>(40, 1e30F))) {
    EXPECT_TRUE(std::isfinite(mapped));
  }
}

TEST(Projection, IsTheSameAfterSaveAndOpen) {
  for (const size_t dim : kDims) {
    for (const size_t count : {size_t{1}, (dim + 1) / 2, dim}) {
      const Projection projection(Find(NormalVectors(50, dim, 1), count), count, 5);
      const std::string saved = projection.Save();
      ASSERT_OK_AND_ASSIGN(const Projection opened, Open(saved, dim));
      EXPECT_EQ(opened.Save(), saved);
      EXPECT_EQ(opened.count(), count);
      const Vectors vector = NormalVectors(1, dim, 2);
      EXPECT_EQ(Mapped(opened, vector.data), Mapped(projection, vector.data));
    }
  }
}

constexpr size_t kDim = 7;

TEST(Projection, OpenSaysWhatIsWrongWithBytes) {
  constexpr size_t kCount = 3;
  const std::string good = Projection(Find(NormalVectors(50, kDim, 1), kCount), kCount, 5).Save();
  ASSERT_OK(Open(good, kDim));
  const auto says = [&](const std::string& bytes, const std::string& what, size_t dim = kDim) {
    EXPECT_THAT(Open(bytes, dim),
                StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr(what)));
  };
  for (size_t size = 0; size < good.size(); ++size) {
    says(good.substr(0, size), size < kHeader ? "too few for the header" : "instead of");
  }
  says(good + '\0', "instead of");
  says(good, "instead of", kDim + 1);
  says(good, "to 3 dimensions of 2", 2);
  const auto with = [&](size_t at, auto value) {
    std::string bytes = good;
    std::memcpy(&bytes[at], &value, sizeof(value));
    return bytes;
  };
  for (const uint32_t count : {0U, 8U, UINT32_MAX}) says(with(0, count), "dimensions of 7");
  for (const uint32_t count : {1U, 2U, 4U, 7U}) says(with(0, count), "instead of");
  for (size_t at = 4; at < kHeader; ++at) says(with(at, '\1'), "reserved");
  for (size_t i = 0; i < kCount; ++i) {
    for (const float scale : {kNan, kInfinity, -kInfinity, -1.0F}) {
      says(with(kHeader + 4 * i, scale), "the scale of dimension " + std::to_string(i));
    }
  }
  for (size_t at = kHeader + 4 * kCount; at < good.size(); ++at) {
    const size_t row = (at - kHeader - 4 * kCount) / kDim;
    for (const uint8_t level : {uint8_t{128}, uint8_t{255}}) {
      says(with(at, level), "an element of dimension " + std::to_string(row) + " is above 127");
    }
  }
}

TEST(Projection, WhatOpensFromDamagedBytesMaps) {
  const std::string good = Projection(Find(NormalVectors(50, kDim, 1), 3), 3, 5).Save();
  size_t opened = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(byte);
      const auto projection = Open(bytes, kDim);
      if (!projection.ok()) {
        EXPECT_THAT(projection.status(), StatusIs(absl::StatusCode::kDataLoss));
        continue;
      }
      ++opened;
      EXPECT_EQ(projection->Save(), bytes);
      Mapped(*projection, {1, -2, 3, 0, 1e18F, -1e18F, 5});
    }
  }
  // Any level is one, and most scales are.
  EXPECT_GE(opened, 3 * kDim * 128);
}

}  // namespace
}  // namespace azimuth::index
