// Which paths and descriptors count: see fault_shim.h.

#include "shim/fault_shim.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace azimuth_shim {
namespace {

constexpr int kFdsMax = 4096;

struct Fd {
  std::atomic<bool> counts{false};
  bool changes = false;
  char path[kPathBytes];
};

Fd g_fds[kFdsMax];
char g_folder[kPathBytes];
size_t g_folder_length = 0;

// From AZIMUTH_FAULT_DIR, once; a program may open files before constructors have run.
const char* Folder() {
  static std::atomic<int> state{0};
  if (state.load(std::memory_order_acquire) == 0) {
    const char* folder = getenv("AZIMUTH_FAULT_DIR");
    if (folder != nullptr && *folder == '/' && strlen(folder) < kPathBytes) {
      strcpy(g_folder, folder);
      g_folder_length = strlen(folder);
      while (g_folder_length > 1 && g_folder[g_folder_length - 1] == '/') --g_folder_length;
      g_folder[g_folder_length] = 0;
    } else if (folder != nullptr && *folder != 0) {
      Refuse("AZIMUTH_FAULT_DIR must be an absolute path of less than 512 bytes:", folder);
    }
    state.store(1, std::memory_order_release);
  }
  return g_folder;
}

// The path of a directory's descriptor, or of the working directory; false if there is none.
bool PathOfDirectory(int directory, char (&out)[kPathBytes]) {
  char name[64] = "/proc/self/cwd";
  if (directory != AT_FDCWD) snprintf(name, sizeof(name), "/proc/self/fd/%d", directory);
  const long length = syscall(SYS_readlinkat, AT_FDCWD, name, out, kPathBytes - 1);
  if (length <= 0) return false;
  out[length] = 0;
  return true;
}

// Appends without doubled slashes and without "." as a part; false if it does not fit.
bool AppendPath(char (&out)[kPathBytes], size_t length, const char* path) {
  for (; *path != 0; ++path) {
    const bool begins = length > 0 && out[length - 1] == '/';
    if (begins && (*path == '/' || (*path == '.' && (path[1] == '/' || path[1] == 0)))) continue;
    if (length + 1 >= kPathBytes) return false;
    out[length++] = *path;
  }
  while (length > 1 && out[length - 1] == '/') --length;
  out[length] = 0;
  return true;
}

}  // namespace

bool PathBelow(int directory, const char* path, char (&out)[kPathBytes]) {
  const char* folder = Folder();
  if (*folder == 0 || path == nullptr) return false;
  char full[kPathBytes];
  size_t length = 0;
  if (*path != '/') {
    if (!PathOfDirectory(directory, full)) return false;
    length = strlen(full);
    if (length + 1 >= kPathBytes) return false;
    full[length++] = '/';
  }
  if (!AppendPath(full, length, path)) return false;
  if (strncmp(full, folder, g_folder_length) != 0) return false;
  if (full[g_folder_length] == 0) {
    out[0] = 0;
    return true;
  }
  if (full[g_folder_length] != '/') return false;
  strcpy(out, full + g_folder_length + 1);
  return true;
}

void FullPath(const char* below, char (&out)[kPathBytes]) {
  const char* folder = Folder();
  if (static_cast<size_t>(snprintf(out, kPathBytes, "%s/%s", folder, below)) >= kPathBytes) {
    Refuse("a path is too long:", below);
  }
}

void FdOpened(int fd, const char* below, bool changes) {
  if (fd < 0 || fd >= kFdsMax) return;
  strcpy(g_fds[fd].path, below);
  g_fds[fd].changes = changes;
  g_fds[fd].counts.store(true, std::memory_order_release);
}

void FdClosed(int fd) {
  if (fd >= 0 && fd < kFdsMax) g_fds[fd].counts.store(false, std::memory_order_release);
}

bool FdChanges(int fd) {
  return FdPath(fd) != nullptr && g_fds[fd].changes;
}

const char* FdPath(int fd) {
  if (fd < 0 || fd >= kFdsMax || !g_fds[fd].counts.load(std::memory_order_acquire)) return nullptr;
  return g_fds[fd].path;
}

}  // namespace azimuth_shim
