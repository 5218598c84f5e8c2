// azimuth_load: a fixed load on a server, and how long each call took.
//
// Open loop (--rate): call i is due at start + i / rate, whatever became of the ones before, and
// its latency counts from then, not from when it could be sent: a server that stalls is not asked
// less. Closed loop (--closed-loop N): N calls are always in flight, which gives the capacity.
// One process makes one kind of call; for searches under writes run two of them.
//
// Ends after --seconds, or at SIGTERM or SIGINT as if they had passed, waits for the calls that are
// in flight, and prints one line of JSON. Exit code 1 if nothing succeeded, 2 for a wrong command
// line. Latencies are those of calls that succeeded.

#include "base/mutex.h"
#include "bench/lib/vector_file.h"
#include "bench/load_operations.h"

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

volatile std::sig_atomic_t g_stop = 0;

extern "C" void HandleStopSignal(int) {
  g_stop = 1;
}

struct Settings {
  std::string address;
  std::string mode = "search";
  std::string vectors;       // A file of queries, or of what is written.
  uint32_t dim = 0;          // Of a file of bare floats.
  double rate = 0;           // Calls a second; 0: closed loop.
  uint32_t closed_loop = 0;  // Calls in flight.
  double seconds = 10;
  double warmup = 0;  // The first seconds do not count.
  double timeout = 30;
  uint32_t connections = 1;
  uint32_t in_flight_max = 1024;
  std::string samples;  // A file for all calls; empty: none.
  std::string answers;  // A file for what was found; likewise.
  SearchSettings search;
  UpsertSettings upsert;
};

// A call that is done. Written to --samples as it is: 4 x int64.
struct Sample {
  int64_t due_ns;      // Of the steady clock: CLOCK_MONOTONIC.
  int64_t lag_ns;      // From due to sent.
  int64_t latency_ns;  // From due to done.
  int64_t code;        // gRPC's; 0 is success.
};
static_assert(sizeof(Sample) == 32);

int64_t Nanos(Clock::duration duration) {
  return std::chrono::duration_cast<nanoseconds>(duration).count();
}

Clock::duration FromSeconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Runs one load. Run once.
class Load final {
 public:
  Load(const Settings& settings, const Operation& operation)
      : settings_(settings),
        operation_(operation),
        answers_(settings.answers.empty() ? 0 : operation.calls_of_a_round()) {}

  void Run() {
    start_ = Clock::now();
    end_ = start_ + FromSeconds(settings_.warmup + settings_.seconds);
    std::thread completions([this] { Complete(); });
    if (settings_.closed_loop > 0) {
      for (uint32_t i = 0; i < settings_.closed_loop; ++i) Send(Clock::now());
      while (!Ended(Clock::now())) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      SendOnSchedule();
    }
    stopped_.store(true);
    measured_ = std::min(Clock::now(), end_) - start_;
    {
      MutexLock lock(mu_);
      while (in_flight_ > 0) done_.Wait(mu_);
    }
    queue_.Shutdown();
    completions.join();
  }

  std::string Report() const;
  bool WriteSamples() const;
  bool WriteAnswers() const;
  bool succeeded() const {
    return std::any_of(samples_.begin(), samples_.end(), [](const Sample& s) { return !s.code; });
  }

 private:
  bool Ended(Clock::time_point now) const { return g_stop != 0 || now >= end_; }

  void SendOnSchedule() {
    const double period_ns = 1e9 / settings_.rate;
    for (uint64_t i = 0;; ++i) {
      const auto due = start_ + nanoseconds(std::llround(static_cast<double>(i) * period_ns));
      if (due >= end_) return;
      // In pieces, so that a signal ends it.
      while (g_stop == 0 && Clock::now() < due) {
        std::this_thread::sleep_until(std::min(due, Clock::now() + std::chrono::milliseconds(100)));
      }
      if (g_stop != 0) return;
      WaitForRoom();
      Send(due);
    }
  }

  // A call that is due while too many are in flight waits: it is late, and counted.
  void WaitForRoom() {
    MutexLock lock(mu_);
    if (in_flight_ < settings_.in_flight_max) return;
    ++held_back_;
    while (in_flight_ >= settings_.in_flight_max) done_.Wait(mu_);
  }

  void Send(Clock::time_point due) {
    {
      MutexLock lock(mu_);
      in_flight_most_ = std::max(in_flight_most_, ++in_flight_);
    }
    std::unique_ptr<Call> call = operation_.Make();
    call->number = next_.fetch_add(1);
    call->due = due;
    call->sent = Clock::now();
    call->context.set_deadline(std::chrono::system_clock::now() + FromSeconds(settings_.timeout));
    operation_.Start(*call, queue_);
    static_cast<void>(call.release());  // Complete has it.
  }

  void Complete() {
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) {
      const std::unique_ptr<Call> call(static_cast<Call*>(tag));
      const Clock::time_point now = Clock::now();
      samples_.push_back({Nanos(call->due.time_since_epoch()), Nanos(call->sent - call->due),
                          Nanos(now - call->due), call->status.error_code()});
      if (call->number < answers_.size() && call->status.ok()) {
        operation_.AppendAnswers(*call, answers_[call->number]);
      }
      if (!call->status.ok() && error_.empty()) error_ = call->status.error_message();
      if (settings_.closed_loop > 0 && !stopped_.load() && !Ended(now)) Send(now);
      MutexLock lock(mu_);
      --in_flight_;
      done_.NotifyAll();
    }
  }

  const Settings& settings_;
  const Operation& operation_;
  grpc::CompletionQueue queue_;
  Clock::time_point start_, end_;
  Clock::duration measured_{};
  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> next_{0};
  std::vector<Sample> samples_;  // Of the completing thread until it ends, like the next two.
  std::string error_;
  std::vector<std::vector<int64_t>> answers_;  // Of the first calls, by number.
  Mutex mu_;
  CondVar done_;
  uint32_t in_flight_ AZ_GUARDED_BY(mu_) = 0;
  uint32_t in_flight_most_ AZ_GUARDED_BY(mu_) = 0;
  uint64_t held_back_ AZ_GUARDED_BY(mu_) = 0;
};

// The nearest rank, in milliseconds; 0 of nothing. REQUIRES: sorted.
double Percentile(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::max<size_t>(rank, 1) - 1]) / 1e6;
}

std::string Percentiles(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (const int64_t value : values) sum += static_cast<double>(value) / 1e6;
  return absl::StrFormat(
      "{\"p50\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f, "
      "\"mean\": %.4f}",
      Percentile(values, 0.5), Percentile(values, 0.95), Percentile(values, 0.99),
      Percentile(values, 0.999), Percentile(values, 1.0),
      values.empty() ? 0 : sum / static_cast<double>(values.size()));
}

std::string Load::Report() const AZ_NO_THREAD_SAFETY_ANALYSIS {
  const int64_t counted_from = Nanos((start_ + FromSeconds(settings_.warmup)).time_since_epoch());
  std::vector<int64_t> latencies;
  std::vector<int64_t> lags;
  std::map<int64_t, uint64_t> errors;
  uint64_t calls = 0;
  for (const Sample& sample : samples_) {
    if (sample.due_ns < counted_from) continue;
    ++calls;
    lags.push_back(sample.lag_ns);
    if (sample.code == 0) {
      latencies.push_back(sample.latency_ns);
    } else {
      ++errors[sample.code];
    }
  }
  const double seconds =
      std::max(1e-9, std::chrono::duration<double>(measured_).count() - settings_.warmup);
  const auto code_and_count = [](std::string* out, const std::pair<const int64_t, uint64_t>& of) {
    absl::StrAppend(out, "\"", of.first, "\": ", of.second);
  };
  const size_t done = latencies.size();
  std::string error;
  for (const char c : absl::Utf8SafeCEscape(error_)) {
    if (c != '\'') error += c;  // \' is no escape of JSON.
  }
  return absl::StrFormat(
      "{\"mode\": \"%s\", \"loop\": \"%s\", \"offered_per_s\": %.3f, \"seconds\": %.3f, "
      "\"calls\": %d, \"done\": %d, \"errors\": %d, \"errors_by_code\": {%s}, "
      "\"first_error\": \"%s\", \"done_per_s\": %.3f, \"in_flight_max\": %d, "
      "\"in_flight_most\": %d, \"held_back\": %d, \"latency_ms\": %s, \"lag_ms\": %s}",
      settings_.mode, settings_.closed_loop > 0 ? "closed" : "open", settings_.rate, seconds, calls,
      done, calls - done, absl::StrJoin(errors, ", ", code_and_count), error,
      static_cast<double>(done) / seconds, settings_.in_flight_max, in_flight_most_, held_back_,
      Percentiles(std::move(latencies)), Percentiles(std::move(lags)));
}

bool Load::WriteSamples() const {
  std::ofstream file(settings_.samples, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(samples_.data()),
             static_cast<std::streamsize>(samples_.size() * sizeof(Sample)));
  return file.flush().good();
}

bool Load::WriteAnswers() const {
  std::ofstream file(settings_.answers, std::ios::binary | std::ios::trunc);
  for (const std::vector<int64_t>& keys : answers_) {
    if (keys.empty()) return false;
    file.write(reinterpret_cast<const char*>(keys.data()),
               static_cast<std::streamsize>(keys.size() * sizeof(int64_t)));
  }
  return file.flush().good();
}

void DeclareOptions(CLI::App& app, Settings& settings) {
  app.add_option("--address", settings.address, "HOST:PORT of the server")->required();
  app.add_option("--mode", settings.mode, "What is called")
      ->check(CLI::IsMember({"search", "search_batch", "upsert"}));
  app.add_option("--vectors", settings.vectors, "Queries or what is written: .npy, .fvecs, floats")
      ->required();
  app.add_option("--dim", settings.dim, "Dimension of a file of bare floats");
  auto* rate = app.add_option("--rate", settings.rate, "Open loop: calls that are due a second");
  auto* closed = app.add_option("--closed-loop", settings.closed_loop, "Calls in flight");
  rate->check(CLI::PositiveNumber)->excludes(closed);
  closed->check(CLI::Range(1, 4096));
  app.add_option("--seconds", settings.seconds, "How long, after the warm-up")
      ->check(CLI::PositiveNumber);
  app.add_option("--warmup", settings.warmup, "Seconds before, which do not count")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--timeout", settings.timeout, "Seconds that a call may take")
      ->check(CLI::PositiveNumber);
  app.add_option("--connections", settings.connections, "Connections, taken in turn")
      ->check(CLI::Range(1, 256));
  app.add_option("--in-flight-max", settings.in_flight_max,
                 "Open loop: a call that is due while so many are in flight waits, and is counted "
                 "as held_back")
      ->check(CLI::Range(1, 65536));
  app.add_option("--samples", settings.samples,
                 "File for all calls, as 4 x int64: due (ns, CLOCK_MONOTONIC), lag, latency, code");
  app.add_option("--answers", settings.answers,
                 "File for the keys that the searches of each query found, as int64: --limit of "
                 "each, -1 where there are fewer");
  app.add_option("--field", settings.search.vector_field, "Vector field (upsert needs it)");
  app.add_option("--collection", settings.search.collection, "Its name")->required();
  app.add_option("--limit", settings.search.limit, "Hits of a search");
  app.add_option("--ef", settings.search.ef, "Width of the search; 0: the server's default");
  app.add_option("--recall", settings.search.recall, "Recall that is asked for; 0: the default");
  app.add_option("--queries", settings.search.queries, "Queries of a search_batch")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--exact", settings.search.exact, "Exact searches");
  app.add_option("--filter", settings.search.filter, "Filter of the searches");
  app.add_option("--batch", settings.upsert.batch, "Records of an upsert")
      ->check(CLI::Range(1, 100000));
  app.add_option("--first-key", settings.upsert.first_key, "Key of the first record");
  app.add_option("--key-count", settings.upsert.key_count,
                 "Keys begin again after so many; 0: never");
  app.add_flag("--relaxed", settings.upsert.relaxed, "Acknowledged before the sync");
}

// Connections of their own: gRPC shares one among channels that look alike.
Channels Connect(const Settings& settings) {
  Channels channels;
  for (uint32_t i = 0; i < settings.connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channels.push_back(
        grpc::CreateCustomChannel(settings.address, grpc::InsecureChannelCredentials(), arguments));
    channels.back()->WaitForConnected(std::chrono::system_clock::now() +
                                      FromSeconds(settings.timeout));
  }
  return channels;
}

std::unique_ptr<Operation> MakeOperation(const Settings& settings, const Channels& channels,
                                         Vectors vectors) {
  if (settings.mode == "search") return MakeSearches(channels, settings.search, vectors);
  if (settings.mode == "search_batch") {
    return MakeSearchBatches(channels, settings.search, vectors);
  }
  return MakeUpserts(channels, settings.upsert, std::move(vectors));
}

int Main(int argc, char** argv) {
  Settings settings;
  CLI::App app{"Puts a fixed load on an Azimuth server and prints how long the calls took."};
  DeclareOptions(app, settings);
  try {
    app.parse(argc, argv);
    if ((settings.rate > 0) == (settings.closed_loop > 0)) {
      throw CLI::ValidationError("--rate or --closed-loop: one of them is needed");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  auto vectors = ReadVectors(settings.vectors, settings.dim);
  if (!vectors.ok()) {
    std::fprintf(stderr, "%s\n", vectors.status().ToString().c_str());
    return 2;
  }
  std::signal(SIGTERM, HandleStopSignal);
  std::signal(SIGINT, HandleStopSignal);
  prctl(PR_SET_TIMERSLACK, 1000);  // Nanoseconds; 50 us by default, which would be in each latency.
  settings.upsert.collection = settings.search.collection;
  settings.upsert.vector_field = settings.search.vector_field;
  const Channels channels = Connect(settings);
  const auto operation = MakeOperation(settings, channels, *std::move(vectors));
  Load load(settings, *operation);
  load.Run();
  if (!settings.samples.empty() && !load.WriteSamples()) {
    std::fprintf(stderr, "%s: cannot be written\n", settings.samples.c_str());
    return 1;
  }
  if (!settings.answers.empty() && !load.WriteAnswers()) {
    std::fprintf(stderr, "%s: cannot be written, or too few searches were done\n",
                 settings.answers.c_str());
    return 1;
  }
  std::printf("%s\n", load.Report().c_str());
  return load.succeeded() ? 0 : 1;
}

}  // namespace
}  // namespace azimuth::bench

int main(int argc, char** argv) {
  return azimuth::bench::Main(argc, argv);
}
