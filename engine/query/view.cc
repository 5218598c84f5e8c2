#include "engine/query/view.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/limits.h"

namespace azimuth::engine {

absl::StatusOr<View> OpenView(const Core& core, const ReadOptions& options,
                              const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(cancel.Check());
  View view;
  AZ_ASSIGN_OR_RETURN(
      view.pin, core.views.PinAtLeast(options.min_seq, kMinSeqWaitMs, kMinSeqWaitersMax, cancel));
  view.now_unix_us = core.NowUnixMicros();
  AZ_FAILPOINT(kReadAfterPin);
  return view;
}

}  // namespace azimuth::engine
