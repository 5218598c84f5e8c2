// CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4): the checksum of every file that we write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace azimuth {

// The CRC of `bytes` following bytes whose CRC is `before` (0 at the start).
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t before = 0);
uint32_t Crc32c(std::string_view bytes, uint32_t before = 0);

// The definition, table by table; the other one uses SSE4.2 where the CPU has it.
uint32_t Crc32cScalar(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace azimuth
