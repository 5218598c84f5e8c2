#include "index/flat/code_filter.h"

#include "base/check.h"

#include <limits>

namespace azimuth::index {
namespace {

// Looked at before a verdict.
constexpr uint64_t kTrialRows = 1024;
// A block of which fewer rows are asked for is not looked at whole.
constexpr uint32_t kWholeShareInverse = 4;

}  // namespace

CodeFilter::CodeFilter(Metric metric, std::span<const float> query)
    : metric_(metric), bytes_(RowCodeBytes(query.size())) {
  EncodeQuery(query, query_);
}

bool CodeFilter::Pays() const {
  return seen_ < kTrialRows || kept_ <= seen_ / 2;
}

uint32_t CodeFilter::Keep(const uint8_t* codes, const RowCode* rows, float bound, uint32_t* ids,
                          uint32_t count) {
  if (count == 0 || bound == std::numeric_limits<float>::infinity() || !Pays()) return count;
  AZ_DCHECK(ids[count - 1] < kBlockRowsMax);
  float bounds[kBlockRowsMax];
  const uint32_t end = ids[count - 1] + 1;
  if (count * kWholeShareInverse >= end) {
    LowerBounds(metric_, query_, codes, bytes_, rows, end, bounds);
  } else {
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t id = ids[i];
      LowerBounds(metric_, query_, codes + id * bytes_, bytes_, rows + id, 1, bounds + id);
    }
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; ++i) {
    // Also where the bound is not a number.
    if (!(bounds[ids[i]] > bound)) ids[kept++] = ids[i];
  }
  seen_ += count;
  kept_ += kept;
  return kept;
}

}  // namespace azimuth::index
