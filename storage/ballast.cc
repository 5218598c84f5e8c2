#include "storage/ballast.h"

#include "base/status.h"

namespace azimuth::storage {

absl::Status Ballast::Find() {
  const absl::StatusOr<uint64_t> size = files_->Size(path_);
  if (!size.ok() && !absl::IsNotFound(size.status())) return size.status();
  held_ = size.value_or(0);
  taken_ = false;
  return absl::OkStatus();
}

absl::Status Ballast::Hold(uint64_t bytes) {
  if (bytes == 0) return Release();
  if (taken_ && held_ == bytes) return absl::OkStatus();
  taken_ = false;
  // Also where a file of that length is there: a crash may have left it without its blocks.
  if (absl::Status status = files_->Allocate(path_, bytes); !status.ok()) {
    held_ = 0;
    return status;
  }
  held_ = bytes;
  taken_ = true;
  return absl::OkStatus();
}

absl::Status Ballast::Release() {
  const absl::Status status = files_->Remove(path_);
  if (!status.ok() && !absl::IsNotFound(status)) return status;
  held_ = 0;
  taken_ = false;
  return absl::OkStatus();
}

}  // namespace azimuth::storage
