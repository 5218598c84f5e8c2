#include "storage/rocks_status.h"

#include "base/status.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <system_error>

namespace azimuth::storage {
namespace {

using Code = rocksdb::Status::Code;
using SubCode = rocksdb::Status::SubCode;

bool IsDiskFull(const rocksdb::Status& status) {
  return status.subcode() == SubCode::kNoSpace || status.subcode() == SubCode::kSpaceLimit;
}

// As storage::Files takes them. RocksDB keeps of an errno its text alone.
bool IsExhausted(const rocksdb::Status& status) {
  constexpr int kCodes[] = {ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, EAGAIN};
  if (IsDiskFull(status)) return true;
  const std::string text = status.ToString();
  return std::any_of(std::begin(kCodes), std::end(kCodes), [&](int code) {
    return text.find(std::generic_category().message(code)) != std::string::npos;
  });
}

absl::StatusCode CodeOf(const rocksdb::Status& status) {
  if (IsDiskFull(status)) return absl::StatusCode::kResourceExhausted;
  switch (status.code()) {
    case Code::kOk:
      return absl::StatusCode::kOk;
    case Code::kNotFound:
      return absl::StatusCode::kNotFound;
    case Code::kCorruption:
      return absl::StatusCode::kDataLoss;
    // Met when a database is opened that a later version made: features and families we lack.
    case Code::kNotSupported:
    case Code::kInvalidArgument:
      return absl::StatusCode::kFailedPrecondition;
    case Code::kIOError:
    case Code::kShutdownInProgress:
    case Code::kTimedOut:
    case Code::kBusy:
    case Code::kTryAgain:
    case Code::kIncomplete:
      return absl::StatusCode::kUnavailable;
    case Code::kAborted:
      return status.subcode() == SubCode::kMemoryLimit ? absl::StatusCode::kResourceExhausted
                                                       : absl::StatusCode::kUnavailable;
    // Of features that we do not use.
    case Code::kMergeInProgress:
    case Code::kExpired:
    case Code::kCompactionTooLarge:
    case Code::kColumnFamilyDropped:
    case Code::kMaxCode:
      return absl::StatusCode::kInternal;
  }
  return absl::StatusCode::kInternal;
}

absl::Status WithCode(absl::StatusCode code, std::string_view doing,
                      const rocksdb::Status& status) {
  return absl::Status(code, absl::StrFormat("cannot %s: %s", doing, status.ToString()));
}

}  // namespace

absl::Status FromRocks(std::string_view doing, const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return WithCode(CodeOf(status), doing, status);
}

absl::Status FromRocksWrite(std::string_view doing, const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return WithCode(
      IsDiskFull(status) ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      doing, status);
}

absl::Status FromRocksNewFile(std::string_view doing, const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return WithCode(
      IsExhausted(status) ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      doing, status);
}

}  // namespace azimuth::storage
