#include "tests/engine/simulation.h"

#include "base/status.h"
#include "engine/admin/verify.h"
#include "tests/engine/open_database.h"

#include <algorithm>
#include <set>
#include <utility>

namespace azimuth::engine::testing {
namespace {

const CancelToken kNoCancel;
constexpr size_t kRememberedMax = 32;
// One of so many restarts looks at what is on the disk before it.
constexpr uint64_t kRestartsPerVerify = 3;

constexpr Failpoint kStepsOfBuilds[] = {
    Failpoint::kSegmentBeforeBuild,   Failpoint::kSegmentAfterGather,
    Failpoint::kSegmentMidWrite,      Failpoint::kSegmentBeforeRename,
    Failpoint::kSegmentBeforeDirSync, Failpoint::kSegmentMidDrop,
    Failpoint::kSegmentBeforeCatalog, Failpoint::kSegmentAfterCatalog,
    Failpoint::kSweepAfterChoose};

bool IsLogical(absl::StatusCode code) {
  return code == absl::StatusCode::kAlreadyExists || code == absl::StatusCode::kNotFound ||
         code == absl::StatusCode::kAborted || code == absl::StatusCode::kInvalidArgument;
}

}  // namespace

Simulation::Simulation(uint64_t seed)
    : random_(seed), disk_(std::make_unique<::azimuth::testing::SimFiles>(seed)) {
  options_ = SmallOptions("/data");
  options_.clock = &clock_;
  options_.random = [this] { return random_(); };
  options_.growing_rows_max = static_cast<uint32_t>(8 + Random(40));
  options_.graph_rows_min = static_cast<uint32_t>(4 + Random(12));
  options_.growing_idle_ms = 50;
  options_.bulk_commit_bytes = Random(3) == 0 ? uint64_t{1} << 20 : 64;
  options_.segment_rows_max = Random(4) == 0 ? 64 : 4096;
  options_.write_buffer_bytes = uint64_t{8} << 20;
  UseManualWorkers(options_, workers_);
  for (const Failpoint point : kStepsOfBuilds) {
    SetFailpointHook(point, [this, point] {
      if (point == Failpoint::kSegmentAfterCatalog) ++counts_.builds;
      MaybeNested();
      return absl::OkStatus();
    });
  }
  for (const Failpoint point : {Failpoint::kReadAfterPin, Failpoint::kReadBeforeFetch}) {
    SetFailpointHook(point, [this] {
      MaybeNested();
      // Merges must keep what this reader sees.
      if (!nested_ && db_ != nullptr && !crashed() && Random(4) == 0) {
        nested_ = true;
        for (int i = 0; i < 3; ++i) {
          workers_->Tick();
          workers_->RunOne();
        }
        nested_ = false;
      }
      return absl::OkStatus();
    });
  }
  SetFailpointHook(Failpoint::kCommitBeforePublish, [this] {
    if (nested_ || db_ == nullptr || Random(6) != 0) return absl::OkStatus();
    nested_ = true;
    ++counts_.nested;
    DoRead();
    nested_ = false;
    return absl::OkStatus();
  });
}

Simulation::~Simulation() {
  for (int i = 0; i < static_cast<int>(Failpoint::kCount); ++i) {
    SetFailpointHook(static_cast<Failpoint>(i), nullptr);
  }
}

std::optional<std::string> Simulation::Run(uint64_t operations) {
  Open();
  for (; counts_.operations < operations && !violation_.has_value(); ++counts_.operations) {
    Step();
    if (crashed() && !violation_.has_value()) Restart();
  }
  if (!violation_.has_value()) Restart();
  if (!violation_.has_value()) CheckAll();
  return violation_;
}

void Simulation::Fail(const std::string& what) {
  if (!violation_.has_value()) {
    violation_ = absl::StrFormat("after %d operations: %s", counts_.operations, what);
  }
}

void Simulation::Step() {
  const uint64_t choice = Random(100);
  if (choice < 40) {
    DoWrite();
  } else if (choice < 45) {
    RepeatWrite();
  } else if (choice < 68) {
    DoRead();
  } else if (choice < 76) {
    const uint64_t kind = Random(40);
    clock_.AdvanceMicros(static_cast<int64_t>(kind == 0  ? Random(700) * 1000000
                                              : kind < 8 ? Random(3000) * 1000
                                                         : Random(100) * 1000));
  } else if (choice < 86) {
    workers_->Tick();
  } else if (choice < 95) {
    workers_->RunOne();
  } else if (choice < 97) {
    disk_->FailAfter(1 + Random(60));
  } else if (choice < 98) {
    Restart();
  } else {
    CheckAll();
  }
}

// --- Restarts -----------------------------------------------------------------------------------

void Simulation::Open() {
  for (int attempt = 0;; ++attempt) {
    options_.files = &disk_->process();
    // Some recoveries are cut short as well, but not for ever.
    if (counts_.restarts > 0 && attempt < 3 && Random(5) == 0) disk_->FailAfter(1 + Random(40));
    nested_ = true;  // Hooks keep still.
    absl::StatusOr<std::unique_ptr<Database>> opened = Database::Open(options_);
    nested_ = false;
    if (opened.ok() && !crashed()) {
      db_ = *std::move(opened);
      break;
    }
    if (!crashed()) return Fail(absl::StrCat("open: ", opened.status().ToString()));
    ++counts_.crashes;
    disk_->Crash(random_());
    opened = absl::UnknownError("");
  }
  nested_ = true;
  if (counts_.restarts++ == 0) {
    const auto created = db_->CreateCollection("c", SmallSchema(kDim), false, kNoCancel);
    if (!created.ok()) return Fail(created.status().ToString());
    last_seq_ = created->as_of;
  }
  ResolveDoubt();
  nested_ = false;
}

void Simulation::Restart() {
  const uint64_t kind = Random(3);
  if (kind == 0 && !crashed()) {
    const absl::Status closed = db_->Close();
    if (!closed.ok() && !crashed()) return Fail(absl::StrCat("close: ", closed.ToString()));
    if (crashed()) disk_->Crash(random_());
  } else if (kind == 1) {
    ++counts_.crashes;
    disk_->KillProcess();
  } else {
    ++counts_.crashes;
    disk_->Crash(random_());
  }
  nested_ = true;
  db_.reset();
  nested_ = false;
  if (Random(kRestartsPerVerify) == 0) VerifyFiles();
  if (violation_.has_value()) return;
  Open();
  if (!violation_.has_value() && !crashed()) CheckAll();
}

// Whatever the crash left must be sound.
void Simulation::VerifyFiles() {
  options_.files = &disk_->process();
  const auto report = VerifyDirectory(options_, /*deep=*/true, kNoCancel);
  if (!report.ok()) return Fail(absl::StrCat("verify: ", report.status().ToString()));
  ++counts_.verified;
  if (report->sound()) return;
  const Finding& first = report->findings.front();
  Fail(absl::StrFormat("verify finds %d, the first: %s at %s: %s", report->findings.size(),
                       first.kind, first.place, first.message));
}

void Simulation::ResolveDoubt() {
  if (!doubt_.has_value()) return;
  ++counts_.in_doubt;
  const Write write = *std::exchange(doubt_, std::nullopt);
  Model after = model_;
  WriteResult expected;
  const bool could = Apply(write, write.sent_at, after, expected) == absl::StatusCode::kOk;
  const auto found = db_->Query("c", {}, 1000, {.vectors = {"v"}}, kNoCancel);
  if (!found.ok()) return Fail(absl::StrCat("query after a crash: ", found.status().ToString()));
  std::map<int64_t, Seq> versions;
  for (const auto& record : found->records) {
    versions[std::get<int64_t>(record.key)] = record.version;
  }
  const Model before_visible = Visible(model_);
  const Model after_visible = Visible(after);
  bool applied = could && SameAs(after_visible, found->records, true);
  const bool as_before = SameAs(before_visible, found->records, true);
  if (!applied && !as_before) {
    return Fail(absl::StrFormat(
        "after a crash the write in doubt (kind %d, %d keys) is there in part, or something else "
        "is "
        "gone: %d records, %d before it, %d after it; as_of %d, last %d",
        static_cast<int>(write.kind), write.keys.size(), found->records.size(),
        before_visible.size(), after_visible.size(), Raw(found->as_of), Raw(last_seq_)));
  }
  if (applied && as_before) {
    // The same content: its versions tell.
    applied = std::any_of(versions.begin(), versions.end(),
                          [&](const auto& entry) { return entry.second > last_seq_; });
  }
  if (applied) {
    model_ = std::move(after);
    for (auto& [key, version] : versions) model_[key].version = version;
  }
  last_seq_ = std::max(last_seq_, found->as_of);
  if (write.request_id.empty() || crashed()) return;
  // What a client does: it sends it again.
  Model again = model_;
  WriteResult result;
  const int64_t now = clock_.NowUnixMicros();
  const absl::StatusCode code = Apply(write, now, again, result);
  const Outcome outcome = Send(write);
  if (crashed() && !outcome.status.ok() && !IsLogical(outcome.status.code())) {
    doubt_ = write;
    return;
  }
  if (outcome.status.ok() && outcome.result.repeated) {
    // It was applied, though perhaps without a change that can be seen.
    if (!could) Fail("a write that could not be applied was remembered");
    return;
  }
  if (applied) return Fail("a write that was applied before the crash was not remembered");
  if (outcome.status.code() != code) {
    return Fail(absl::StrCat("a write sent again gave ", outcome.status.ToString()));
  }
  if (!outcome.status.ok()) return;
  for (auto& [key, record] : again) {
    if (record.version == kSeqMax) record.version = outcome.result.as_of;
  }
  model_ = std::move(again);
  last_seq_ = outcome.result.as_of;
}

// --- Writes -------------------------------------------------------------------------------------

void Simulation::MaybeNested() {
  if (nested_ || db_ == nullptr || crashed() || violation_.has_value() || Random(4) != 0) return;
  nested_ = true;
  ++counts_.nested;
  DoWrite();
  nested_ = false;
}

Simulation::Write Simulation::RandomWrite() {
  Write write;
  const uint64_t choice = Random(100);
  write.kind = choice < 40   ? Write::Kind::kUpsert
               : choice < 55 ? Write::Kind::kInsert
               : choice < 75 ? Write::Kind::kUpdate
               : choice < 92 ? Write::Kind::kDeleteKeys
               : choice < 99 ? Write::Kind::kDeleteMatching
                             : Write::Kind::kTruncate;
  std::set<int64_t> keys;
  const size_t count = 1 + Random(Random(5) == 0 ? 30 : 6);
  while (keys.size() < count) keys.insert(static_cast<int64_t>(Random(kKeys)));
  write.keys.assign(keys.begin(), keys.end());
  write.n = static_cast<int64_t>(Random(kValues));
  write.with_vectors = Random(3) == 0;
  write.sent_at = clock_.NowUnixMicros();
  for (size_t i = 0; i < count; ++i) {
    Record record{.n = static_cast<int64_t>(Random(kValues)), .vector = std::vector<float>(kDim)};
    for (float& x : record.vector) x = static_cast<float>(Random(6));  // Ties are common.
    if (Random(6) == 0) {
      record.expires = write.sent_at + static_cast<int64_t>(Random(3000)) * 1000 - 100000;
    }
    write.records.push_back(std::move(record));
  }
  if (Random(8) == 0) {
    const auto it = model_.find(write.keys[0]);
    write.if_version = it != model_.end() && Random(3) != 0 ? it->second.version : kSeqZero;
    write.keys.resize(1);
  }
  if (write.kind != Write::Kind::kTruncate && Random(3) == 0) {
    write.request_id = absl::StrCat("r", next_request_++);
  }
  return write;
}

Simulation::Outcome Simulation::Send(const Write& write) {
  WriteOptions options{.request_id = write.request_id,
                       .request_digest = write.request_id + "d",
                       .if_version = write.if_version};
  std::vector<RecordInput> records;
  std::vector<Key> keys;
  for (size_t i = 0; i < write.keys.size(); ++i) {
    keys.emplace_back(write.keys[i]);
    RecordInput record;
    record.key = write.keys[i];
    record.fields.push_back({"n", Value{write.records[i].n}});
    if (write.kind != Write::Kind::kUpdate || write.with_vectors) {
      record.vectors.push_back({"v", write.records[i].vector});
    }
    if (write.records[i].expires != 0 || write.kind != Write::Kind::kUpdate) {
      record.expires_at_unix_us = write.records[i].expires;
    }
    records.push_back(std::move(record));
  }
  absl::StatusOr<WriteResult> result = absl::UnknownError("not sent");
  switch (write.kind) {
    case Write::Kind::kInsert:
      result = db_->Insert("c", std::move(records), kNoCancel, options);
      break;
    case Write::Kind::kUpsert:
      result = db_->Upsert("c", std::move(records), kNoCancel, options);
      break;
    case Write::Kind::kUpdate:
      result = db_->Update("c", std::move(records),
                           write.n % 2 == 0 ? MissingKeys::kSkip : MissingKeys::kRefuse, kNoCancel,
                           options);
      break;
    case Write::Kind::kDeleteKeys:
      result = db_->DeleteKeys("c", std::move(keys), kNoCancel, options);
      break;
    case Write::Kind::kDeleteMatching:
      options.if_version.reset();
      result =
          db_->DeleteMatching("c", {"n == $n", {{"n", Value{write.n}}}}, false, kNoCancel, options);
      break;
    case Write::Kind::kTruncate: {
      const auto truncated = db_->TruncateCollection("c", kNoCancel);
      if (!truncated.ok()) return {truncated.status(), {}};
      return {absl::OkStatus(), WriteResult{.as_of = truncated->as_of}};
    }
  }
  if (!result.ok()) return {result.status(), {}};
  return {absl::OkStatus(), *result};
}

absl::StatusCode Simulation::Apply(const Write& write, int64_t now, Model& model,
                                   WriteResult& result) const {
  const auto live = [&](int64_t key) -> Record* {
    const auto it = model.find(key);
    return it == model.end() || Expired(it->second.expires, now) ? nullptr : &it->second;
  };
  const bool by_keys =
      write.kind != Write::Kind::kDeleteMatching && write.kind != Write::Kind::kTruncate;
  for (const int64_t key : write.keys) {
    if (!by_keys || !write.if_version.has_value()) break;
    const Record* record = live(key);
    const Seq version = record == nullptr ? kSeqZero : record->version;
    if (version != *write.if_version) return absl::StatusCode::kAborted;
  }
  const bool skip_missing = write.n % 2 == 0;
  for (const int64_t key : write.keys) {
    const bool exists = live(key) != nullptr;
    if (write.kind == Write::Kind::kInsert && exists) return absl::StatusCode::kAlreadyExists;
    if (write.kind == Write::Kind::kUpdate && !exists && !skip_missing) {
      return absl::StatusCode::kNotFound;
    }
  }
  if (write.kind == Write::Kind::kTruncate) {
    model.clear();
    return absl::StatusCode::kOk;
  }
  if (write.kind == Write::Kind::kDeleteMatching) {
    result.deleted = std::erase_if(model, [&](const auto& entry) {
      return entry.second.n == write.n && !Expired(entry.second.expires, now);
    });
    return absl::StatusCode::kOk;
  }
  for (size_t i = 0; i < write.keys.size(); ++i) {
    const int64_t key = write.keys[i];
    Record* record = live(key);
    if (write.kind == Write::Kind::kDeleteKeys) {
      if (record == nullptr) continue;
      model.erase(key);
      ++result.deleted;
    } else if (write.kind == Write::Kind::kUpdate) {
      if (record == nullptr) {
        ++result.missing;
        continue;
      }
      record->n = write.records[i].n;
      if (write.with_vectors) record->vector = write.records[i].vector;
      if (write.records[i].expires != 0) record->expires = write.records[i].expires;
      record->version = kSeqMax;  // Set once it is known.
      ++result.updated;
    } else {
      ++(record == nullptr ? result.inserted : result.replaced);
      model[key] = write.records[i];
      model[key].version = kSeqMax;
    }
  }
  return absl::StatusCode::kOk;
}

void Simulation::DoWrite() {
  const Write write = RandomWrite();
  ++counts_.writes;
  Model next = model_;
  WriteResult expected;
  const absl::StatusCode code = Apply(write, write.sent_at, next, expected);
  const Outcome outcome = Send(write);
  if (!outcome.status.ok()) {
    if (crashed() && !IsLogical(outcome.status.code())) {
      doubt_ = write;
    } else if (outcome.status.code() != code) {
      Fail(absl::StrFormat("write of kind %d: %s instead of code %d", static_cast<int>(write.kind),
                           outcome.status.ToString(), static_cast<int>(code)));
    }
    return;
  }
  const WriteResult& result = outcome.result;
  if (code != absl::StatusCode::kOk || result.repeated || result.inserted != expected.inserted ||
      result.replaced != expected.replaced || result.updated != expected.updated ||
      result.missing != expected.missing || result.deleted != expected.deleted) {
    return Fail(absl::StrFormat(
        "write of kind %d: inserted %d/%d replaced %d/%d updated %d/%d "
        "missing %d/%d deleted %d/%d, code %d",
        static_cast<int>(write.kind), result.inserted, expected.inserted, result.replaced,
        expected.replaced, result.updated, expected.updated, result.missing, expected.missing,
        result.deleted, expected.deleted, static_cast<int>(code)));
  }
  if (result.as_of < last_seq_) return Fail("sequence numbers went back");
  for (auto& [key, record] : next) {
    if (record.version == kSeqMax) record.version = result.as_of;
  }
  model_ = std::move(next);
  last_seq_ = result.as_of;
  if (write.request_id.empty()) return;
  remembered_.push_back({write, outcome});
  if (remembered_.size() > kRememberedMax) remembered_.pop_front();
}

void Simulation::RepeatWrite() {
  if (remembered_.empty()) return;
  const Remembered& first = remembered_[Random(remembered_.size())];
  if (clock_.NowUnixMicros() - first.write.sent_at >= int64_t{600} * 1000000) return;
  const Outcome outcome = Send(first.write);
  if (!outcome.status.ok()) {
    if (!crashed()) Fail(absl::StrCat("a repeated write: ", outcome.status.ToString()));
    return;
  }
  if (!outcome.result.repeated || outcome.result.as_of != first.outcome.result.as_of ||
      outcome.result.deleted != first.outcome.result.deleted ||
      outcome.result.inserted != first.outcome.result.inserted) {
    Fail("a repeated write got another reply than the first time");
  }
}

}  // namespace azimuth::engine::testing
