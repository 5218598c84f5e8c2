#include "index/column/column.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/status.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x31435A41;  // "AZC1"
constexpr uint16_t kVersion = 1;
constexpr size_t kHeaderBytes = 32;
constexpr size_t kAlignment = 8;

enum class Form : uint8_t { kDense = 1, kSparse = 2 };

// A string's word: where it lies in the heap and how long it is.
constexpr int kLengthBits = 24;
constexpr uint64_t kLengthMax = (uint64_t{1} << kLengthBits) - 1;
constexpr uint64_t kOffsetMax = (uint64_t{1} << (64 - kLengthBits)) - 1;

constexpr uint64_t Aligned(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void PadTo(std::string& out, size_t size) {
  out.resize(size, '\0');
}

// Where the parts of a column begin.
struct Layout {
  uint64_t positions = kHeaderBytes;
  uint64_t kinds = 0;
  uint64_t words = 0;
  uint64_t heap = 0;
};

Layout LayoutOf(Form form, uint32_t entry_count) {
  const uint64_t count = entry_count;
  Layout layout;
  layout.kinds = layout.positions + (form == Form::kSparse ? Aligned(count * 4) : 0);
  layout.words = layout.kinds + Aligned(count);
  layout.heap = layout.words + count * 8;
  return layout;
}

ScalarView Decode(uint8_t kind, uint64_t word, std::string_view heap) {
  ScalarView view;
  switch (static_cast<ValueKind>(kind)) {
    case ValueKind::kMissing:
      return view;
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
    case ValueKind::kBool:
      view.boolean = word != 0;
      break;
    case ValueKind::kInt64:
      view.int64 = std::bit_cast<int64_t>(word);
      break;
    case ValueKind::kDouble:
      view.float64 = std::bit_cast<double>(word);
      break;
    case ValueKind::kString: {
      const uint64_t offset = word >> kLengthBits;
      const uint64_t length = word & kLengthMax;
      if (offset > heap.size() || length > heap.size() - offset) return view;
      view.text = heap.substr(offset, length);
      break;
    }
    default:
      return view;
  }
  view.kind = static_cast<ValueKind>(kind);
  return view;
}

}  // namespace

ScalarView ViewOf(const Value& value) {
  ScalarView view;
  view.kind = value.kind();
  if (const auto* boolean = std::get_if<bool>(&value.data)) view.boolean = *boolean;
  if (const auto* int64 = std::get_if<int64_t>(&value.data)) view.int64 = *int64;
  if (const auto* float64 = std::get_if<double>(&value.data)) view.float64 = *float64;
  if (const auto* text = std::get_if<std::string>(&value.data)) view.text = *text;
  return view;
}

void ColumnWriter::Append(uint32_t position, const ScalarView& value) {
  AZ_DCHECK(positions_.empty() || position > positions_.back());
  if (value.kind == ValueKind::kMissing) return;
  uint64_t word = 0;
  switch (value.kind) {
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
    case ValueKind::kBool:
      word = value.boolean ? 1 : 0;
      break;
    case ValueKind::kInt64:
      word = std::bit_cast<uint64_t>(value.int64);
      break;
    case ValueKind::kDouble:
      word = std::bit_cast<uint64_t>(value.float64);
      break;
    case ValueKind::kString:
      AZ_CHECK(value.text.size() <= kLengthMax && heap_.size() <= kOffsetMax);
      word = static_cast<uint64_t>(heap_.size()) << kLengthBits | value.text.size();
      heap_.append(value.text);
      break;
  }
  positions_.push_back(position);
  kinds_.push_back(static_cast<uint8_t>(value.kind));
  words_.push_back(word);
}

std::string ColumnWriter::Finish(uint32_t row_count) const {
  AZ_CHECK(positions_.empty() || positions_.back() < row_count);
  const auto used = static_cast<uint32_t>(positions_.size());
  const bool dense = LayoutOf(Form::kDense, row_count).heap <= LayoutOf(Form::kSparse, used).heap;
  const Form form = dense ? Form::kDense : Form::kSparse;
  const uint32_t entry_count = dense ? row_count : used;
  const Layout layout = LayoutOf(form, entry_count);

  std::string out;
  out.reserve(layout.heap + heap_.size());
  PutLittle(out, kMagic);
  PutLittle(out, kVersion);
  PutLittle(out, static_cast<uint8_t>(form));
  PutLittle(out, uint8_t{0});
  PutLittle(out, row_count);
  PutLittle(out, entry_count);
  PutLittle(out, static_cast<uint64_t>(heap_.size()));
  PutLittle(out, uint64_t{0});

  // Rows without an entry of a dense column stay kMissing, which is zero.
  PadTo(out, layout.heap);
  for (size_t i = 0; i < positions_.size(); ++i) {
    const size_t entry = dense ? positions_[i] : i;
    if (!dense) std::memcpy(&out[layout.positions + entry * 4], &positions_[i], 4);
    out[layout.kinds + entry] = static_cast<char>(kinds_[i]);
    std::memcpy(&out[layout.words + entry * 8], &words_[i], 8);
  }
  out.append(heap_);
  return out;
}

absl::StatusOr<ColumnReader> ColumnReader::Open(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    return DataLoss("column: begins at an address that is not a multiple of %d", kAlignment);
  }
  ByteReader header({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  uint32_t magic = 0, row_count = 0, entry_count = 0;
  uint16_t version = 0;
  uint8_t form_number = 0, reserved8 = 0;
  uint64_t heap_bytes = 0, reserved64 = 0;
  if (!header.Little(magic) || !header.Little(version) || !header.Little(form_number) ||
      !header.Little(reserved8) || !header.Little(row_count) || !header.Little(entry_count) ||
      !header.Little(heap_bytes) || !header.Little(reserved64)) {
    return DataLoss("column: %d bytes are too few for the header of %d", bytes.size(),
                    kHeaderBytes);
  }
  if (magic != kMagic) return DataLoss("column: magic is %08x, not %08x", magic, kMagic);
  if (version != kVersion) return DataLoss("column: version is %d, not %d", version, kVersion);
  const auto form = static_cast<Form>(form_number);
  if (form != Form::kDense && form != Form::kSparse) {
    return DataLoss("column: form is %d, not 1 or 2", form_number);
  }
  if (reserved8 != 0 || reserved64 != 0) return DataLoss("column: reserved bytes are not zero");
  if (form == Form::kDense ? entry_count != row_count : entry_count > row_count) {
    return DataLoss("column: %d entries for %d rows in form %d", entry_count, row_count,
                    form_number);
  }
  const Layout layout = LayoutOf(form, entry_count);
  if (layout.heap > bytes.size() || heap_bytes != bytes.size() - layout.heap) {
    return DataLoss("column: has %d bytes, but its header says %d and a heap of %d", bytes.size(),
                    layout.heap, heap_bytes);
  }

  ColumnReader reader;
  const std::byte* base = bytes.data();
  reader.row_count_ = row_count;
  reader.entry_count_ = entry_count;
  if (form == Form::kSparse) {
    reader.positions_ = reinterpret_cast<const uint32_t*>(base + layout.positions);
  }
  reader.kinds_ = reinterpret_cast<const uint8_t*>(base + layout.kinds);
  reader.words_ = reinterpret_cast<const uint64_t*>(base + layout.words);
  reader.heap_ = {reinterpret_cast<const char*>(base + layout.heap), heap_bytes};
  return reader;
}

absl::Status ColumnReader::Verify() const {
  if (positions_ == nullptr) return absl::OkStatus();
  for (uint32_t i = 0; i < entry_count_; ++i) {
    if (positions_[i] < row_count_ && (i == 0 || positions_[i] > positions_[i - 1])) continue;
    return DataLoss("column: entry %d is of position %d of %d, out of order or range", i,
                    positions_[i], row_count_);
  }
  return absl::OkStatus();
}

void ColumnReader::Read(uint32_t first, uint32_t count, ScalarView* out) const {
  std::fill_n(out, count, ScalarView{});
  if (first >= row_count_) return;
  const uint32_t readable = std::min(count, row_count_ - first);
  if (positions_ == nullptr) {
    for (uint32_t i = 0; i < readable; ++i) {
      out[i] = Decode(kinds_[first + i], words_[first + i], heap_);
    }
    return;
  }
  const uint32_t* end = positions_ + entry_count_;
  // Unverified positions need not ascend, so each is compared with both ends of the range.
  for (const uint32_t* it = std::lower_bound(positions_, end, first);
       it != end && *it >= first && *it - first < readable; ++it) {
    const auto entry = static_cast<size_t>(it - positions_);
    out[*it - first] = Decode(kinds_[entry], words_[entry], heap_);
  }
}

}  // namespace azimuth::index
