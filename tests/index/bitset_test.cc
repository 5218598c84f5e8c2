#include "index/bitset.h"

#include "gtest/gtest.h"

#include <random>
#include <vector>

namespace azimuth::index {
namespace {

constexpr size_t kSizes[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 1000};

Bitset FromModel(const std::vector<bool>& model) {
  Bitset bits(model.size());
  for (size_t i = 0; i < model.size(); ++i) {
    if (model[i]) bits.Set(i);
  }
  return bits;
}

std::vector<bool> RandomModel(size_t size, std::mt19937_64& random) {
  std::vector<bool> model(size);
  for (size_t i = 0; i < size; ++i) model[i] = random() % 3 == 0;
  return model;
}

void ExpectSame(const Bitset& bits, const std::vector<bool>& model) {
  ASSERT_EQ(bits.size(), model.size());
  std::vector<size_t> expected;
  for (size_t i = 0; i < model.size(); ++i) {
    EXPECT_EQ(bits.Test(i), model[i]) << "bit " << i << " of " << model.size();
    if (model[i]) expected.push_back(i);
  }
  EXPECT_EQ(bits.Count(), expected.size());
  std::vector<size_t> visited;
  bits.ForEach([&](size_t i) { visited.push_back(i); });
  EXPECT_EQ(visited, expected);
}

TEST(Bitset, BehavesLikeVectorOfBoolUnderRandomChanges) {
  std::mt19937_64 random(1);
  for (const size_t size : kSizes) {
    Bitset bits(size);
    std::vector<bool> model(size);
    for (size_t step = 0; size > 0 && step < 500; ++step) {
      const size_t i = random() % size;
      if (random() % 2 == 0) {
        bits.Set(i);
        model[i] = true;
      } else {
        bits.Clear(i);
        model[i] = false;
      }
    }
    ExpectSame(bits, model);
  }
}

TEST(Bitset, CombinesWordByWordAsBitByBit) {
  std::mt19937_64 random(2);
  for (const size_t size : kSizes) {
    const std::vector<bool> a = RandomModel(size, random);
    const std::vector<bool> b = RandomModel(size, random);
    std::vector<bool> both(size), either(size), without(size);
    for (size_t i = 0; i < size; ++i) {
      both[i] = a[i] && b[i];
      either[i] = a[i] || b[i];
      without[i] = a[i] && !b[i];
    }
    Bitset bits = FromModel(a);
    bits.And(FromModel(b));
    ExpectSame(bits, both);
    bits = FromModel(a);
    bits.Or(FromModel(b));
    ExpectSame(bits, either);
    bits = FromModel(a);
    bits.AndNot(FromModel(b));
    ExpectSame(bits, without);
  }
}

TEST(Bitset, KeepsBitsPastTheSizeZeroWhenAllAreSet) {
  for (const size_t size : kSizes) {
    const Bitset bits(size, true);
    EXPECT_EQ(bits.Count(), size);
    ExpectSame(bits, std::vector<bool>(size, true));
  }
}

TEST(Bitset, ResetForgetsWhatWasThere) {
  Bitset bits(100, true);
  bits.Reset(70, false);
  ExpectSame(bits, std::vector<bool>(70, false));
  bits.Reset(130, true);
  ExpectSame(bits, std::vector<bool>(130, true));
}

}  // namespace
}  // namespace azimuth::index
