#include "index/codes/rotation.h"

#include <bit>
#include <cmath>
#include <random>

namespace azimuth::index {
namespace {

// In place; REQUIRES: `count` is a power of two.
void Hadamard(float* values, size_t count) {
  for (size_t half = 1; half < count; half *= 2) {
    for (size_t begin = 0; begin < count; begin += 2 * half) {
      float* const low = values + begin;
      float* const high = low + half;
      for (size_t i = 0; i < half; ++i) {
        const float sum = low[i] + high[i];
        high[i] = low[i] - high[i];
        low[i] = sum;
      }
    }
  }
}

}  // namespace

Rotation::Rotation(size_t dim, uint64_t seed) : dim_(dim), block_(std::bit_floor(dim)) {
  std::mt19937_64 random(seed);
  signs_.resize(kRounds * dim);
  for (float& sign : signs_) sign = random() % 2 == 0 ? 1.0F : -1.0F;
}

void Rotation::Apply(std::span<float> values) const {
  const float scale = 1 / std::sqrt(static_cast<float>(block_));
  for (size_t round = 0; round < kRounds; ++round) {
    const float* const signs = signs_.data() + round * dim_;
    for (size_t i = 0; i < dim_; ++i) values[i] *= signs[i];
    float* const block = values.data() + (round % 2 == 0 ? 0 : dim_ - block_);
    Hadamard(block, block_);
    for (size_t i = 0; i < block_; ++i) block[i] *= scale;
  }
}

}  // namespace azimuth::index
