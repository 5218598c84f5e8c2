// Bitset: a set of positions, combined word by word.
//
// Invariant: bits at and past size() are zero.
// Thread safety: as a plain container.
#pragma once

#include "base/check.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace azimuth::index {

class Bitset final {
 public:
  static constexpr size_t kWordBits = 64;

  Bitset() = default;
  explicit Bitset(size_t size, bool value = false) { Reset(size, value); }

  // Makes all `size` bits `value`. Keeps the capacity.
  void Reset(size_t size, bool value) {
    size_ = size;
    words_.assign((size + kWordBits - 1) / kWordBits, value ? ~uint64_t{0} : 0);
    ClearTail();
  }

  size_t size() const { return size_; }
  bool Test(size_t i) const {
    AZ_DCHECK(i < size_);
    return (words_[i / kWordBits] >> (i % kWordBits) & 1) != 0;
  }
  void Set(size_t i) {
    AZ_DCHECK(i < size_);
    words_[i / kWordBits] |= uint64_t{1} << (i % kWordBits);
  }
  void Clear(size_t i) {
    AZ_DCHECK(i < size_);
    words_[i / kWordBits] &= ~(uint64_t{1} << (i % kWordBits));
  }

  size_t Count() const {
    size_t count = 0;
    for (const uint64_t word : words_) count += static_cast<size_t>(std::popcount(word));
    return count;
  }

  // REQUIRES: other.size() == size(), for all three.
  void And(const Bitset& other) {
    AZ_DCHECK(other.size_ == size_);
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  void Or(const Bitset& other) {
    AZ_DCHECK(other.size_ == size_);
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void AndNot(const Bitset& other) {
    AZ_DCHECK(other.size_ == size_);
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }

  // Word i holds bits [64 i, 64 i + 64). A writer must leave bits past size() zero.
  std::span<uint64_t> words() { return words_; }
  std::span<const uint64_t> words() const { return words_; }

  // Calls f(position) for each set bit, ascending.
  template <typename F>
  void ForEach(F&& f) const {
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t word = words_[w]; word != 0; word &= word - 1) {
        f(w * kWordBits + static_cast<size_t>(std::countr_zero(word)));
      }
    }
  }

 private:
  void ClearTail() {
    if (size_ % kWordBits != 0) words_.back() &= (uint64_t{1} << (size_ % kWordBits)) - 1;
  }

  size_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace azimuth::index
