#include "storage/rocks_files.h"

#include "rocksdb/file_system.h"

#include <string>
#include <string_view>

namespace azimuth::storage {
namespace {

class OrderedFiles final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;

  const char* Name() const override { return "azimuth.OrderedFiles"; }

  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    constexpr std::string_view kCurrent = "/CURRENT";
    if (to.ends_with(kCurrent)) {
      const std::string parent = to.substr(0, to.size() - kCurrent.size());
      std::unique_ptr<rocksdb::FSDirectory> directory;
      rocksdb::IOStatus status = target()->NewDirectory(parent, options, &directory, debug);
      if (status.ok()) {
        status = directory->FsyncWithDirOptions(options, debug, rocksdb::DirFsyncOptions());
      }
      if (!status.ok()) return status;
    }
    return target()->RenameFile(from, to, options, debug);
  }
};

// RocksDB asks an Env for its files and its clock, and the rest of it for threads.
class OrderedEnv final : public rocksdb::EnvWrapper {
 public:
  explicit OrderedEnv(rocksdb::Env* base) : EnvWrapper(base) {
    file_system_ = std::make_shared<OrderedFiles>(base->GetFileSystem());
    system_clock_ = base->GetSystemClock();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> MakeOrderedEnv(rocksdb::Env* base) {
  return std::make_unique<OrderedEnv>(base != nullptr ? base : rocksdb::Env::Default());
}

}  // namespace azimuth::storage
