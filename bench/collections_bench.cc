// What thousands of small collections cost: `./dev bench collections`.
//
// Makes 5 000 collections of 100 rows x 16 dimensions, and says how many kilobytes of resident
// memory one takes and how many the engine counts, how long a round of maintenance takes over them
// at rest, and how long a start takes (5 000 collections are read back).

#include "engine/database.h"
#include "engine/worker_pool.h"

#include "benchmark/benchmark.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

constexpr int kCollections = 5000;
constexpr int64_t kRows = 100;
constexpr uint32_t kDim = 16;

// Runs jobs at once, and a round of maintenance when it is told to.
class InlineWorkers final : public Workers {
 public:
  explicit InlineWorkers(std::function<void()>& tick) : tick_(tick) {}
  void Submit(std::function<void()> job) override { job(); }
  void RunParallel(size_t count, const std::function<void(size_t)>& body) override {
    for (size_t i = 0; i < count; ++i) body(i);
  }
  void Repeat(std::chrono::milliseconds, std::function<void()> tick) override {
    tick_ = std::move(tick);
  }
  void Stop() override {}

 private:
  std::function<void()>& tick_;
};

double ResidentKilobytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  uint64_t resident = 0;
  file >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024.0;
}

Schema SmallSchema() {
  Schema schema;
  schema.fields.push_back({.name = "n", .type = FieldType::kInt64});
  schema.vectors.push_back({.name = "v", .dim = kDim, .metric = Metric::kL2});
  return schema;
}

// All collections in a directory that goes away at the end.
class Bench final {
 public:
  Bench() {
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
    Open();
    const double before = ResidentKilobytes();
    for (int i = 0; i < kCollections; ++i) Fill("c" + std::to_string(i));
    resident_per_collection_ = (ResidentKilobytes() - before) / kCollections;
    db_.reset();
    Open();
  }
  ~Bench() {
    db_.reset();
    std::filesystem::remove_all(path_);
  }

  void Open() {
    DatabaseOptions options;
    options.data_dir = path_;
    options.make_workers = [this](int) { return std::make_unique<InlineWorkers>(tick_); };
    auto db = Database::Open(options);
    if (!db.ok()) std::abort();
    db_ = *std::move(db);
  }
  void Close() { db_.reset(); }
  void Tick() const { tick_(); }

  double resident_per_collection() const { return resident_per_collection_; }
  double counted_per_collection() const {
    return static_cast<double>(db_->GetInfo().memory.growing_bytes) / 1024.0 / kCollections;
  }

 private:
  void Fill(const std::string& name) {
    const std::vector<float> vector(kDim, 1.0F);
    if (!db_->CreateCollection(name, SmallSchema(), false, CancelToken()).ok()) std::abort();
    std::vector<RecordInput> records;
    for (int64_t key = 0; key < kRows; ++key) {
      RecordInput record;
      record.key = key;
      record.fields.push_back({"n", Value{key}});
      record.vectors.push_back({"v", vector});
      records.push_back(std::move(record));
    }
    if (!db_->Insert(name, std::move(records), CancelToken()).ok()) std::abort();
  }

  std::string path_ = std::filesystem::temp_directory_path() / "azimuth_collections_XXXXXX";
  std::function<void()> tick_;
  std::unique_ptr<Database> db_;
  double resident_per_collection_ = 0;
};

Bench& TheBench() {
  static Bench bench;
  return bench;
}

// Reads all collections back. The memory beside it was measured while they were filled, so it holds
// their share of RocksDB's caches and memtables as well.
void BenchStart(benchmark::State& state) {
  Bench& bench = TheBench();
  for (auto _ : state) {
    state.PauseTiming();
    bench.Close();
    state.ResumeTiming();
    bench.Open();
  }
  state.counters["resident_KB_per_collection"] = bench.resident_per_collection();
  state.counters["counted_KB_per_collection"] = bench.counted_per_collection();
}
BENCHMARK(BenchStart)->Name("start")->Unit(benchmark::kMillisecond)->Iterations(3);

void BenchTick(benchmark::State& state) {
  Bench& bench = TheBench();
  bench.Tick();
  for (auto _ : state) bench.Tick();
}
BENCHMARK(BenchTick)->Name("maintenance")->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace azimuth::engine
