// What the compiler made of a function of this binary, read with objdump: g++ 12 has dropped
// prefetches from loops that did nothing else, which no other test notices.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <string>

namespace azimuth::index::testing {

inline bool HasObjdump() {
  return std::system("objdump --version > /dev/null 2>&1") == 0;
}

// The instructions of `function`, one a line; empty if it was not found.
template <typename Function>
std::string Disassembly(Function* function) {
  Dl_info info;
  const auto address = reinterpret_cast<uintptr_t>(function);
  if (dladdr(reinterpret_cast<const void*>(address), &info) == 0) return {};
  const uintptr_t start = address - reinterpret_cast<uintptr_t>(info.dli_fbase);
  constexpr uintptr_t kBytesMax = 1 << 16;
  std::array<char, 512> line{};
  std::snprintf(line.data(), line.size(),
                "objdump -d --no-show-raw-insn --start-address=%#zx --stop-address=%#zx '%s'",
                start, start + kBytesMax, info.dli_fname);
  FILE* pipe = popen(line.data(), "r");
  if (pipe == nullptr) return {};
  std::string text;
  int functions = 0;
  // All is read, so that objdump does not end with a broken pipe.
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
    const std::string read = line.data();
    // "00000000000123 <name>:" begins a function; the names of templates may fill more than a line.
    if (read[0] == '0') ++functions;
    if (functions == 1) text += read;
  }
  return pclose(pipe) == 0 ? text : std::string();
}

inline size_t CountOf(const std::string& what, const std::string& text) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace azimuth::index::testing
