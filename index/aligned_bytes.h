// AlignedBytes: bytes that begin at a multiple of 64, as the sections of graphs and codes must.
//
// Ownership: owns its memory. Thread safety: as a vector.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::index {

class AlignedBytes final {
 public:
  static constexpr size_t kAlignment = 64;

  AlignedBytes() = default;
  // `size` zeros.
  explicit AlignedBytes(size_t size) : memory_(size + kAlignment - 1), size_(size) {}
  explicit AlignedBytes(std::string_view bytes) : AlignedBytes(bytes.size()) {
    if (!bytes.empty()) std::memcpy(data(), bytes.data(), bytes.size());
  }
  // A copy would be aligned otherwise; a moved vector keeps its memory.
  AlignedBytes(AlignedBytes&&) = default;
  AlignedBytes& operator=(AlignedBytes&&) = default;

  std::byte* data() { return memory_.data() + Shift(); }
  std::span<const std::byte> span() const { return {memory_.data() + Shift(), size_}; }

 private:
  size_t Shift() const {
    return (kAlignment - std::bit_cast<uintptr_t>(memory_.data()) % kAlignment) % kAlignment;
  }
  std::vector<std::byte> memory_;
  size_t size_ = 0;
};

}  // namespace azimuth::index
