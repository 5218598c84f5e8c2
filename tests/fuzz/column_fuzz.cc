// Columns of any bytes: Open says no, or every read stays inside the bytes.
//
// Input: the first byte says whether the rest is a column as it is, or a list of changes (offset
// u16, byte) to a column that a writer made; headers are checked too well to be guessed often.
#include "index/column/column.h"
#include "tests/support/aligned_bytes.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

using azimuth::Value;
using azimuth::index::ColumnReader;
using azimuth::index::ColumnWriter;
using azimuth::index::ScalarView;

std::string SomeColumn(bool sparse) {
  const uint32_t step = sparse ? 9 : 1;
  ColumnWriter writer;
  uint32_t position = 0;
  for (const Value& value : {Value{}, Value{true}, Value{int64_t{-5}}, Value{2.5},
                             Value{std::string("some text")}, Value{std::string("more")}}) {
    writer.Append(position, azimuth::index::ViewOf(value));
    position += step;
  }
  return writer.Finish(position);
}

std::string Column(std::string_view input) {
  if (input.empty() || input[0] == 0) return std::string(input.substr(input.empty() ? 0 : 1));
  std::string column = SomeColumn(input[0] % 2 == 0);
  for (size_t i = 1; i + 3 <= input.size(); i += 3) {
    const size_t offset = static_cast<uint8_t>(input[i]) |
                          static_cast<size_t>(static_cast<uint8_t>(input[i + 1])) << 8;
    column[offset % column.size()] = input[i + 2];
  }
  return column;
}

void Check(bool condition) {
  if (!condition) std::abort();
}

void ReadAll(const ColumnReader& reader, std::span<const std::byte> bytes, uint32_t first,
             uint32_t count) {
  std::vector<ScalarView> views(count);
  reader.Read(first, count, views.data());
  const auto* begin = reinterpret_cast<const char*>(bytes.data());
  for (const ScalarView& view : views) {
    Check(view.kind <= azimuth::ValueKind::kMap);
    if (view.text.empty()) continue;
    Check(view.text.data() >= begin);
    Check(view.text.data() + view.text.size() <= begin + bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const azimuth::testing::AlignedBytes bytes(Column({reinterpret_cast<const char*>(data), size}));
  const auto reader = ColumnReader::Open(bytes.span());
  if (!reader.ok()) return 0;
  ReadAll(*reader, bytes.span(), 0, 200);
  ReadAll(*reader, bytes.span(), reader->row_count() / 2, 70);
  ReadAll(*reader, bytes.span(), UINT32_MAX - 9, 9);
  if (!reader->Verify().ok()) return 0;
  // Then rows read alone and in a run are the same.
  constexpr uint32_t kRows = 200;
  std::vector<ScalarView> run(kRows);
  reader->Read(0, kRows, run.data());
  for (uint32_t row = 0; row < kRows; ++row) {
    ScalarView alone;
    reader->Read(row, 1, &alone);
    Check(alone.kind == run[row].kind && alone.text == run[row].text);
  }
  return 0;
}
