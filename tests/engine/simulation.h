// Simulation: a database on a simulated disk, clock and workers, driven on one thread by a seed:
// writes, reads, time, maintenance, builds and merges, crashes at any operation of the disk and
// restarts, against a plain map. The same seed does the same again.
//
// Operations also happen inside others: hooks at failpoints write between the steps of a build or
// of a read, and read between the steps of a commit. Thread safety: one thread; at most one
// Simulation at a time in a process (hooks are global).
#pragma once

#include "base/failpoint.h"
#include "base/ids.h"
#include "engine/database.h"
#include "tests/engine/manual_workers.h"
#include "tests/support/fake_clock.h"
#include "tests/support/sim_files.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace azimuth::engine::testing {

struct SimulationCounts {
  uint64_t operations = 0;
  uint64_t writes = 0;
  uint64_t nested = 0;    // Of the operations, those inside another one.
  uint64_t builds = 0;    // Segment files published.
  uint64_t crashes = 0;   // Restarts after a power loss or a kill.
  uint64_t restarts = 0;  // All restarts.
  uint64_t verified = 0;  // Directories that were checked between two processes.
  uint64_t in_doubt = 0;  // Writes that had no reply when the crash came.
};

class Simulation final {
 public:
  explicit Simulation(uint64_t seed);
  ~Simulation();

  // Runs `operations` of them, then checks everything. The first violation as text; nullopt if
  // there is none. Call once.
  std::optional<std::string> Run(uint64_t operations);
  const SimulationCounts& counts() const { return counts_; }

 private:
  static constexpr uint32_t kDim = 4;
  static constexpr int64_t kKeys = 80;
  static constexpr int64_t kValues = 8;  // Of the field `n`.

  struct Record {
    int64_t n = 0;
    std::vector<float> vector;
    int64_t expires = 0;
    Seq version{};
  };
  using Model = std::map<int64_t, Record>;
  // A write as it was sent, so that it can be sent again.
  struct Write {
    enum class Kind { kInsert, kUpsert, kUpdate, kDeleteKeys, kDeleteMatching, kTruncate };
    Kind kind = Kind::kUpsert;
    std::vector<int64_t> keys;
    std::vector<Record> records;  // One for each key of a put; fields of an update.
    bool with_vectors = true;     // Of an update.
    int64_t n = 0;                // Of a delete by filter.
    std::optional<Seq> if_version;
    std::string request_id;
    int64_t sent_at = 0;
  };
  struct Outcome {
    absl::Status status;
    WriteResult result;
  };

  void Open();
  void Restart();
  void VerifyFiles();
  void Step();
  void MaybeNested();

  Write RandomWrite();
  Outcome Send(const Write& write);
  // What the write does to the model: the status that it must have, and the model after it.
  absl::StatusCode Apply(const Write& write, int64_t now, Model& model, WriteResult& result) const;
  void DoWrite();
  void RepeatWrite();
  void ResolveDoubt();

  void DoRead();
  void CheckAll();
  void CheckGet(const Model& visible);
  void CheckQuery(const Model& visible);
  void CheckSearch(const Model& visible);
  Model Visible(const Model& model) const;
  bool SameAs(const Model& visible, const std::vector<RecordOutput>& records,
              bool with_vectors) const;

  void Fail(const std::string& what);
  bool crashed() const { return disk_->failed(); }
  uint64_t Random(uint64_t n) { return random_() % n; }
  static bool Expired(int64_t expires, int64_t now) { return expires != 0 && expires <= now; }

  std::mt19937_64 random_;
  std::unique_ptr<::azimuth::testing::SimFiles> disk_;
  ::azimuth::testing::FakeClock clock_;
  DatabaseOptions options_;
  ManualWorkers* workers_ = nullptr;
  std::unique_ptr<Database> db_;
  Model model_;
  Seq last_seq_{};
  std::optional<Write> doubt_;  // Had no reply when the disk failed.
  struct Remembered {
    Write write;
    Outcome outcome;
  };
  std::deque<Remembered> remembered_;
  uint64_t next_request_ = 0;
  bool nested_ = false;
  std::optional<std::string> violation_;
  SimulationCounts counts_;
};

}  // namespace azimuth::engine::testing
