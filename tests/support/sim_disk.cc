#include "tests/support/sim_disk.h"

#include "base/check.h"
#include "base/status.h"
#include "storage/file.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <utility>

namespace azimuth::testing {
namespace {

constexpr size_t kPageBytes = 4096;
// An offset: the end of the file, wherever it is.
constexpr uint64_t kAtEnd = UINT64_MAX;

// One slash between names and none at the end.
std::string Normal(std::string_view path) {
  AZ_CHECK(path.starts_with('/'));
  std::string normal;
  for (const char c : path) {
    if (c != '/' || !normal.ends_with('/')) normal.push_back(c);
  }
  if (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

// The beginning that all names in the directory share.
std::string PrefixOf(const std::string& directory) {
  return directory == "/" ? directory : directory + "/";
}

absl::Status NotThere(std::string_view what, std::string_view path) {
  return NotFound("cannot %s %s: No such file or directory", what, path);
}

// `path` with `to` in place of the directory `from`, if it lies in that.
std::string Moved(const std::string& path, const std::string& from, const std::string& to) {
  if (!path.starts_with(PrefixOf(from))) return path;
  return PrefixOf(to) + path.substr(PrefixOf(from).size());
}

void ApplyTo(std::map<std::string, SimDisk::Node, std::less<>>& names, const std::string& from,
             const std::string& to, const SimDisk::Node& node) {
  // Where an earlier change was lost, the name may lead elsewhere or nowhere.
  const auto old = names.find(from);
  const bool was_there = old != names.end() && old->second == node;
  if (was_there) names.erase(old);
  if (!to.empty()) names[to] = node;
  if (!was_there || !node->is_directory || to.empty()) return;
  // A directory takes along what lies in it.
  std::vector<std::pair<std::string, SimDisk::Node>> inside;
  for (auto it = names.lower_bound(PrefixOf(from)); it != names.end();) {
    if (!it->first.starts_with(PrefixOf(from))) break;
    inside.emplace_back(Moved(it->first, from, to), it->second);
    it = names.erase(it);
  }
  names.insert(inside.begin(), inside.end());
}

// Leaves of each unsynced write over durable bytes what `random` has.
void KeepUpdates(SimNode& node, std::mt19937_64& random) {
  for (auto it = node.updates.rbegin(); it != node.updates.rend(); ++it) {
    node.bytes.replace(it->offset, it->before.size(), it->before);
  }
  for (const SimNode::Update& update : node.updates) {
    const size_t size = update.after.size();
    const size_t parts[] = {0, size, random() % (size + 1)};
    const size_t kept = parts[random() % 3];
    node.bytes.replace(update.offset, kept, update.after, 0, kept);
  }
  node.updates.clear();
}

absl::Status Full(std::string_view what, std::string_view path) {
  return ResourceExhausted("cannot %s %s: No space left on device", what, path);
}

}  // namespace

SimPages::SimPages(std::string_view bytes) : size_(bytes.size()) {
  if (bytes.empty()) return;
  const size_t rounded = (size_ + kPageBytes - 1) / kPageBytes * kPageBytes;
  start_ = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, rounded));
  AZ_CHECK(start_ != nullptr);
  std::memcpy(start_, bytes.data(), size_);
}

SimPages::~SimPages() {
  std::free(start_);
}

SimDisk::SimDisk(uint64_t seed) : random_(seed) {
  const auto root = std::make_shared<SimNode>(SimNode{.is_directory = true});
  live_["/"] = root;
  durable_["/"] = root;
}

SimDisk::Process SimDisk::process() const {
  const MutexLock lock(mu_);
  return process_;
}

bool SimDisk::failed() const {
  const MutexLock lock(mu_);
  return fail_at_ != 0 && operations_ >= fail_at_;
}

uint64_t SimDisk::operations() const {
  const MutexLock lock(mu_);
  return operations_;
}

void SimDisk::FailAfter(uint64_t n) {
  AZ_CHECK(n > 0);
  const MutexLock lock(mu_);
  fail_at_ = operations_ + n;
}

void SimDisk::FailOnce(std::string_view what, std::string_view part, absl::Status status,
                       uint64_t n) {
  AZ_CHECK(n > 0);
  const MutexLock lock(mu_);
  once_what_ = what;
  once_part_ = part;
  once_ = std::move(status);
  once_left_ = n;
}

void SimDisk::SetCapacity(uint64_t bytes) {
  const MutexLock lock(mu_);
  capacity_ = bytes;
}

void SimDisk::SetFree(uint64_t bytes) {
  const MutexLock lock(mu_);
  capacity_ = std::min(UsedBytes() + bytes, kEndless);
}

void SimDisk::SetNetwork(bool network) {
  const MutexLock lock(mu_);
  network_ = network;
}

absl::StatusOr<storage::DiskSpace> SimDisk::Space(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(Find(process, "inspect the file system of", name).status());
  return storage::DiskSpace{
      .capacity_bytes = capacity_, .free_bytes = FreeBytes(), .network = network_};
}

uint64_t SimDisk::UsedBytes() const {
  uint64_t used = 0;
  std::set<const SimNode*> counted;  // A file may have several names.
  for (const auto& [path, node] : live_) {
    if (counted.insert(node.get()).second) used += node->bytes.size();
  }
  return used;
}

uint64_t SimDisk::FreeBytes() const {
  // Nothing is counted on a disk that does not end.
  if (capacity_ == kEndless) return kEndless;
  return capacity_ - std::min(capacity_, UsedBytes());
}

void SimDisk::Kill() {
  const MutexLock lock(mu_);
  BeginProcess();
}

void SimDisk::BeginProcess() {
  ++process_;
  locks_.clear();
  fail_at_ = 0;
  once_ = absl::OkStatus();
}

void SimDisk::KeepChanges(std::mt19937_64& random) {
  // None, all, those up to some moment (as a journal keeps them), or each as it comes.
  const uint64_t way = random() % 4;
  const size_t some = random() % (pending_.size() + 1);
  for (size_t i = 0; i < pending_.size(); ++i) {
    const bool kept = way == 1 || (way == 2 && i < some) || (way == 3 && random() % 2 == 0);
    if (kept) ApplyTo(durable_, pending_[i].from, pending_[i].to, pending_[i].node);
  }
  pending_.clear();
  // What lies in a directory that was lost is lost. Directories come before what they hold.
  for (auto it = durable_.begin(); it != durable_.end();) {
    const auto parent = durable_.find(storage::ParentDirectory(it->first));
    const bool there = parent != durable_.end() && parent->second->is_directory;
    it = there ? std::next(it) : durable_.erase(it);
  }
}

void SimDisk::Crash(uint64_t seed) {
  std::mt19937_64 random(seed);
  const MutexLock lock(mu_);
  BeginProcess();
  KeepChanges(random);
  live_ = durable_;
  for (const auto& [path, node] : live_) {
    const size_t tail = node->bytes.size() - node->synced;
    // Nothing of the tail, all of it, or a part that ends anywhere.
    const size_t parts[] = {0, tail, random() % (tail + 1)};
    node->bytes.resize(node->synced + parts[random() % 3]);
    KeepUpdates(*node, random);
    node->synced = node->bytes.size();
    node->pages.reset();
  }
}

absl::Status SimDisk::CheckAlive(Process process) const {
  if (process == process_) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrFormat("process %d of the simulated disk is dead", process));
}

absl::Status SimDisk::BeginChange(Process process, std::string_view what, std::string_view path) {
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  ++operations_;
  if (!once_.ok() && what == once_what_ && path.find(once_part_) != std::string_view::npos &&
      --once_left_ == 0) {
    return std::exchange(once_, absl::OkStatus());
  }
  if (fail_at_ == 0 || operations_ < fail_at_) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrFormat("cannot %s %s: simulated error of the disk", what, path));
}

absl::Status SimDisk::BeginCreation(Process process, std::string_view what, std::string_view path) {
  AZ_RETURN_IF_ERROR(BeginChange(process, what, path));
  return FreeBytes() == 0 ? Full(what, path) : absl::OkStatus();
}

absl::StatusOr<SimDisk::Node> SimDisk::Find(Process process, std::string_view what,
                                            const std::string& path) const {
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  const auto found = live_.find(path);
  if (found == live_.end()) return NotThere(what, path);
  return found->second;
}

absl::Status SimDisk::CheckParent(std::string_view what, const std::string& path) const {
  const auto parent = live_.find(storage::ParentDirectory(path));
  if (parent == live_.end() || !parent->second->is_directory) return NotThere(what, path);
  return absl::OkStatus();
}

void SimDisk::Apply(Change change) {
  ApplyTo(live_, change.from, change.to, change.node);
  pending_.push_back(std::move(change));
}

absl::StatusOr<SimDisk::Node> SimDisk::Create(Process process, std::string_view path,
                                              bool replace) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  AZ_RETURN_IF_ERROR(CheckParent("create", name));
  const auto found = live_.find(name);
  if (found != live_.end() && (!replace || found->second->is_directory)) {
    return AlreadyExists("cannot create %s: it exists", path);
  }
  AZ_RETURN_IF_ERROR(BeginCreation(process, "create", path));
  const auto node = std::make_shared<SimNode>();
  Apply({.from = "", .to = name, .node = node});
  return node;
}

absl::StatusOr<SimDisk::Node> SimDisk::Open(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(Node node, Find(process, "open", name));
  if (node->is_directory) {
    return FailedPrecondition("cannot open %s: it is not a regular file", path);
  }
  return node;
}

absl::Status SimDisk::Rename(Process process, std::string_view from, std::string_view to) {
  const std::string old_name = Normal(from);
  const std::string new_name = Normal(to);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "rename", old_name));
  AZ_RETURN_IF_ERROR(CheckParent("rename to", new_name));
  const auto replaced = live_.find(new_name);
  if (replaced != live_.end() && (node->is_directory || replaced->second->is_directory)) {
    return absl::UnavailableError(absl::StrFormat(
        "cannot rename %s to %s: only a file is replaced here, and by a file", from, to));
  }
  AZ_RETURN_IF_ERROR(BeginChange(process, "rename", from));
  if (old_name != new_name) Apply({.from = old_name, .to = new_name, .node = node});
  return absl::OkStatus();
}

absl::Status SimDisk::Remove(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "remove", name));
  const auto below = live_.lower_bound(PrefixOf(name));
  if (node->is_directory && below != live_.end() && below->first.starts_with(PrefixOf(name))) {
    return absl::UnavailableError(absl::StrFormat("cannot remove %s: Directory not empty", path));
  }
  AZ_RETURN_IF_ERROR(BeginChange(process, "remove", path));
  Apply({.from = name, .to = "", .node = node});
  return absl::OkStatus();
}

absl::Status SimDisk::Link(Process process, std::string_view from, std::string_view to) {
  const std::string old_name = Normal(from);
  const std::string new_name = Normal(to);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "link", old_name));
  AZ_RETURN_IF_ERROR(CheckParent("link to", new_name));
  if (live_.contains(new_name)) return AlreadyExists("cannot link %s: it exists", to);
  if (node->is_directory) {
    return absl::PermissionDeniedError(
        absl::StrFormat("cannot link %s to %s: it is a directory", to, from));
  }
  AZ_RETURN_IF_ERROR(BeginCreation(process, "link", to));
  Apply({.from = "", .to = new_name, .node = node});
  return absl::OkStatus();
}

absl::Status SimDisk::MakeDir(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  AZ_RETURN_IF_ERROR(CheckParent("make directory", name));
  if (live_.contains(name)) {
    return AlreadyExists("cannot make directory %s: it exists", path);
  }
  AZ_RETURN_IF_ERROR(BeginCreation(process, "make directory", path));
  Apply({.from = "", .to = name, .node = std::make_shared<SimNode>(SimNode{.is_directory = true})});
  return absl::OkStatus();
}

absl::Status SimDisk::SyncDir(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "sync", name));
  if (!node->is_directory)
    return absl::UnavailableError(absl::StrFormat("cannot sync %s: Not a directory", path));
  AZ_RETURN_IF_ERROR(BeginChange(process, "sync", path));
  std::vector<Change> rest;
  for (Change& change : pending_) {
    const auto is_here = [&](const std::string& changed) {
      return !changed.empty() && storage::ParentDirectory(changed) == name;
    };
    if (is_here(change.from) || is_here(change.to)) {
      ApplyTo(durable_, change.from, change.to, change.node);
      if (!change.node->is_directory || change.from.empty() || change.to.empty()) continue;
      // What is not durable yet of that directory is now under its new name.
      for (Change& earlier : rest) {
        earlier.from = Moved(earlier.from, change.from, change.to);
        earlier.to = Moved(earlier.to, change.from, change.to);
      }
    } else {
      rest.push_back(std::move(change));
    }
  }
  pending_ = std::move(rest);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SimDisk::List(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "list", name));
  if (!node->is_directory)
    return absl::UnavailableError(absl::StrFormat("cannot list %s: Not a directory", path));
  const std::string prefix = PrefixOf(name);
  std::vector<std::string> names;
  for (auto it = live_.upper_bound(prefix); it != live_.end(); ++it) {
    if (!it->first.starts_with(prefix)) break;
    const std::string_view rest = std::string_view(it->first).substr(prefix.size());
    if (rest.find('/') == std::string_view::npos) names.emplace_back(rest);
  }
  return names;
}

absl::StatusOr<bool> SimDisk::IsDirectory(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_ASSIGN_OR_RETURN(const Node node, Find(process, "inspect", name));
  return node->is_directory;
}

absl::Status SimDisk::Lock(Process process, std::string_view path) {
  const std::string name = Normal(path);
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  AZ_RETURN_IF_ERROR(CheckParent("open", name));
  if (locks_.contains(name)) {
    return FailedPrecondition("cannot lock %s: another process holds it", path);
  }
  if (!live_.contains(name)) {
    AZ_RETURN_IF_ERROR(BeginCreation(process, "create", path));
    Apply({.from = "", .to = name, .node = std::make_shared<SimNode>()});
  }
  locks_[name] = process;
  return absl::OkStatus();
}

void SimDisk::Unlock(Process process, std::string_view path) {
  const MutexLock lock(mu_);
  const auto held = locks_.find(Normal(path));
  if (held != locks_.end() && held->second == process) locks_.erase(held);
}

absl::Status SimDisk::Append(Process process, const Node& node, std::string_view path,
                             std::string_view bytes) {
  return WriteAt(process, node, path, kAtEnd, bytes);
}

absl::Status SimDisk::WriteAt(Process process, const Node& node, std::string_view path,
                              uint64_t offset, std::string_view bytes) {
  const MutexLock lock(mu_);
  if (offset == kAtEnd) offset = node->bytes.size();
  const bool failed_before = fail_at_ != 0 && operations_ >= fail_at_;
  absl::Status status = BeginChange(process, "write", path);
  if (status.ok()) {
    // What the file has, and what fits.
    const uint64_t room = node->bytes.size() + FreeBytes() -
                          std::min<uint64_t>(offset, node->bytes.size() + FreeBytes());
    if (bytes.size() > room) status = Full("write", path);
    Write(*node, offset, bytes.substr(0, room));
  } else if (process == process_ && !failed_before) {
    // The write that is cut short gets as far as it gets.
    Write(*node, offset, bytes.substr(0, random_() % (bytes.size() + 1)));
  }
  return status;
}

void SimDisk::Write(SimNode& node, uint64_t offset, std::string_view bytes) {
  if (bytes.empty()) return;
  if (offset > node.bytes.size()) node.bytes.resize(offset);
  if (offset < node.synced) {
    const size_t count = std::min<size_t>(bytes.size(), node.synced - offset);
    node.updates.push_back({.offset = offset,
                            .before = node.bytes.substr(offset, count),
                            .after = std::string(bytes.substr(0, count))});
  }
  const size_t replaced = std::min<size_t>(bytes.size(), node.bytes.size() - offset);
  node.bytes.replace(offset, replaced, bytes);
  if (replaced > 0) node.pages.reset();
}

absl::Status SimDisk::Allocate(Process process, const Node& node, std::string_view path,
                               uint64_t size) {
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(BeginChange(process, "allocate", path));
  const uint64_t held = node->bytes.size();
  if (size > held && size - held > FreeBytes()) return Full("allocate", path);
  size > held ? node->bytes.resize(size) : Cut(*node, size);
  return absl::OkStatus();
}

absl::Status SimDisk::Sync(Process process, const Node& node, std::string_view path) {
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(BeginChange(process, "sync", path));
  node->synced = node->bytes.size();
  node->updates.clear();
  return absl::OkStatus();
}

void SimDisk::Cut(SimNode& node, uint64_t size) {
  node.bytes.resize(size);
  node.synced = std::min(node.synced, node.bytes.size());
  std::erase_if(node.updates, [&](SimNode::Update& update) {
    if (update.offset >= size) return true;
    const size_t left = std::min<size_t>(update.after.size(), size - update.offset);
    update.before.resize(left);
    update.after.resize(left);
    return false;
  });
  node.pages.reset();
}

absl::Status SimDisk::Truncate(Process process, const Node& node, std::string_view path,
                               uint64_t size) {
  const MutexLock lock(mu_);
  if (size == node->bytes.size()) return CheckAlive(process);
  AZ_RETURN_IF_ERROR(BeginChange(process, "truncate", path));
  Cut(*node, size);
  return absl::OkStatus();
}

absl::StatusOr<size_t> SimDisk::Read(Process process, const Node& node, uint64_t offset,
                                     size_t size, char* out) {
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  if (offset >= node->bytes.size()) return size_t{0};
  return node->bytes.copy(out, size, offset);
}

absl::StatusOr<uint64_t> SimDisk::Size(Process process, const Node& node) {
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  return node->bytes.size();
}

absl::StatusOr<std::shared_ptr<const SimPages>> SimDisk::Map(Process process, const Node& node) {
  const MutexLock lock(mu_);
  AZ_RETURN_IF_ERROR(CheckAlive(process));
  if (node->pages == nullptr || node->pages->bytes().size() != node->bytes.size()) {
    node->pages = std::make_shared<const SimPages>(node->bytes);
  }
  return node->pages;
}

}  // namespace azimuth::testing
