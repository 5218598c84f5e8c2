// How much writers gain by sharing one sync of the log: `./dev bench group_commit`.
//
// Each thread upserts small records of keys of its own, one record a call, every call synced, into
// a database with default settings (so builds run as they will). The database lies under
// AZIMUTH_BENCH_DIR, or else TMPDIR, or else the current directory: name a folder on a real disk,
// since a sync of a memory file system costs nothing. BM_Sync is what one sync costs there at all.

#include "engine/database.h"

#include "benchmark/benchmark.h"

#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

constexpr uint32_t kDim = 16;
constexpr int64_t kKeysOfAThread = int64_t{1} << 32;
constexpr char kCollection[] = "records";

std::string Root() {
  for (const char* name : {"AZIMUTH_BENCH_DIR", "TMPDIR"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return ".";
}

// A new folder that goes away with its object.
class Folder final {
 public:
  Folder() : path_(Root() + "/azimuth_bench_XXXXXX") { made_ = ::mkdtemp(path_.data()) != nullptr; }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (made_) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool made_ = false;
};

// One for all threads of a run; null if it cannot be opened.
std::unique_ptr<Folder> g_folder;
std::unique_ptr<Database> g_database;

void OpenDatabase(const benchmark::State&) {
  g_folder = std::make_unique<Folder>();
  DatabaseOptions options;
  options.data_dir = g_folder->path() + "/data";
  auto database = Database::Open(options);
  if (!database.ok()) return;
  Schema schema;
  schema.fields.push_back({.name = "n", .type = FieldType::kInt64});
  schema.vectors.push_back({.name = "v", .dim = kDim, .metric = Metric::kL2});
  if (!(*database)->CreateCollection(kCollection, schema, false, CancelToken()).ok()) return;
  g_database = *std::move(database);
}

void CloseDatabase(const benchmark::State&) {
  if (g_database != nullptr) g_database->Close().IgnoreError();
  g_database.reset();
  g_folder.reset();
}

void BM_Upsert(benchmark::State& state) {
  if (g_database == nullptr) {
    state.SkipWithError("the database cannot be opened; set AZIMUTH_BENCH_DIR to a folder");
    return;
  }
  int64_t key = state.thread_index() * kKeysOfAThread;
  std::vector<float> vector(kDim);
  for (auto _ : state) {
    for (uint32_t d = 0; d < kDim; ++d) vector[d] = static_cast<float>((key >> d) % 97);
    RecordInput record;
    record.key = Key{key};
    record.fields.push_back({"n", Value{key}});
    record.vectors.push_back({"v", vector});
    std::vector<RecordInput> records;
    records.push_back(std::move(record));
    const auto written = g_database->Upsert(kCollection, std::move(records), CancelToken());
    if (!written.ok()) {
      state.SkipWithError(std::string(written.status().message()).c_str());
      return;
    }
    ++key;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Upsert)
    ->Setup(OpenDatabase)
    ->Teardown(CloseDatabase)
    ->Threads(1)
    ->Threads(8)
    ->Threads(32)
    ->UseRealTime()
    ->MinTime(3.0);

// Appends as many bytes as a small record has to a file, with a sync each time.
void BM_Sync(benchmark::State& state) {
  const Folder folder;
  const int file = ::open((folder.path() + "/log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  const std::string bytes(256, 'x');
  for (auto _ : state) {
    if (::write(file, bytes.data(), bytes.size()) < 0 || ::fdatasync(file) != 0) {
      state.SkipWithError("cannot write; set AZIMUTH_BENCH_DIR to a folder");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
  if (file >= 0) ::close(file);
}
BENCHMARK(BM_Sync)->UseRealTime();

}  // namespace
}  // namespace azimuth::engine
