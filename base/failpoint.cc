#include "base/failpoint.h"

#include "base/status.h"

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <functional>
#include <string>
#include <utility>

namespace azimuth {
namespace {

constexpr auto kCount = static_cast<size_t>(Failpoint::kCount);
constexpr std::array<std::string_view, kCount> kNames = {
#define AZ_FAILPOINT_NAME(id, name) name,
    AZ_FAILPOINTS(AZ_FAILPOINT_NAME)
#undef AZ_FAILPOINT_NAME
};

enum class Action : int { kNone = 0, kKill = 1, kError = 2, kFull = 3 };

struct State {
  std::atomic<int> action{0};
  std::atomic<int64_t> visits_left{0};
  std::atomic<bool> has_hook{false};
  std::function<absl::Status()> hook;  // Set while nobody visits.
};

std::array<State, kCount>& States() {
  static std::array<State, kCount> states;
  return states;
}

absl::Status ArmOne(std::string_view entry) {
  const size_t equals = entry.find('=');
  const std::string_view name = entry.substr(0, equals);
  std::string_view action = equals == std::string_view::npos ? "" : entry.substr(equals + 1);
  int64_t nth = 1;
  if (const size_t at = action.find('@'); at != std::string_view::npos) {
    const std::string_view digits = action.substr(at + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), nth);
    if (error != std::errc() || end != digits.data() + digits.size() || nth < 1) {
      return InvalidArgument("failpoint %s: count %s is not a positive number", Quoted(name),
                             Quoted(digits));
    }
    action = action.substr(0, at);
  }
  for (size_t i = 0; i < kCount; ++i) {
    if (kNames[i] != name) continue;
    const Action parsed = action == "kill"    ? Action::kKill
                          : action == "error" ? Action::kError
                          : action == "full"  ? Action::kFull
                                              : Action::kNone;
    if (parsed == Action::kNone) {
      return InvalidArgument("failpoint %s: action %s is none of kill, error and full",
                             Quoted(name), Quoted(action));
    }
    States()[i].visits_left.store(nth);
    States()[i].action.store(static_cast<int>(parsed));
    return absl::OkStatus();
  }
  return InvalidArgument("no failpoint is named %s", Quoted(name));
}

}  // namespace

std::string_view FailpointName(Failpoint point) {
  return kNames[static_cast<size_t>(point)];
}

absl::Status ArmFailpoints(std::string_view text) {
  for (State& state : States()) state.action.store(0);
  while (!text.empty()) {
    const size_t end = text.find(';');
    const std::string_view entry = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!entry.empty()) AZ_RETURN_IF_ERROR(ArmOne(entry));
  }
  return absl::OkStatus();
}

void SetFailpointHook(Failpoint point, std::function<absl::Status()> hook) {
  State& state = States()[static_cast<size_t>(point)];
  state.has_hook.store(false, std::memory_order_release);
  state.hook = std::move(hook);
  state.has_hook.store(state.hook != nullptr, std::memory_order_release);
}

absl::Status VisitFailpoint(Failpoint point) {
  State& state = States()[static_cast<size_t>(point)];
  if (state.has_hook.load(std::memory_order_acquire)) return state.hook();
  const auto action = static_cast<Action>(state.action.load(std::memory_order_relaxed));
  if (action == Action::kNone) return absl::OkStatus();
  if (state.visits_left.fetch_sub(1) != 1) return absl::OkStatus();
  if (action == Action::kKill) std::raise(SIGKILL);
  const std::string text = absl::StrFormat("failpoint %s", std::string(FailpointName(point)));
  return action == Action::kFull ? absl::ResourceExhaustedError(text)
                                 : absl::UnavailableError(text);
}

}  // namespace azimuth
