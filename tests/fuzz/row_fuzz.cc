// Rows of any bytes: DecodeRow says no, or what it read can be written and read again to the same
// bytes.
#include "storage/row.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto row = azimuth::storage::DecodeRow(input);
  if (!row.ok()) return 0;
  // By bytes and not by value: a NaN equals nothing.
  const std::string once = azimuth::storage::EncodeRow(*row);
  const auto again = azimuth::storage::DecodeRow(once);
  if (!again.ok() || azimuth::storage::EncodeRow(*again) != once) std::abort();
  return 0;
}
