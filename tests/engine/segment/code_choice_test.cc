#include "engine/segment/code_choice.h"

#include "index/codes/coded_vectors.h"
#include "index/graph/search.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"
#include "tests/support/sanitized.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;
using index::CodeBits;
using index::CodeTransform;
using index::testing::Clustered;
using index::testing::FourThreads;
using index::testing::OneThread;
using index::testing::Searchable;
using index::testing::Vectors;

constexpr uint64_t kSeed = 3;

VectorFieldDef Field(uint32_t dim, Quantization quantization) {
  VectorFieldDef field{.name = "v", .dim = dim, .metric = Metric::kL2};
  field.index.quantization = quantization;
  return field;
}

Vectors Normal(size_t count, size_t dim, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Vectors vectors{dim, std::vector<float>(count * dim)};
  for (float& x : vectors.data) x = normal(random);
  return vectors;
}

// Sums of `directions` that depend on `dim` only, and next to nothing of all others.
Vectors OfFewDirections(size_t count, size_t dim, size_t directions, uint64_t seed) {
  const Vectors basis = Normal(directions, dim, 77);
  const Vectors shares = Normal(count, directions, seed);
  Vectors vectors = Normal(count, dim, seed + 100);
  for (size_t i = 0; i < count; ++i) {
    for (size_t at = 0; at < dim; ++at) {
      float& value = vectors.data[i * dim + at];
      value *= 0.01F;
      for (size_t d = 0; d < directions; ++d) value += shares.row(i)[d] * basis.row(d)[at];
    }
  }
  return vectors;
}

class CodeChoiceTest : public ::testing::Test {
 protected:
  void Choose(const Vectors& vectors, Quantization quantization,
              const index::ParallelFor& parallel = OneThread) {
    searchable_.emplace(vectors, index::Metric::kL2);
    ChooseAgain(quantization, parallel);
  }
  void ChooseAgain(Quantization quantization, const index::ParallelFor& parallel) {
    codes_.reset();
    const auto dim = static_cast<uint32_t>(searchable_->rows.dim);
    auto choice =
        ChooseCodes(Field(dim, quantization), {&searchable_->before, searchable_->held_out},
                    searchable_->rows.rows(), kSeed, parallel, CancelToken());
    ASSERT_OK(choice);
    choice_ = *std::move(choice);
    EXPECT_FALSE(choice_.calibration.points().empty());
    if (!choice_.codes.has_value()) return;
    ASSERT_OK_AND_ASSIGN(codes_,
                         index::CodedVectors::Open(index::Metric::kL2, dim, choice_.codes->span()));
    EXPECT_EQ(codes_->count(), searchable_->rows.count());
  }

  // The share of the ten nearest that searches of the whole graph find at a recall of 0.95.
  double RecallOf(const Vectors& queries) const {
    const index::Calibration::Effort effort = choice_.calibration.EffortFor(
        0.95, 10, codes_->rows().stride, searchable_->rows.dim * sizeof(float));
    index::GraphScratch scratch;
    index::TopK top;
    size_t hits = 0;
    for (size_t q = 0; q < queries.count(); ++q) {
      const float* const query = queries.row(q);
      codes_->EncodeQuery(query, scratch.query);
      top.Reset(10, nullptr);
      index::WalkOptions options;
      options.ef = effort.ef;
      EXPECT_OK(index::SearchGraphByCodes(
          searchable_->graph,
          index::CodeDistances(codes_->rows(), codes_->kernels(), scratch.query.view()),
          index::VectorDistances(searchable_->nodes(), searchable_->kernels, query), options,
          index::Calibration::Rescore(10, effort.error, scratch.query.norm()), top, scratch,
          CancelToken()));
      const auto expected =
          index::testing::BruteForce(searchable_->rows, index::Metric::kL2, query, 10);
      for (const index::Neighbor& near : top.Sorted()) {
        hits += near.distance <= expected.back().distance * (1 + 1e-5F) ? 1 : 0;
      }
    }
    return static_cast<double>(hits) / static_cast<double>(10 * queries.count());
  }

  std::optional<Searchable> searchable_;
  CodeChoice choice_;
  std::optional<index::CodedVectors> codes_;
};

TEST_F(CodeChoiceTest, FewDimensionsAreNotCoded) {
  for (const size_t dim : {2, 16, 31}) {
    Choose(Clustered(300, dim, 1), Quantization::kAuto);
    EXPECT_FALSE(choice_.codes.has_value()) << dim;
    EXPECT_EQ(choice_.calibration.errors()[0], 0);
  }
  Choose(Clustered(300, 32, 1), Quantization::kAuto);
  EXPECT_TRUE(choice_.codes.has_value());
}

TEST_F(CodeChoiceTest, IsWhatTheSchemaSays) {
  for (const size_t dim : {3, 64}) {
    Choose(Clustered(300, dim, 1), Quantization::kNone);
    EXPECT_FALSE(choice_.codes.has_value());
    Choose(Clustered(300, dim, 1), Quantization::kSq8);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k8);
    EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kPerDimension);
    Choose(Clustered(300, dim, 1), Quantization::kSq4);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
    EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kPerDimension);
    Choose(Clustered(300, dim, 1), Quantization::kRabitq4);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
    EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kRotated);
    Choose(Clustered(300, dim, 1), Quantization::kPca4);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
    EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kProjected);
    EXPECT_EQ(codes_->quantizer().code_dim(), dim);
  }
}

// Rows that vary in 16 of 300 directions: of a line of memory, which has place for 112.
TEST_F(CodeChoiceTest, RowsOfFewDirectionsAreProjectedToOneLine) {
  const Vectors vectors = OfFewDirections(2000, 300, 16, 1);
  for (const Quantization quantization : {Quantization::kAuto, Quantization::kPca4}) {
    Choose(vectors, quantization);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
    EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kProjected);
    EXPECT_EQ(codes_->quantizer().code_dim(), 112U);
    EXPECT_EQ(codes_->rows().stride, 64U);
    EXPECT_GE(RecallOf(OfFewDirections(100, 300, 16, 2)), 0.93);
  }
}

// Of which each direction is worth as much: what is left out is missed.
TEST_F(CodeChoiceTest, RowsThatVaryAlikeInAllDirectionsLoseNoRecall) {
  for (const size_t dim : {128, 300}) {
    Choose(Normal(2000, dim), Quantization::kAuto);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_TRUE(choice_.calibration.Reaches(0.985));
    EXPECT_GE(RecallOf(Normal(100, dim, 2)), 0.93) << dim;
  }
}

// Of which a range for all is too coarse for most.
TEST_F(CodeChoiceTest, RowsOfDifferentRangesAreProjected) {
  constexpr float kScales[] = {0.2F, 1, 5};
  Vectors vectors = Clustered(1500, 128, 1);
  for (size_t i = 0; i < vectors.data.size(); ++i) vectors.data[i] *= kScales[i / 128 % 3];
  Choose(vectors, Quantization::kAuto);
  ASSERT_TRUE(codes_.has_value());
  EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
  EXPECT_EQ(codes_->quantizer().transform(), CodeTransform::kProjected);
}

// The map of each query would be larger than many a code.
TEST_F(CodeChoiceTest, VeryManyDimensionsAreRotatedOnly) {
  if (azimuth::testing::kSanitized) GTEST_SKIP() << "too much work for a sanitizer";
  for (const size_t dim : {4096, 4097}) {
    Choose(Clustered(60, dim, 1), Quantization::kPca4);
    ASSERT_TRUE(codes_.has_value());
    EXPECT_EQ(codes_->quantizer().bits(), CodeBits::k4);
    EXPECT_EQ(codes_->quantizer().transform(),
              dim > 4096 ? CodeTransform::kRotated : CodeTransform::kProjected);
    EXPECT_LE(codes_->quantizer().code_dim(), dim > 4096 ? dim : 624) << dim;
  }
}

// Rows of which many lie so near to each other that no code tells them apart: more than the widest
// walk that is measured finds.
TEST_F(CodeChoiceTest, CodesThatAreTooCoarseAreNotTaken) {
  Vectors vectors = Normal(4000, 32);
  for (size_t i = 0; i < vectors.data.size(); ++i) {
    vectors.data[i] = (i / 32 % 2 == 0 ? 500.0F : -500.0F) + vectors.data[i] / 10;
  }
  Choose(vectors, Quantization::kAuto);
  EXPECT_FALSE(choice_.codes.has_value());
  EXPECT_TRUE(choice_.calibration.Reaches(0.985));
}

// One row that has gone wild does not make the codes of all others the same.
TEST_F(CodeChoiceTest, AWildRowSpoilsNoOther) {
  for (const Quantization quantization :
       {Quantization::kSq8, Quantization::kSq4, Quantization::kRabitq4, Quantization::kPca4}) {
    Vectors vectors = Clustered(1500, 64, 1);
    Choose(vectors, quantization);
    const uint32_t ef = choice_.calibration.Ef(0.95, 10);
    vectors.data[700 * 64 + 5] = 1e18F;
    Choose(vectors, quantization);
    EXPECT_LE(choice_.calibration.Ef(0.95, 10), 2 * ef) << static_cast<int>(quantization);
  }
}

TEST_F(CodeChoiceTest, IsTheSameWhoeverMakesIt) {
  Choose(Clustered(1000, 64, 1), Quantization::kAuto);
  ASSERT_TRUE(choice_.codes.has_value());
  const CodeChoice first = std::move(choice_);
  ChooseAgain(Quantization::kAuto, FourThreads);
  ASSERT_TRUE(choice_.codes.has_value());
  EXPECT_TRUE(std::ranges::equal(choice_.codes->span(), first.codes->span()));
  EXPECT_EQ(choice_.calibration.Save(), first.calibration.Save());
}

TEST_F(CodeChoiceTest, OfOneRow) {
  for (const Quantization quantization :
       {Quantization::kAuto, Quantization::kRabitq4, Quantization::kPca4}) {
    const Searchable one(Clustered(1, 64, 1), index::Metric::kL2);
    const auto choice = ChooseCodes(Field(64, quantization), {&one.before, one.held_out},
                                    one.rows.rows(), kSeed, OneThread, CancelToken());
    ASSERT_OK(choice);
    // Of codes that no query measured it is not known that they are good enough.
    EXPECT_EQ(choice->codes.has_value(), quantization != Quantization::kAuto);
    EXPECT_TRUE(choice->calibration.points().empty());
  }
}

TEST_F(CodeChoiceTest, StopsWhenCancelled) {
  const Searchable some(Clustered(500, 64, 1), index::Metric::kL2);
  for (const int looks : {0, 30}) {
    int asked = 0;
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return asked++ >= looks; });
    EXPECT_THAT(ChooseCodes(Field(64, Quantization::kAuto), {&some.before, some.held_out},
                            some.rows.rows(), kSeed, OneThread, cancel)
                    .status(),
                StatusIs(absl::StatusCode::kCancelled));
  }
}

}  // namespace
}  // namespace azimuth::engine
