// The rules, the counts and the clock: see fault_shim.h.

#include "shim/fault_shim.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <limits>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace azimuth_shim {
namespace {

constexpr size_t kRulesMax = 32;
constexpr size_t kGlobBytes = 96;
// Sets of rules are used again only after so many changes: a call that still reads an old one is
// long over by then.
constexpr size_t kSets = 16;
constexpr uint64_t kForEver = std::numeric_limits<uint64_t>::max();

enum class Act { kError, kShort, kSkip, kSleep, kKill, kOffset, kFreeze };

struct Rule {
  uint64_t calls = 0;  // A bit for each kind.
  char glob[kGlobBytes] = {};
  uint64_t first = 1;
  uint64_t last = 1;
  Act act = Act::kError;
  int error = 0;
  int64_t amount = 0;
  std::atomic<uint64_t> visits{0};
  std::atomic<int64_t> frozen_ns{0};
};

struct RuleSet {
  size_t count = 0;
  bool touches_clock = false;
  std::atomic<bool> hit{false};
  Rule rules[kRulesMax];
};

struct NamedError {
  const char* name;
  int code;
};
constexpr NamedError kErrors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EMFILE", EMFILE},
                                  {"ENFILE", ENFILE}, {"ENOMEM", ENOMEM}, {"EINTR", EINTR},
                                  {"EAGAIN", EAGAIN}, {"EROFS", EROFS},   {"EACCES", EACCES},
                                  {"EDQUOT", EDQUOT}, {"EPERM", EPERM},   {"ENOENT", ENOENT}};

struct Group {
  const char* name;
  uint64_t calls;
};
constexpr uint64_t Bit(Call call) {
  return uint64_t{1} << call;
}
constexpr uint64_t kSpace =
    Bit(kCreate) | Bit(kWrite) | Bit(kPwrite) | Bit(kMkdir) | Bit(kAllocate) | Bit(kLink);
constexpr uint64_t kChange = kSpace | Bit(kFsync) | Bit(kFdatasync) | Bit(kSyncRange) |
                             Bit(kRename) | Bit(kUnlink) | Bit(kTruncate);
constexpr Group kGroups[] = {
    {"sync", Bit(kFsync) | Bit(kFdatasync)},
    {"space", kSpace},
    {"change", kChange},
    {"any", kChange | Bit(kOpen) | Bit(kClose) | Bit(kRead) | Bit(kPread) | Bit(kMmap)},
};

RuleSet g_sets[kSets];
std::atomic<RuleSet*> g_rules{&g_sets[0]};
std::atomic_flag g_loading = ATOMIC_FLAG_INIT;
size_t g_next_set = 1;  // Under g_loading.
std::atomic<uint64_t> g_generation{0};
const unsigned char* g_control = nullptr;
alignas(8) unsigned char g_own_counts[kCountsBytes];
unsigned char* g_counts = g_own_counts;

std::atomic_ref<uint64_t> CountAt(size_t offset) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(g_counts + offset));
}

bool Matches(const char* glob, const char* text) {
  // Backtracks to the last star only, which is enough.
  const char* star = nullptr;
  const char* mark = text;
  while (*text != 0) {
    if (*glob == '*') {
      star = ++glob;
      mark = text;
    } else if (*glob == '?' || *glob == *text) {
      ++glob;
      ++text;
    } else if (star != nullptr) {
      glob = star;
      text = ++mark;
    } else {
      return false;
    }
  }
  while (*glob == '*') ++glob;
  return *glob == 0;
}

bool Same(const char* text, size_t length, const char* name) {
  return strlen(name) == length && memcmp(text, name, length) == 0;
}

uint64_t CallsOf(const char* name, size_t length) {
  for (int i = 0; i < kCallCount; ++i) {
    if (Same(name, length, kCallNames[i])) return uint64_t{1} << i;
  }
  for (const Group& group : kGroups) {
    if (Same(name, length, group.name)) return group.calls;
  }
  return 0;
}

bool ParseAction(const char* text, Rule& rule) {
  const size_t length = strcspn(text, ":");
  const char* rest = text + length;
  if (Same(text, length, "short")) {
    rule.act = Act::kShort;
  } else if (Same(text, length, "skip")) {
    rule.act = Act::kSkip;
  } else if (Same(text, length, "kill")) {
    rule.act = Act::kKill;
  } else if (Same(text, length, "freeze")) {
    rule.act = Act::kFreeze;
  } else if (Same(text, length, "sleep") || Same(text, length, "offset")) {
    rule.act = text[0] == 's' ? Act::kSleep : Act::kOffset;
    if (*rest != ':') return false;
    char* end = nullptr;
    rule.amount = strtoll(rest + 1, &end, 10);
    if (end == rest + 1) return false;
    rest = end;
  } else {
    for (const NamedError& error : kErrors) {
      if (Same(text, length, error.name)) rule.error = error.code;
    }
    if (rule.error == 0) return false;
  }
  if (strcmp(rest, ":sticky") == 0) {
    rule.last = kForEver;
    return true;
  }
  return *rest == 0;
}

// One rule, which `text` is to its end.
bool ParseRule(const char* text, Rule& rule) {
  const size_t name = strcspn(text, "(@");
  rule.calls = CallsOf(text, name);
  const char* at = text + name;
  if (rule.calls == 0 || *at == 0) return false;
  strcpy(rule.glob, "*");
  if (*at == '(') {
    const char* end = strchr(at, ')');
    if (end == nullptr || static_cast<size_t>(end - at) > kGlobBytes) return false;
    const auto length = static_cast<size_t>(end - at - 1);
    memcpy(rule.glob, at + 1, length);
    rule.glob[length] = 0;
    at = end + 1;
  }
  if (*at != '@') return false;
  char* end = nullptr;
  rule.first = strtoull(at + 1, &end, 10);
  rule.last = rule.first;
  if (*end == '-') rule.last = strtoull(end + 1, &end, 10);
  if (rule.first == 0 || rule.last < rule.first || *end != '=') return false;
  return ParseAction(end + 1, rule);
}

void Reset(RuleSet& set) {
  set.count = 0;
  set.touches_clock = false;
  set.hit = false;
  for (Rule& rule : set.rules) {
    rule.glob[0] = 0;
    rule.error = 0;
    rule.amount = 0;
    rule.act = Act::kError;
    rule.visits = 0;
    rule.frozen_ns = 0;
  }
}

// `text` is changed. REQUIRES: no other thread parses.
void Parse(char* text) {
  RuleSet& set = g_sets[g_next_set];
  g_next_set = (g_next_set + 1) % kSets;
  Reset(set);
  char* state = nullptr;
  for (char* one = strtok_r(text, ";\n", &state); one != nullptr;
       one = strtok_r(nullptr, ";\n", &state)) {
    if (set.count == kRulesMax) Refuse("too many rules at", one);
    Rule& rule = set.rules[set.count++];
    if (!ParseRule(one, rule)) Refuse("cannot read the rule", one);
    set.touches_clock = set.touches_clock || (rule.calls & Bit(kClock)) != 0;
  }
  g_rules.store(&set, std::memory_order_release);
}

uint64_t ControlGeneration() {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(g_control), __ATOMIC_ACQUIRE);
}

void ReadControl() {
  if (g_control == nullptr) return;
  const uint64_t generation = ControlGeneration();
  if (generation == g_generation.load(std::memory_order_relaxed) || generation % 2 != 0) return;
  if (g_loading.test_and_set(std::memory_order_acquire)) return;  // Another thread reads it.
  char text[kControlBytes];
  uint64_t length = 0;
  memcpy(&length, g_control + 8, 8);
  if (length <= kControlBytes - 16) {
    memcpy(text, g_control + 16, length);
    text[length] = 0;
    if (ControlGeneration() == generation) {
      Parse(text);
      g_generation.store(generation, std::memory_order_relaxed);
    }
  }
  g_loading.clear(std::memory_order_release);
}

void* MapShared(const char* path, size_t bytes, bool make) {
  const int flags = make ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC;
  const auto fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, 0644));
  if (fd < 0) Refuse("cannot open", path);
  if (make && syscall(SYS_ftruncate, fd, bytes) != 0) Refuse("cannot make", path);
  const int protection = make ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) Refuse("cannot map", path);
  syscall(SYS_close, fd);
  return address;
}

__attribute__((constructor)) void Begin() {
  if (const char* path = getenv("AZIMUTH_FAULT_COUNTS"); path != nullptr && *path != 0) {
    g_counts = static_cast<unsigned char*>(MapShared(path, kCountsBytes, true));
  }
  if (const char* text = getenv("AZIMUTH_FAULTS"); text != nullptr) {
    char copy[kControlBytes];
    if (strlen(text) >= sizeof(copy)) Refuse("too long", text);
    strcpy(copy, text);
    Parse(copy);
  }
  if (const char* path = getenv("AZIMUTH_FAULT_CONTROL"); path != nullptr && *path != 0) {
    g_control = static_cast<const unsigned char*>(MapShared(path, kControlBytes, false));
    ReadControl();
  }
}

void NoteHit(RuleSet& set, Call call, const char* path) {
  char text[kHitBytes] = {};
  strcpy(text, kCallNames[call]);
  strcat(text, " ");
  strncat(text, path, kHitBytes - strlen(text) - 1);
  if (!set.hit.exchange(true)) memcpy(g_counts + kFirstHitOffset, text, kHitBytes);
  memcpy(g_counts + kLastHitOffset, text, kHitBytes);
  CountAt(kHitsOffset).fetch_add(1, std::memory_order_release);
}

void Wait(int64_t ms) {
  timespec left{ms / 1000, (ms % 1000) * 1000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

}  // namespace

void Refuse(const char* what, const char* detail) {
  for (const char* part : {"fault shim: ", what, " ", detail, "\n"}) {
    syscall(SYS_write, 2, part, strlen(part));
  }
  _exit(70);
}

Verdict Visit(Call call, const char* path) {
  CountAt(8 * static_cast<size_t>(call)).fetch_add(1, std::memory_order_relaxed);
  ReadControl();
  RuleSet& set = *g_rules.load(std::memory_order_acquire);
  for (size_t i = 0; i < set.count; ++i) {
    Rule& rule = set.rules[i];
    if ((rule.calls & Bit(call)) == 0 || !Matches(rule.glob, path)) continue;
    const uint64_t visit = rule.visits.fetch_add(1, std::memory_order_relaxed) + 1;
    if (visit < rule.first || visit > rule.last) continue;
    NoteHit(set, call, path);
    switch (rule.act) {
      case Act::kError:
        return {.error = rule.error};
      case Act::kShort:
        return {.shortened = true};
      case Act::kSkip:
        return {.skipped = true};
      case Act::kSleep:
        Wait(rule.amount);
        break;
      case Act::kKill:
        syscall(SYS_kill, getpid(), SIGKILL);
        break;
      case Act::kOffset:
      case Act::kFreeze:
        break;
    }
  }
  return {};
}

int64_t RealTimeSeen(int64_t real_ns) {
  ReadControl();
  RuleSet& set = *g_rules.load(std::memory_order_acquire);
  if (!set.touches_clock) return real_ns;
  CountAt(8 * static_cast<size_t>(kClock)).fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < set.count; ++i) {
    Rule& rule = set.rules[i];
    if ((rule.calls & Bit(kClock)) == 0) continue;
    const uint64_t visit = rule.visits.fetch_add(1, std::memory_order_relaxed) + 1;
    if (visit < rule.first || visit > rule.last) continue;
    if (rule.act == Act::kOffset) return real_ns + rule.amount * 1000000;
    if (rule.act != Act::kFreeze) continue;
    int64_t frozen = 0;
    if (rule.frozen_ns.compare_exchange_strong(frozen, real_ns)) frozen = real_ns;
    return frozen;
  }
  return real_ns;
}

}  // namespace azimuth_shim
