// The calls that azimuth_load makes: one search, or one upsert of a batch, each asynchronous.
#pragma once

#include "bench/lib/vector_file.h"

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/support/status.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::bench {

// One call in flight; the tag of its completion. Its subclasses hold the reply.
struct Call {
  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  virtual ~Call() = default;

  uint64_t number = 0;                         // Among the calls of a load, from 0.
  std::chrono::steady_clock::time_point due;   // When it was to be sent.
  std::chrono::steady_clock::time_point sent;  // When it was.
  grpc::ClientContext context;
  grpc::Status status;  // Valid once the call is done.
};

// Starts calls of one kind. Thread-safe: Start may run in several threads.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;

  // A call with its context; it is not started.
  virtual std::unique_ptr<Call> Make() const = 0;
  // Starts a call that Make made, over the channel of its number modulo their count. Its completion
  // comes to `queue` with the call as tag.
  virtual void Start(Call& call, grpc::CompletionQueue& queue) const = 0;
  // After how many calls the queries come again; 0 of calls that are no searches.
  virtual uint64_t calls_of_a_round() const { return 0; }
  // Adds the keys that a search found: `limit` of each query, -1 where there are fewer.
  virtual void AppendAnswers(const Call&, std::vector<int64_t>&) const {}
};

using Channels = std::vector<std::shared_ptr<grpc::Channel>>;

struct SearchSettings {
  std::string collection;
  std::string vector_field;  // Empty: the only one.
  uint32_t limit = 10;
  uint32_t ef = 0;         // 0: the server's default,
  double recall = 0;       // and so is this.
  uint32_t queries = 100;  // Of a batch.
  bool exact = false;
  std::string filter;  // Empty: none.
};

struct UpsertSettings {
  std::string collection;
  std::string vector_field;
  uint64_t batch = 100;    // Records of a call.
  int64_t first_key = 0;   // Keys go up from here,
  uint64_t key_count = 0;  // and begin again after so many; 0: never.
  bool relaxed = false;    // Durability.
};

// Query i of `queries`, again from the first after the last; no fields are returned.
std::unique_ptr<Operation> MakeSearches(const Channels& channels, const SearchSettings& settings,
                                        const Vectors& queries);
// The same in batches: call i has `settings.queries` queries from i times as many on.
std::unique_ptr<Operation> MakeSearchBatches(const Channels& channels,
                                             const SearchSettings& settings,
                                             const Vectors& queries);
// Records with rows of `vectors` in turn, in column form.
std::unique_ptr<Operation> MakeUpserts(const Channels& channels, const UpsertSettings& settings,
                                       Vectors vectors);

}  // namespace azimuth::bench
