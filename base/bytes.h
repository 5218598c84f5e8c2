// Little-endian and order-preserving encodings of integers, and a bounds-checked reader of bytes.
//
// Every on-disk format is written and read through these functions (docs/FORMATS.md).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace azimuth {

static_assert(std::endian::native == std::endian::little,
              "formats are little-endian and are mapped without conversion");

template <typename T>
void PutLittle(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

// Big-endian, so that encoded unsigned integers sort as the integers do.
template <typename T>
void PutBig(std::string& out, T value) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(static_cast<uint8_t>(value >> shift)));
  }
}

// u32 length, then the bytes.
inline void PutLengthPrefixed(std::string& out, std::string_view bytes) {
  PutLittle(out, static_cast<uint32_t>(bytes.size()));
  out.append(bytes);
}

// Reads fields from the front of a byte string that it does not own. Every function answers false,
// and leaves the reader as it was, when too few bytes are left.
class ByteReader final {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  [[nodiscard]] bool Little(T& value) {
    if (rest_.size() < sizeof(T)) return false;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return true;
  }

  template <typename T>
  [[nodiscard]] bool Big(T& value) {
    if (rest_.size() < sizeof(T)) return false;
    T result = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      result = static_cast<T>(static_cast<uint64_t>(result) << 8 | static_cast<uint8_t>(rest_[i]));
    }
    value = result;
    rest_.remove_prefix(sizeof(T));
    return true;
  }

  // The view is into the reader's bytes.
  [[nodiscard]] bool Bytes(size_t count, std::string_view& bytes) {
    if (rest_.size() < count) return false;
    bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return true;
  }

  [[nodiscard]] bool LengthPrefixed(std::string_view& bytes) {
    ByteReader copy = *this;
    uint32_t size = 0;
    if (!copy.Little(size) || !copy.Bytes(size, bytes)) return false;
    *this = copy;
    return true;
  }

  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace azimuth
