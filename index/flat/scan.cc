#include "index/flat/scan.h"

#include "base/status.h"

#include <algorithm>
#include <array>
#include <bit>

namespace azimuth::index {
namespace {

// Distances are computed this many at a time: their results stay in the first-level cache.
constexpr size_t kBatchRows = 256;
// Rows between two questions to the CancelToken; a multiple of the words of a Bitset.
constexpr size_t kRowsPerCheck = 4096;
static_assert(kRowsPerCheck % Bitset::kWordBits == 0);

class Scan final {
 public:
  Scan(const DistanceKernels& kernels, const float* query, const float* rows, size_t stride,
       size_t dim, const ScanOptions& options, TopK& top)
      : kernels_(kernels),
        query_(query),
        rows_(rows),
        stride_(stride),
        dim_(dim),
        options_(options),
        top_(top) {}

  void All(size_t first, size_t end) {
    for (size_t row = first; row < end; row += kBatchRows) {
      const size_t count = std::min(kBatchRows, end - row);
      kernels_.run(query_, rows_ + row * stride_, stride_, dim_, count, distances_.data());
      for (size_t i = 0; i < count; ++i) Offer(row + i, distances_[i]);
      computed_ += count;
    }
  }

  void Admitted(size_t first, size_t end) {
    if (options_.row_to_position == nullptr && options_.first_position % Bitset::kWordBits == 0) {
      AdmittedByWord(first, end);
    } else {
      for (size_t row = first; row < end; ++row) {
        const size_t position = PositionOf(row);
        if (position < options_.admitted->size() && options_.admitted->Test(position)) Add(row);
      }
    }
    Flush();
  }

  uint64_t computed() const { return computed_; }

 private:
  uint32_t PositionOf(size_t row) const {
    return options_.row_to_position != nullptr
               ? options_.row_to_position[row]
               : static_cast<uint32_t>(row) + options_.first_position;
  }

  // `first` and first_position begin a word of the set.
  void AdmittedByWord(size_t first, size_t end) {
    const std::span<const uint64_t> words = options_.admitted->words();
    for (size_t row = first; row < end; row += Bitset::kWordBits) {
      const size_t index = (row + options_.first_position) / Bitset::kWordBits;
      if (index >= words.size()) return;
      uint64_t word = words[index];
      if (end - row < Bitset::kWordBits) word &= (uint64_t{1} << (end - row)) - 1;
      for (; word != 0; word &= word - 1) Add(row + static_cast<size_t>(std::countr_zero(word)));
    }
  }

  void Add(size_t row) {
    ids_[pending_++] = static_cast<uint32_t>(row);
    if (pending_ == kBatchRows) Flush();
  }

  void Flush() {
    kernels_.gather(query_, rows_, stride_, dim_, ids_.data(), pending_, distances_.data());
    for (size_t i = 0; i < pending_; ++i) Offer(ids_[i], distances_[i]);
    computed_ += pending_;
    pending_ = 0;
  }

  void Offer(size_t row, float distance) {
    // Rows at the bound itself are a matter of the TieOrder.
    if (distance <= top_.bound()) top_.Push({distance, PositionOf(row)});
  }

  const DistanceKernels& kernels_;
  const float* query_;
  const float* rows_;
  const size_t stride_;
  const size_t dim_;
  const ScanOptions& options_;
  TopK& top_;
  uint64_t computed_ = 0;
  size_t pending_ = 0;
  std::array<uint32_t, kBatchRows> ids_;
  std::array<float, kBatchRows> distances_;
};

}  // namespace

absl::StatusOr<uint64_t> ScanRows(const DistanceKernels& kernels, const float* query,
                                  const float* rows, size_t stride, size_t dim, size_t count,
                                  const ScanOptions& options, TopK& top,
                                  const CancelToken& cancel) {
  Scan scan(kernels, query, rows, stride, dim, options, top);
  for (size_t first = 0; first < count; first += kRowsPerCheck) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    const size_t end = std::min(count, first + kRowsPerCheck);
    if (options.admitted == nullptr) {
      scan.All(first, end);
    } else {
      scan.Admitted(first, end);
    }
  }
  return scan.computed();
}

}  // namespace azimuth::index
