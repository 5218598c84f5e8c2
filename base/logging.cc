#include "base/logging.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>

namespace azimuth {
namespace {

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
constexpr std::array<char, 4> kLetters = {'D', 'I', 'W', 'E'};

}  // namespace

void SetLogLevel(LogLevel level) {
  g_level.store(static_cast<int>(level));
}

void LogLine(LogLevel level, std::string_view text) {
  if (static_cast<int>(level) < g_level.load(std::memory_order_relaxed)) return;
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() %
      1000000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::string line = absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ %c ", utc.tm_year + 1900,
                                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                                     utc.tm_sec, micros, kLetters[static_cast<size_t>(level)]);
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      line += absl::StrFormat("\\x%02x", static_cast<unsigned char>(c));
    } else {
      line.push_back(c);
    }
  }
  line.push_back('\n');
  // One call for the whole line: stdio locks the stream, so lines of several threads do not mix.
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace azimuth
