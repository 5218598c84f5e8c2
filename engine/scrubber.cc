#include "engine/scrubber.h"

#include "base/logging.h"
#include "engine/core.h"
#include "engine/recover.h"
#include "engine/segment/segment.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace azimuth::engine {

void Scrubber::Add(std::shared_ptr<Collection> collection, std::shared_ptr<Segment> segment) {
  MutexLock lock(mu_);
  waiting_.emplace_back(std::move(collection), std::move(segment));
}

void Scrubber::BeginRound(Core& core) {
  {
    // All that is there comes again; what is made from here on may come twice.
    MutexLock lock(mu_);
    waiting_.clear();
  }
  std::deque<Item> all;
  for (const auto& collection : core.AllCollections()) {
    const ViewRegistry::Pin pin = core.views.PinNow();
    for (const auto& segment : collection->segments().segments) {
      if (segment->state() == SegmentState::kSealed) all.emplace_back(collection, segment);
    }
  }
  MutexLock lock(mu_);
  std::move(all.begin(), all.end(), std::back_inserter(waiting_));
}

void Scrubber::Tick(Core& core) {
  const int64_t now = core.SteadyMillis();
  bool due = false;
  {
    MutexLock lock(mu_);
    due = !running_ &&
          (round_at_ms_ == INT64_MIN || now - round_at_ms_ >= core.options.scrub_interval_ms);
    if (due) round_at_ms_ = now;
  }
  if (due) BeginRound(core);
  {
    MutexLock lock(mu_);
    if (running_ || waiting_.empty()) return;
    running_ = true;
  }
  Submit(core);
}

void Scrubber::Submit(Core& core) {
  core.workers->Submit([this, &core] { RunOne(core); });
}

void Scrubber::RunOne(Core& core) {
  std::shared_ptr<Collection> collection;
  std::shared_ptr<Segment> segment;
  {
    MutexLock lock(mu_);
    while (segment == nullptr && !waiting_.empty() && !core.closing.load()) {
      collection = waiting_.front().first.lock();
      segment = waiting_.front().second.lock();
      if (collection == nullptr) segment = nullptr;
      waiting_.pop_front();
    }
    if (segment == nullptr) {
      running_ = false;
      return;
    }
  }
  const CancelToken cancel(CancelToken::TimePoint::max(), [&core, &collection] {
    return core.closing.load() || collection->dropped.load();
  });
  const absl::Status status = VerifyOrRepair(core, collection, segment, cancel);
  if (!status.ok() && cancel.Check().ok()) {
    LogError("segment %d: %s", Raw(segment->id()), std::string(status.message()));
  }
  if (status.ok()) segment->MakeResident(core.memory);
  // Through the line again, so that builds take turns with it.
  Submit(core);
}

}  // namespace azimuth::engine
