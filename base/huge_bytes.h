// HugeBytes: memory of huge pages (2 MiB) where the kernel has any: what is read at random from a
// large block of it misses the translation of addresses far less.
//
// Ownership: owns its memory. Thread safety: as a vector.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace azimuth {

class HugeBytes final {
 public:
  HugeBytes() = default;
  // `size` bytes, not initialised; none if there is no memory.
  explicit HugeBytes(size_t size);

  // Begins at a multiple of 2 MiB.
  std::byte* data() { return bytes_.get(); }
  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }
  // What it takes, to the end of the last page.
  size_t memory_bytes() const { return memory_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  size_t size_ = 0;
  size_t memory_bytes_ = 0;
};

}  // namespace azimuth
