#include "storage/watermark.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/mutex.h"
#include "base/status.h"

#include <array>
#include <atomic>
#include <span>
#include <string_view>
#include <utility>

namespace azimuth::storage {
namespace {

constexpr uint32_t kMagic = 0x4B4D5A41;  // "AZMK"
constexpr uint8_t kVersion = 1;
constexpr uint8_t kCleanFlag = 1;
constexpr uint32_t kSlots = 2;
constexpr size_t kSlotBytes = 32;

struct Slot {
  Watermark::Mark mark{};
  // One more than that of the other slot when it was written. Slot i holds those that leave i when
  // divided by kSlots, so that the older one is written over.
  uint32_t counter = 0;
};

std::string EncodeSlot(const Slot& slot, uint64_t instance) {
  std::string bytes;
  PutLittle(bytes, kMagic);
  PutLittle(bytes, kVersion);
  PutLittle(bytes, slot.mark.clean ? kCleanFlag : uint8_t{0});
  PutLittle(bytes, uint16_t{0});
  PutLittle(bytes, Raw(slot.mark.seq));
  PutLittle(bytes, instance);
  PutLittle(bytes, slot.counter);
  PutLittle(bytes, Crc32c(std::string_view(bytes)));
  return bytes;
}

// The slot of that number, if every byte of it is right.
std::optional<Slot> DecodeSlot(std::string_view file, uint32_t number, uint64_t instance) {
  if (file.size() < (number + 1) * kSlotBytes) return std::nullopt;
  const std::string_view bytes = file.substr(number * kSlotBytes, kSlotBytes);
  ByteReader seq_reader(bytes.substr(8));
  ByteReader counter_reader(bytes.substr(24));
  uint64_t seq = 0;
  Slot slot;
  if (!seq_reader.Little(seq) || !counter_reader.Little(slot.counter)) return std::nullopt;
  slot.mark = {.seq = Seq{seq}, .clean = (static_cast<uint8_t>(bytes[5]) & kCleanFlag) != 0};
  // Writing it again checks the rest, the checksum too.
  if (bytes != EncodeSlot(slot, instance) || slot.counter % kSlots != number) return std::nullopt;
  return slot;
}

struct Contents {
  Watermark::Found found;
  std::optional<Slot> newest;
};

// The order of counters is that of their difference: they wrap.
bool IsNewer(const Slot& slot, const std::optional<Slot>& than) {
  return !than.has_value() || static_cast<int32_t>(slot.counter - than->counter) > 0;
}

absl::StatusOr<Contents> ReadContents(const std::string& path, uint64_t instance, Files& files) {
  Contents contents;
  const absl::StatusOr<std::string> file = files.ReadSmall(path);
  contents.found.missing = absl::IsNotFound(file.status());
  contents.found.damaged = absl::IsDataLoss(file.status());
  if (contents.found.missing || contents.found.damaged) return contents;
  if (!file.ok()) return file.status();
  for (uint32_t number = 0; number < kSlots; ++number) {
    const std::optional<Slot> slot = DecodeSlot(*file, number, instance);
    contents.found.damaged |= !slot.has_value();
    if (slot.has_value() && IsNewer(*slot, contents.newest)) contents.newest = slot;
  }
  if (contents.newest.has_value()) contents.found.mark = contents.newest->mark;
  return contents;
}

// The file with both slots right.
std::string NewFile(uint64_t instance) {
  std::string bytes;
  for (uint32_t number = 0; number < kSlots; ++number) {
    bytes += EncodeSlot({.counter = number}, instance);
  }
  return bytes;
}

}  // namespace

struct Watermark::Rep {
  explicit Rep(uint64_t the_instance) : instance(the_instance) {}

  // Writes `mark` into the older slot, and if `twice` then into the other one, too.
  absl::Status WriteSlots(const Mark& mark, bool twice) AZ_REQUIRES(mu);
  absl::Status WriteSlot(const Slot& slot) AZ_REQUIRES(mu);

  const uint64_t instance;
  // Readers of it do not wait for the disk.
  std::atomic<Seq> written{kSeqZero};
  Mutex mu;
  std::unique_ptr<UpdatableFile> file AZ_GUARDED_BY(mu);
  std::optional<Slot> newest AZ_GUARDED_BY(mu);  // On disk.
  bool damaged AZ_GUARDED_BY(mu) = false;        // A slot is, or both.
  absl::Status failure AZ_GUARDED_BY(mu);        // After it nothing is written.
};

absl::Status Watermark::Rep::WriteSlots(const Mark& mark, bool twice) {
  AZ_RETURN_IF_ERROR(failure);
  // With no slot that is right nothing says which one the other one would be taken for newer than.
  for (int left = twice || !newest.has_value() ? 2 : 1; left > 0; --left) {
    const Slot slot{.mark = mark, .counter = newest.has_value() ? newest->counter + 1 : 0};
    if (absl::Status status = WriteSlot(slot); !status.ok()) {
      if (!absl::IsResourceExhausted(status)) failure = status;
      damaged = true;  // Perhaps; the next Write is not left out.
      return status;
    }
    newest = slot;
    written.store(mark.seq, std::memory_order_relaxed);
  }
  damaged = false;
  return absl::OkStatus();
}

absl::Status Watermark::Rep::WriteSlot(const Slot& slot) {
  const std::string bytes = EncodeSlot(slot, instance);
  AZ_RETURN_IF_ERROR(file->WriteAt(uint64_t{slot.counter % kSlots} * kSlotBytes,
                                   std::as_bytes(std::span(bytes.data(), bytes.size()))));
  AZ_FAILPOINT(kWatermarkBeforeSync);
  return file->Sync();
}

Watermark::Watermark(std::unique_ptr<Rep> rep, Found found) : rep_(std::move(rep)), found_(found) {}
Watermark::~Watermark() = default;

absl::StatusOr<Watermark::Found> Watermark::Read(const std::string& path, uint64_t instance,
                                                 Files& files) {
  AZ_ASSIGN_OR_RETURN(const Contents contents, ReadContents(path, instance, files));
  return contents.found;
}

absl::StatusOr<std::unique_ptr<Watermark>> Watermark::Open(const std::string& path,
                                                           uint64_t instance, Files& files) {
  AZ_ASSIGN_OR_RETURN(Contents contents, ReadContents(path, instance, files));
  if (contents.found.missing) {
    AZ_RETURN_IF_ERROR(WriteFileAtomically(path, NewFile(instance), files));
    contents.newest = Slot{.counter = kSlots - 1};
  }
  auto rep = std::make_unique<Rep>(instance);
  {
    const MutexLock lock(rep->mu);
    AZ_ASSIGN_OR_RETURN(rep->file, files.OpenForUpdate(path));
    rep->damaged = contents.found.damaged;
    if (contents.newest.has_value()) rep->written.store(contents.newest->mark.seq);
    rep->newest = contents.newest;
  }
  return std::unique_ptr<Watermark>(new Watermark(std::move(rep), contents.found));
}

Seq Watermark::written() const {
  return rep_->written.load(std::memory_order_relaxed);
}

absl::Status Watermark::Write(Seq seq, bool clean) {
  const Mark mark{.seq = seq, .clean = clean};
  const MutexLock lock(rep_->mu);
  if (rep_->newest.has_value()) {
    const Mark& last = rep_->newest->mark;
    if (seq < last.seq || (mark == last && !rep_->damaged)) return absl::OkStatus();
  }
  return rep_->WriteSlots(mark, /*twice=*/false);
}

absl::Status Watermark::Reset(Seq seq) {
  const MutexLock lock(rep_->mu);
  // Both: a larger mark that is left would count again if the newer one is damaged one day.
  return rep_->WriteSlots({.seq = seq}, /*twice=*/true);
}

}  // namespace azimuth::storage
