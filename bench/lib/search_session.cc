#include "bench/lib/search_session.h"

#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <pthread.h>
#include <sched.h>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

namespace azimuth::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Measured {
  absl::Status status;
  double seconds = 0;
  double cpu_seconds = 0;  // Of all threads of the process.
  uint64_t distances = 0;
  std::vector<int64_t> nanos;  // Of each search.
};

double CpuSeconds() {
  std::timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// A smaller machine leaves threads where they are.
void PinToProcessor(size_t number) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || number-- != 0) continue;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    pthread_setaffinity_np(pthread_self(), sizeof(only), &only);
    return;
  }
}

// `rounds` times all queries, which the threads take one after the other.
Measured RunRounds(const Searcher& searcher, const Vectors& queries, size_t threads,
                   size_t rounds) {
  std::vector<Measured> of_threads(threads);
  std::atomic<size_t> next{0};
  const size_t count = rounds * queries.rows;
  const auto work = [&](size_t thread) {
    PinToProcessor(thread);
    Measured& measured = of_threads[thread];
    measured.nanos.reserve(count);
    std::vector<int64_t> ids;
    Clock::time_point before = Clock::now();
    for (size_t i = next++; i < count; i = next++) {
      const auto distances = searcher.Search(queries.row(i % queries.rows), ids);
      if (!distances.ok()) {
        measured.status = distances.status();
        return;
      }
      measured.distances += *distances;
      const Clock::time_point now = Clock::now();
      measured.nanos.push_back(
          std::chrono::duration_cast<std::chrono::nanoseconds>(now - before).count());
      before = now;
    }
  };
  Measured all;
  const double cpu_before = CpuSeconds();
  const Clock::time_point start = Clock::now();
  std::vector<std::thread> running;
  for (size_t t = 0; t < threads; ++t) running.emplace_back(work, t);
  for (std::thread& thread : running) thread.join();
  all.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  all.cpu_seconds = CpuSeconds() - cpu_before;
  for (const Measured& measured : of_threads) {
    all.status.Update(measured.status);
    all.distances += measured.distances;
    all.nanos.insert(all.nanos.end(), measured.nanos.begin(), measured.nanos.end());
  }
  return all;
}

// The nearest rank, in microseconds. REQUIRES: sorted, not empty.
double Micros(const std::vector<int64_t>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::max<size_t>(rank, 1) - 1]) / 1e3;
}

absl::StatusOr<std::string> Time(const Searcher& searcher, const Vectors& queries, size_t threads,
                                 double seconds) {
  if (threads < 1 || threads > 256)
    return InvalidArgument("%d threads; allowed are 1 to 256", threads);
  if (!(seconds > 0)) return InvalidArgument("%g seconds; expected more than 0", seconds);
  const Measured warm = RunRounds(searcher, queries, threads, 1);
  if (!warm.status.ok()) return warm.status;
  const double rounds = std::clamp(std::ceil(seconds / std::max(warm.seconds, 1e-6)), 1.0, 1e4);
  Measured measured = RunRounds(searcher, queries, threads, static_cast<size_t>(rounds));
  if (!measured.status.ok()) return measured.status;
  std::sort(measured.nanos.begin(), measured.nanos.end());
  const auto searches = static_cast<double>(measured.nanos.size());
  return absl::StrFormat(
      "{\"searches\": %d, \"seconds\": %.6f, \"qps\": %.3f, \"cpu_us\": %.4f, \"p50_us\": %.3f, "
      "\"p99_us\": %.3f, \"distances\": %.2f}",
      measured.nanos.size(), measured.seconds, searches / measured.seconds,
      measured.cpu_seconds * 1e6 / searches, Micros(measured.nanos, 0.5),
      Micros(measured.nanos, 0.99), static_cast<double>(measured.distances) / searches);
}

absl::StatusOr<std::string> WriteAnswers(const Searcher& searcher, const Vectors& queries,
                                         uint32_t limit, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < queries.rows; ++i) {
    AZ_RETURN_IF_ERROR(searcher.Search(queries.row(i), ids).status());
    ids.resize(limit, -1);
    file.write(reinterpret_cast<const char*>(ids.data()),
               static_cast<std::streamsize>(ids.size() * sizeof(int64_t)));
  }
  if (!file.flush()) return InvalidArgument("%s: it cannot be written", path);
  return absl::StrFormat("{\"queries\": %d}", queries.rows);
}

absl::StatusOr<Effort> ReadEffort(const std::string& word) {
  const size_t equals = word.find('=');
  Effort effort{word.substr(0, equals)};
  if (equals != std::string::npos && !absl::SimpleAtod(word.substr(equals + 1), &effort.value)) {
    return InvalidArgument("effort %s; expected NAME=NUMBER", word);
  }
  return effort;
}

absl::StatusOr<std::string> Answer(Searcher& searcher, const Vectors& queries,
                                   const std::string& line) {
  std::istringstream words(line);
  std::string command;
  std::string effort_word;
  uint32_t limit = 0;
  if (!(words >> command >> effort_word >> limit) || limit == 0) {
    return InvalidArgument("'%s': expected COMMAND EFFORT LIMIT", line);
  }
  AZ_ASSIGN_OR_RETURN(const Effort effort, ReadEffort(effort_word));
  AZ_RETURN_IF_ERROR(searcher.SetEffort(effort, limit));
  size_t threads = 0;
  double seconds = 0;
  std::string path;
  if (command == "check") return std::string("{}");
  if (command == "time" && words >> threads >> seconds) {
    return Time(searcher, queries, threads, seconds);
  }
  if (command == "answers" && words >> path) return WriteAnswers(searcher, queries, limit, path);
  return InvalidArgument("'%s': expected time, answers or check, with all that they need", line);
}

}  // namespace

void RunSearchSession(Searcher& searcher, const Vectors& queries, std::istream& in,
                      std::FILE* out) {
  for (std::string line; std::getline(in, line);) {
    const auto answer = Answer(searcher, queries, line);
    if (answer.ok()) {
      std::fprintf(out, "%s\n", answer->c_str());
    } else {
      std::string text;
      for (const char c : absl::Utf8SafeCEscape(answer.status().ToString())) {
        if (c == '\'') text.pop_back();  // \' is no escape of JSON.
        text += c;
      }
      std::fprintf(out, "{\"error\": \"%s\"}\n", text.c_str());
    }
    std::fflush(out);
  }
}

}  // namespace azimuth::bench
