// Scrubber: reads every segment file and compares it with its checksums: once after a start, once
// after it was made, and again every so often. A file that is bad is set aside and built again.
//
// One file at a time, on a worker; builds take turns with it.
// Thread safety: any thread.
#pragma once

#include "base/mutex.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

namespace azimuth::engine {

struct Core;
class Collection;
class Segment;

class Scrubber final {
 public:
  // A segment that was just made.
  void Add(std::shared_ptr<Collection> collection, std::shared_ptr<Segment> segment);
  // Begins a round if it is time, and the work if there is some. `core` owns this.
  void Tick(Core& core);

 private:
  using Item = std::pair<std::weak_ptr<Collection>, std::weak_ptr<Segment>>;
  void BeginRound(Core& core);
  void RunOne(Core& core);
  void Submit(Core& core);

  Mutex mu_;
  std::deque<Item> waiting_ AZ_GUARDED_BY(mu_);
  bool running_ AZ_GUARDED_BY(mu_) = false;
  int64_t round_at_ms_ AZ_GUARDED_BY(mu_) = INT64_MIN;  // When the last round began.
};

}  // namespace azimuth::engine
