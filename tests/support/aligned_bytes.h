// AlignedBytes: a copy of bytes at a 64-byte boundary in an allocation of exactly their size, so
// that AddressSanitizer sees every read past the end.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace azimuth::testing {

class AlignedBytes final {
 public:
  explicit AlignedBytes(std::string_view bytes) : size_(bytes.size()) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size_ == 0 ? 1 : size_) != 0) std::abort();
    memory_.reset(static_cast<std::byte*>(memory));
    if (size_ != 0) std::memcpy(memory, bytes.data(), size_);
  }

  std::span<std::byte> span() { return {memory_.get(), size_}; }
  std::span<const std::byte> span() const { return {memory_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t size_;
};

}  // namespace azimuth::testing
