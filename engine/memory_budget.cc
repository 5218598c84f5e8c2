#include "engine/memory_budget.h"

#include "base/status.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace azimuth::engine {
namespace {

// How often a build that waits looks whether it is still wanted, and at bytes that others gave
// back.
constexpr std::chrono::milliseconds kLookAgain{100};
// Where the system says nothing of its memory.
constexpr uint64_t kUnknownMemory = uint64_t{4} << 30;

// Of a file that begins with a number; nullopt if there is none ("max": no limit).
std::optional<uint64_t> ReadNumber(const char* path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return number;
}

// "MemTotal:  16384 kB" of /proc/meminfo.
std::optional<uint64_t> PhysicalMemory() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  uint64_t kilobytes = 0;
  if (!(file >> name >> kilobytes) || name != "MemTotal:") return std::nullopt;
  return kilobytes << 10;
}

}  // namespace

uint64_t MemoryBudget::DefaultTotal() {
  uint64_t memory = PhysicalMemory().value_or(kUnknownMemory);
  for (const char* path : {"/sys/fs/cgroup/memory.max",                       // Version 2.
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {  // Version 1.
    memory = std::min(memory, ReadNumber(path).value_or(memory));
  }
  return memory / 5 * 3;
}

uint64_t MemoryBudget::used() const {
  uint64_t sum = 0;
  for (const auto& part : used_) sum += part.load(std::memory_order_relaxed);
  return sum;
}

bool MemoryBudget::MayBuild(uint64_t bytes, uint64_t ticket) const {
  if (*waiting_.begin() != ticket) return false;
  const uint64_t now = used();
  return running_ == 0 || (bytes <= total_ && now <= total_ - bytes);
}

absl::StatusOr<MemoryBudget::Reservation> MemoryBudget::ReserveForBuild(uint64_t bytes,
                                                                        const CancelToken& cancel) {
  MutexLock lock(mu_);
  const uint64_t ticket = next_ticket_++;
  waiting_.insert(ticket);
  absl::Status status = cancel.Check();
  while (status.ok() && !MayBuild(bytes, ticket)) {
    changed_.WaitUntil(mu_,
                       std::min(cancel.deadline(), std::chrono::steady_clock::now() + kLookAgain));
    status = cancel.Check();
  }
  waiting_.erase(ticket);
  changed_.NotifyAll();  // The next in line may fit as well.
  AZ_RETURN_IF_ERROR(status);
  ++running_;
  Add(MemoryPart::kBuild, static_cast<int64_t>(bytes));
  return Reservation(this, bytes);
}

void MemoryBudget::Release(uint64_t bytes) {
  Add(MemoryPart::kBuild, -static_cast<int64_t>(bytes));
  MutexLock lock(mu_);
  --running_;
  changed_.NotifyAll();
}

uint64_t EstimateBuildBytes(const Schema& schema, uint64_t rows) {
  // Row ids, insert numbers, keys, positions, and pointers to the vectors.
  constexpr uint64_t kRowBytes = 96;
  constexpr uint64_t kFieldBytes = 48;  // Of a scalar in a column, with what it takes to sort it.
  uint64_t largest = 0;
  for (const VectorFieldDef& field : schema.vectors) {
    // As documented at BuildHnsw, the graph before the last vectors, then the built graph and its
    // frozen form, each about 8 m bytes.
    const uint64_t node = uint64_t{4} * field.dim + uint64_t{32} * field.index.m + 128;
    const bool graph = field.index.kind != IndexKind::kFlat;
    largest = std::max(largest, graph ? node : uint64_t{0});
  }
  return rows * (kRowBytes + kFieldBytes * schema.fields.size() + largest);
}

}  // namespace azimuth::engine
