// AlignedBytes: bytes that begin at a multiple of 64, as the sections of graphs and codes must.
//
// Ownership: owns its memory. Thread safety: as a vector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>

namespace azimuth::index {

class AlignedBytes final {
 public:
  static constexpr size_t kAlignment = 64;

  AlignedBytes() = default;
  // `size` zeros.
  explicit AlignedBytes(size_t size)
      : bytes_(size == 0 ? nullptr : new (std::align_val_t(kAlignment)) std::byte[size]()),
        size_(size) {}
  explicit AlignedBytes(std::string_view bytes) : AlignedBytes(bytes.size()) {
    if (!bytes.empty()) std::memcpy(bytes_.get(), bytes.data(), bytes.size());
  }

  std::byte* data() { return bytes_.get(); }
  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const {
      ::operator delete[](bytes, std::align_val_t(kAlignment));
    }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  size_t size_ = 0;
};

}  // namespace azimuth::index
