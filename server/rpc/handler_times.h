// How long calls of a kind take, by those that came before: what decides where the next one runs.
//
// Measured, and not reckoned from the request: what a search costs hangs on the collection, its
// segments and what of them is in memory more than on what is asked. A kind is a hash of what
// distinguishes calls (convert_search.h); kinds that meet in one entry forget each other.
// Thread safety: any number of threads; a note may be lost to another one of the same moment.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace azimuth::server {

class HandlerTimes final {
 public:
  // The moving average; `unknown` if no call of that kind is remembered.
  std::chrono::nanoseconds Expected(uint64_t kind, std::chrono::nanoseconds unknown) const;
  // One that was kept from running does not make a kind a slow one: a time counts as eight times
  // the average at most.
  void Note(uint64_t kind, std::chrono::nanoseconds took);

 private:
  static constexpr size_t kEntries = 1024;

  static size_t IndexOf(uint64_t kind) { return kind % kEntries; }

  // The upper half of the kind, then the average in kUnit; zero: none.
  std::array<std::atomic<uint64_t>, kEntries> entries_{};
};

}  // namespace azimuth::server
