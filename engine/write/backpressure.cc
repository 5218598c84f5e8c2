#include "engine/write/backpressure.h"

#include "base/status.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

// What growing segments may always take, however little RocksDB leaves of the budget.
constexpr uint64_t kGrowingBytesMin = uint64_t{16} << 20;
// How often who waits looks for a caller that has gone, and for memory that became free.
constexpr std::chrono::milliseconds kLookAgain{50};

// Where `value` lies between the marks: 0 to 1.
double Fraction(uint64_t value, uint64_t slow, uint64_t max) {
  if (value >= max) return 1.0;
  if (value <= slow) return 0.0;
  return static_cast<double>(value - slow) / static_cast<double>(max - slow);
}

}  // namespace

uint64_t Backpressure::BytesMax() const {
  const uint64_t total = budget_.total();
  const uint64_t rocks = std::min(total, budget_.used(MemoryPart::kRocks));
  return std::max(kGrowingBytesMin, (total - rocks) / 2);
}

double Backpressure::PressureOf(uint64_t unindexed_rows) const {
  return std::max(Fraction(unindexed_rows, limits_.rows_slow, limits_.rows_max),
                  Fraction(GrowingBytes(), BytesSlow(), BytesMax()));
}

absl::Status Backpressure::CheckHardLimits(std::string_view collection,
                                           uint64_t unindexed_rows) const {
  if (unindexed_rows >= limits_.rows_max) {
    return ResourceExhausted(
        "collection %s: %d rows wait for their index, at most %d are allowed; retry in a few "
        "seconds; outcome: not_applied",
        Quoted(collection), unindexed_rows, limits_.rows_max);
  }
  if (const uint64_t bytes = GrowingBytes(); bytes >= BytesMax()) {
    return ResourceExhausted(
        "collection %s: rows without a segment file take %d bytes of memory in all collections, at "
        "most %d are allowed; retry in a few seconds; outcome: not_applied",
        Quoted(collection), bytes, BytesMax());
  }
  return absl::OkStatus();
}

absl::Status Backpressure::Delay(const std::atomic<uint64_t>& unindexed_rows,
                                 const CancelToken& cancel) {
  using SteadyClock = std::chrono::steady_clock;
  const SteadyClock::time_point start = SteadyClock::now();
  MutexLock lock(mu_);
  while (true) {
    const double part = PressureOf(unindexed_rows.load(std::memory_order_relaxed));
    const auto end = start + std::chrono::duration_cast<SteadyClock::duration>(
                                 part * std::chrono::duration<double>(limits_.delay_max));
    const SteadyClock::time_point now = SteadyClock::now();
    if (now >= end) return absl::OkStatus();
    if (const absl::Status status = cancel.Check(); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(status.message(),
                                       " (the write was slowed down, since rows wait for their "
                                       "index); outcome: not_applied"));
    }
    relieved_.WaitUntil(mu_, std::min({end, cancel.deadline(), now + kLookAgain}));
  }
}

absl::StatusOr<Backpressure::Admission> Backpressure::Admit(
    std::string_view collection, const std::atomic<uint64_t>& unindexed_rows, uint64_t bytes,
    const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(CheckHardLimits(collection, unindexed_rows.load(std::memory_order_relaxed)));
  if (PressureOf(unindexed_rows.load(std::memory_order_relaxed)) > 0.0) {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    const absl::Status status = Delay(unindexed_rows, cancel);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    AZ_RETURN_IF_ERROR(status);
    AZ_RETURN_IF_ERROR(CheckHardLimits(collection, unindexed_rows.load(std::memory_order_relaxed)));
  }
  return Admission(this, bytes);
}

void Backpressure::Relieve() {
  MutexLock lock(mu_);
  relieved_.NotifyAll();
}

}  // namespace azimuth::engine
