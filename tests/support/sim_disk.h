// SimDisk: the state below SimFiles (sim_files.h): files and directories in memory, what of them a
// power failure would leave, and the processes that may still touch them.
//
// What is durable. Of a file: its bytes as they were at the last Sync; of each write over them
// since then, a part: nothing, all, or its first so many bytes, whatever became of earlier writes.
// Of a directory: the changes (create, rename, remove, mkdir) before the last SyncDir of it.
// Syncing a file says nothing of its name. A rename is one change, whole or not at all, and syncing
// either of its directories makes it durable; that of a directory takes along what lies in it.
//
// Processes are numbered; Crash and Kill begin the next one, and all that is asked with an earlier
// number is refused.
//
// Thread safety: all of it, by one mutex.
#pragma once

#include "base/mutex.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::testing {

// A copy of a file's bytes that begins at a page boundary.
class SimPages final {
 public:
  explicit SimPages(std::string_view bytes);
  ~SimPages();
  SimPages(const SimPages&) = delete;
  SimPages& operator=(const SimPages&) = delete;
  std::span<const std::byte> bytes() const { return {start_, size_}; }

 private:
  std::byte* start_ = nullptr;
  size_t size_ = 0;
};

// A file or directory without its name. Only SimDisk looks inside, under its mutex.
struct SimNode {
  // Bytes that were replaced in place and not synced since.
  struct Update {
    size_t offset = 0;
    std::string before{};
    std::string after{};
  };
  bool is_directory = false;
  std::string bytes{};
  size_t synced = 0;              // Bytes that a power failure leaves, but for the updates.
  std::vector<Update> updates{};  // In order; all of them below `synced`.
  std::shared_ptr<const SimPages> pages{};  // Of a mapping that is still right, or null.
};

class SimDisk final {
 public:
  using Process = uint64_t;
  using Node = std::shared_ptr<SimNode>;
  static constexpr uint64_t kEndless = uint64_t{1} << 50;

  explicit SimDisk(uint64_t seed);

  // The process that runs now.
  Process process() const;
  // See SimFiles.
  void Crash(uint64_t seed);
  void Kill();
  void FailAfter(uint64_t n);
  void FailOnce(std::string_view what, std::string_view part, absl::Status status, uint64_t n);
  bool failed() const;
  uint64_t operations() const;
  void SetCapacity(uint64_t bytes);
  void SetFree(uint64_t bytes);
  void SetNetwork(bool network);
  // Of the file system that `path`, which must be there, lies in.
  absl::StatusOr<storage::DiskSpace> Space(Process process, std::string_view path);

  // Files by name. Codes are those of storage::Files; paths begin with a slash.
  // A new file; one of that name is AlreadyExists, or replaced.
  absl::StatusOr<Node> Create(Process process, std::string_view path, bool replace);
  absl::StatusOr<Node> Open(Process process, std::string_view path);
  absl::Status Rename(Process process, std::string_view from, std::string_view to);
  absl::Status Remove(Process process, std::string_view path);
  // Another name for a file; one of that name is AlreadyExists.
  absl::Status Link(Process process, std::string_view from, std::string_view to);
  // AlreadyExists if it is there, whatever it is.
  absl::Status MakeDir(Process process, std::string_view path);
  absl::Status SyncDir(Process process, std::string_view path);
  absl::StatusOr<std::vector<std::string>> List(Process process, std::string_view path);
  absl::StatusOr<bool> IsDirectory(Process process, std::string_view path);
  // Makes the file if needed; FailedPrecondition if it is locked.
  absl::Status Lock(Process process, std::string_view path);
  void Unlock(Process process, std::string_view path);

  // Open files. `path` is for messages.
  absl::Status Append(Process process, const Node& node, std::string_view path,
                      std::string_view bytes);
  absl::Status WriteAt(Process process, const Node& node, std::string_view path, uint64_t offset,
                       std::string_view bytes);
  // Makes the file `size` bytes long: cuts it, or adds zeros, all of them or none.
  absl::Status Allocate(Process process, const Node& node, std::string_view path, uint64_t size);
  absl::Status Sync(Process process, const Node& node, std::string_view path);
  absl::Status Truncate(Process process, const Node& node, std::string_view path, uint64_t size);
  // Copies at most `size` bytes from `offset` to `out` and returns how many there were.
  absl::StatusOr<size_t> Read(Process process, const Node& node, uint64_t offset, size_t size,
                              char* out);
  absl::StatusOr<uint64_t> Size(Process process, const Node& node);
  absl::StatusOr<std::shared_ptr<const SimPages>> Map(Process process, const Node& node);

 private:
  using Names = std::map<std::string, Node, std::less<>>;
  // A change of directories that is not durable yet: `node` is no longer `from` and is now `to`;
  // one of the two may be empty.
  struct Change {
    std::string from;
    std::string to;
    Node node;
  };

  absl::Status CheckAlive(Process process) const AZ_REQUIRES(mu_);
  // Counts an operation that changes something, and refuses it when it is its turn to fail.
  absl::Status BeginChange(Process process, std::string_view what, std::string_view path)
      AZ_REQUIRES(mu_);
  // The same of one that takes space: a full disk refuses it, too.
  absl::Status BeginCreation(Process process, std::string_view what, std::string_view path)
      AZ_REQUIRES(mu_);
  // Replaces and appends without asking.
  static void Write(SimNode& node, uint64_t offset, std::string_view bytes);
  static void Cut(SimNode& node, uint64_t size);
  uint64_t UsedBytes() const AZ_REQUIRES(mu_);
  uint64_t FreeBytes() const AZ_REQUIRES(mu_);
  absl::StatusOr<Node> Find(Process process, std::string_view what, const std::string& path) const
      AZ_REQUIRES(mu_);
  absl::Status CheckParent(std::string_view what, const std::string& path) const AZ_REQUIRES(mu_);
  void Apply(Change change) AZ_REQUIRES(mu_);
  void KeepChanges(std::mt19937_64& random) AZ_REQUIRES(mu_);
  void BeginProcess() AZ_REQUIRES(mu_);

  mutable Mutex mu_;
  Process process_ AZ_GUARDED_BY(mu_) = 1;
  std::mt19937_64 random_ AZ_GUARDED_BY(mu_);
  uint64_t operations_ AZ_GUARDED_BY(mu_) = 0;
  uint64_t fail_at_ AZ_GUARDED_BY(mu_) = 0;  // The number of the operation that fails; 0: none.
  // The one operation that fails by its name; OK: none.
  std::string once_what_ AZ_GUARDED_BY(mu_);
  std::string once_part_ AZ_GUARDED_BY(mu_);
  absl::Status once_ AZ_GUARDED_BY(mu_);
  uint64_t once_left_ AZ_GUARDED_BY(mu_) = 0;  // Until it is its turn.
  uint64_t capacity_ AZ_GUARDED_BY(mu_) = kEndless;
  bool network_ AZ_GUARDED_BY(mu_) = false;
  // By full path. The root is in both for ever.
  Names live_ AZ_GUARDED_BY(mu_);
  Names durable_ AZ_GUARDED_BY(mu_);
  std::vector<Change> pending_ AZ_GUARDED_BY(mu_);  // In order; leads from durable_ to live_.
  std::map<std::string, Process, std::less<>> locks_ AZ_GUARDED_BY(mu_);
};

}  // namespace azimuth::testing
