// Goal: the codes section has the bytes of docs/FORMATS.md.
// Method: vectors whose codes and factors are exact numbers, against bytes put together by hand.
#include "base/bytes.h"
#include "index/codes/coded_vectors.h"
#include "tests/index/vectors.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::index {
namespace {

using ::azimuth::index::testing::OneThread;

std::string_view View(const AlignedBytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.span().data()), bytes.span().size()};
}

std::string Floats(const std::vector<float>& numbers) {
  std::string out;
  for (const float number : numbers) PutLittle(out, number);
  return out;
}

std::string Header(uint16_t flags, uint32_t count, uint32_t quantizer_bytes, uint16_t version = 1) {
  std::string out = "AZK1";
  PutLittle(out, version);
  PutLittle(out, flags);
  PutLittle(out, count);
  PutLittle(out, quantizer_bytes);
  out.resize(64);
  return out;
}

std::string QuantizerHeader(uint8_t bits, uint8_t transform, uint64_t seed) {
  std::string out = "AZQ1";
  PutLittle(out, bits);
  PutLittle(out, transform);
  PutLittle(out, uint16_t{0});
  PutLittle(out, seed);
  return out;
}

// Up to the next multiple of 64.
void Pad(std::string& bytes) {
  bytes.resize((bytes.size() + 63) / 64 * 64);
}

TEST(CodedVectors, HasTheBytesOfTheTableWithFactorsInTheCodes) {
  const std::vector<float> low = {0, 0, 0};
  const std::vector<float> high = {127, 254, 0};
  const std::vector<const float*> rows = {high.data(), low.data()};
  const Quantizer quantizer = Quantizer::Train(
      Metric::kL2, 3, rows,
      {.bits = CodeBits::k8, .transform = CodeTransform::kPerDimension, .seed = 7});
  std::string expected = Header(1, 2, 16 + 24);
  expected += QuantizerHeader(8, 1, 7);
  // A dimension that does not vary has a 64th of the mean of all scales.
  expected += Floats({63.5F, 127, 0}) + Floats({1, 2, 1.0F / 64});
  Pad(expected);
  for (const char level : {'\x7f', '\0'}) {
    expected += std::string{level, level, '\x40'} + std::string(64 - 3 - 8, '\0') +
                Floats({63.5F * 63.5F + 127 * 127, -2});
  }
  const AlignedBytes bytes = EncodeVectors(quantizer, rows, OneThread);
  EXPECT_EQ(View(bytes), expected);
  ASSERT_OK_AND_ASSIGN(const CodedVectors opened, CodedVectors::Open(Metric::kL2, 3, bytes.span()));
  EXPECT_EQ(opened.count(), 2U);
  EXPECT_EQ(opened.quantizer().Save(), expected.substr(64, 40));
}

TEST(CodedVectors, HasTheBytesOfTheTableWithFactorsAfterTheCodes) {
  constexpr size_t kDim = 64;  // A code has no room left.
  std::vector<float> low(kDim, 0);
  std::vector<float> high(kDim, 127);
  const std::vector<const float*> rows = {low.data(), high.data(), low.data()};
  const Quantizer quantizer = Quantizer::Train(
      Metric::kIp, kDim, rows,
      {.bits = CodeBits::k8, .transform = CodeTransform::kPerDimension, .seed = 7});
  std::string expected = Header(0, 3, 16 + 2 * 4 * kDim);
  expected += QuantizerHeader(8, 1, 7);
  expected += Floats(std::vector<float>(kDim, 63.5F)) + Floats(std::vector<float>(kDim, 1));
  Pad(expected);
  expected += std::string(kDim, '\0') + std::string(kDim, '\x7f') + std::string(kDim, '\0');
  expected += Floats({0, -1, 0, -1, 0, -1});
  Pad(expected);
  EXPECT_EQ(View(EncodeVectors(quantizer, rows, OneThread)), expected);
}

TEST(CodedVectors, HasTheBytesOfTheTableOfFourBits) {
  constexpr size_t kDim = 128 + 3;
  std::vector<float> low(kDim, 0);
  std::vector<float> high(kDim, 15);
  // The levels of the middle row are told apart by their dimension.
  std::vector<float> middle(kDim);
  for (size_t i = 0; i < kDim; ++i) middle[i] = static_cast<float>(i % 16);
  const std::vector<const float*> sample = {low.data(), high.data()};
  const Quantizer quantizer = Quantizer::Train(
      Metric::kIp, kDim, sample,
      {.bits = CodeBits::k4, .transform = CodeTransform::kPerDimension, .seed = 7});
  std::string expected = Header(1, 1, 16 + 2 * 4 * kDim);
  expected += QuantizerHeader(4, 1, 7);
  expected += Floats(std::vector<float>(kDim, 7.5F)) + Floats(std::vector<float>(kDim, 1));
  Pad(expected);
  const auto pair = [&](size_t in_low, size_t in_high) {
    return static_cast<char>(in_low % 16 | in_high % 16 << 4);
  };
  for (size_t j = 0; j < 64; ++j) expected += pair(j, 64 + j);
  expected += pair(128, 130);  // Of three that are left over two stand in the low halves.
  expected += pair(129, 0);
  expected += std::string(64 - 2 - 8, '\0') + Floats({0, -1});
  const std::vector<const float*> rows = {middle.data()};
  EXPECT_EQ(View(EncodeVectors(quantizer, rows, OneThread)), expected);
}

TEST(CodedVectors, HasTheBytesOfTheTableOfARotation) {
  const std::vector<float> low = {0, 0, 0};
  const std::vector<float> high = {8, 8, 8};
  const std::vector<const float*> rows = {low.data(), high.data()};
  const Quantizer quantizer =
      Quantizer::Train(Metric::kL2, 3, rows,
                       {.bits = CodeBits::k4, .transform = CodeTransform::kRotated, .seed = 258});
  EXPECT_EQ(quantizer.Save(), QuantizerHeader(4, 2, 258) + Floats({4, 4, 4}));
  const AlignedBytes bytes = EncodeVectors(quantizer, rows, OneThread);
  std::string begin = Header(1, 2, 16 + 12) + QuantizerHeader(4, 2, 258) + Floats({4, 4, 4});
  Pad(begin);
  ASSERT_EQ(bytes.span().size(), begin.size() + 2 * 64);
  EXPECT_EQ(View(bytes).substr(0, begin.size()), begin);
  // A rotation changes no length.
  EXPECT_EQ(View(bytes).substr(begin.size() + 56, 4), Floats({3 * 16}));
}

TEST(CodedVectors, HasTheBytesOfTheTableOfAProjection) {
  // Rows that vary along the second of two dimensions, which is mapped to the only one.
  const std::vector<float> low = {3, 0};
  const std::vector<float> high = {3, 8};
  const std::vector<const float*> rows = {low.data(), high.data()};
  const Quantizer quantizer = Quantizer::Train(
      Metric::kL2, 2, rows,
      {.bits = CodeBits::k4, .transform = CodeTransform::kProjected, .seed = 258, .components = 1});
  const std::string saved = quantizer.Save();
  std::string begin = QuantizerHeader(4, 3, 258) + Floats({3, 4});
  PutLittle(begin, uint32_t{1});
  PutLittle(begin, uint32_t{0});
  ASSERT_EQ(saved.size(), begin.size() + 4 + 2);
  EXPECT_EQ(saved.substr(0, begin.size()), begin);
  float scale = 0;
  std::memcpy(&scale, &saved[begin.size()], sizeof(scale));
  EXPECT_NEAR(scale, 1.0 / 63, 1e-6);
  EXPECT_EQ(saved[begin.size() + 4], 64);
  const int level = saved[begin.size() + 5];
  EXPECT_TRUE(level == 127 || level == 1) << level;

  const AlignedBytes bytes = EncodeVectors(quantizer, rows, OneThread);
  std::string section = Header(1, 2, static_cast<uint32_t>(saved.size()), 2) + saved;
  Pad(section);
  ASSERT_EQ(bytes.span().size(), section.size() + 2 * 64);
  EXPECT_EQ(View(bytes).substr(0, section.size()), section);
  for (const size_t row : {0, 1}) {
    const std::string_view code = View(bytes).substr(section.size() + row * 64, 64);
    // The rows are as far from the center on either side: the least and the most of levels.
    EXPECT_EQ(code[0], (row == 1) == (level == 127) ? 15 : 0);
    EXPECT_EQ(code.substr(1, 55), std::string(55, '\0'));
    EXPECT_EQ(code.substr(56, 4), Floats({16}));
    float mul = 0;
    std::memcpy(&mul, &code[60], sizeof(mul));
    // Of which 7.5 are the distance of 4 from the center.
    EXPECT_NEAR(mul, -2 * 4 / 7.5, 1e-4);
  }
}

}  // namespace
}  // namespace azimuth::index
