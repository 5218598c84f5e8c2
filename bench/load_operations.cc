#include "bench/load_operations.h"

#include "azimuth/v1/records.grpc.pb.h"
#include "azimuth/v1/search.grpc.pb.h"

#include <numeric>
#include <utility>

namespace azimuth::bench {
namespace {

namespace pb = azimuth::v1;

std::string Bytes(const float* values, size_t count) {
  return {reinterpret_cast<const char*>(values), count * sizeof(float)};
}

template <typename Service>
std::vector<std::unique_ptr<typename Service::Stub>> MakeStubs(const Channels& channels) {
  std::vector<std::unique_ptr<typename Service::Stub>> stubs;
  stubs.reserve(channels.size());
  for (const auto& channel : channels) stubs.push_back(Service::NewStub(channel));
  return stubs;
}

template <typename Response>
struct CallOf final : Call {
  Response response;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;

  void Begin(std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> prepared) {
    reader = std::move(prepared);
    reader->StartCall();
    reader->Finish(&response, &status, this);
  }
};

pb::SearchOptions OptionsOf(const SearchSettings& settings) {
  pb::SearchOptions options;
  options.set_vector_field(settings.vector_field);
  options.set_limit(settings.limit);
  options.mutable_output_fields();  // None.
  if (!settings.filter.empty()) options.mutable_filter()->set_expression(settings.filter);
  if (settings.ef != 0) options.mutable_params()->set_ef(settings.ef);
  if (settings.recall != 0) {
    options.mutable_params()->set_recall(static_cast<float>(settings.recall));
  }
  if (settings.exact) options.mutable_params()->set_exact(true);
  return options;
}

class Searches final : public Operation {
 public:
  Searches(const Channels& channels, const SearchSettings& settings, const Vectors& queries)
      : stubs_(MakeStubs<pb::SearchService>(channels)),
        limit_(settings.limit),
        requests_(queries.rows) {
    for (size_t i = 0; i < queries.rows; ++i) {
      pb::SearchRequest& request = requests_[i];
      request.set_collection(settings.collection);
      request.mutable_query()->mutable_dense()->set_f32(Bytes(queries.row(i), queries.dim));
      *request.mutable_options() = OptionsOf(settings);
    }
  }

  std::unique_ptr<Call> Make() const override {
    return std::make_unique<CallOf<pb::SearchResponse>>();
  }

  void Start(Call& call, grpc::CompletionQueue& queue) const override {
    auto& stub = *stubs_[call.number % stubs_.size()];
    const pb::SearchRequest& request = requests_[call.number % requests_.size()];
    static_cast<CallOf<pb::SearchResponse>&>(call).Begin(
        stub.PrepareAsyncSearch(&call.context, request, &queue));
  }

  uint64_t calls_of_a_round() const override { return requests_.size(); }

  void AppendAnswers(const Call& call, std::vector<int64_t>& keys) const override {
    const auto& response = static_cast<const CallOf<pb::SearchResponse>&>(call).response;
    const size_t end = keys.size() + limit_;
    for (const pb::Hit& hit : response.hits()) keys.push_back(hit.key().int64_key());
    keys.resize(end, -1);
  }

 private:
  const std::vector<std::unique_ptr<pb::SearchService::Stub>> stubs_;
  const uint32_t limit_;
  std::vector<pb::SearchRequest> requests_;
};

class SearchBatches final : public Operation {
 public:
  SearchBatches(const Channels& channels, const SearchSettings& settings, const Vectors& queries)
      : stubs_(MakeStubs<pb::SearchService>(channels)), limit_(settings.limit) {
    // As many as it takes until the queries begin with the first one again.
    const uint64_t calls = queries.rows / std::gcd(queries.rows, uint64_t{settings.queries});
    for (uint64_t call = 0; call < calls; ++call) {
      pb::SearchBatchRequest& request = requests_.emplace_back();
      request.set_collection(settings.collection);
      *request.mutable_options() = OptionsOf(settings);
      std::string& bytes = *request.mutable_queries_f32();
      for (uint64_t i = call * settings.queries; i < (call + 1) * settings.queries; ++i) {
        bytes += Bytes(queries.row(i % queries.rows), queries.dim);
      }
    }
  }

  std::unique_ptr<Call> Make() const override {
    return std::make_unique<CallOf<pb::SearchBatchResponse>>();
  }

  void Start(Call& call, grpc::CompletionQueue& queue) const override {
    auto& stub = *stubs_[call.number % stubs_.size()];
    const pb::SearchBatchRequest& request = requests_[call.number % requests_.size()];
    static_cast<CallOf<pb::SearchBatchResponse>&>(call).Begin(
        stub.PrepareAsyncSearchBatch(&call.context, request, &queue));
  }

  uint64_t calls_of_a_round() const override { return requests_.size(); }

  void AppendAnswers(const Call& call, std::vector<int64_t>& keys) const override {
    const auto& response = static_cast<const CallOf<pb::SearchBatchResponse>&>(call).response;
    for (const pb::HitColumns& hits : response.results()) {
      const auto& found = hits.keys().int64_keys().values();
      const size_t end = keys.size() + limit_;
      keys.insert(keys.end(), found.begin(), found.end());
      keys.resize(end, -1);
    }
  }

 private:
  const std::vector<std::unique_ptr<pb::SearchService::Stub>> stubs_;
  const uint32_t limit_;
  std::vector<pb::SearchBatchRequest> requests_;
};

class Upserts final : public Operation {
 public:
  Upserts(const Channels& channels, UpsertSettings settings, Vectors vectors)
      : stubs_(MakeStubs<pb::RecordService>(channels)),
        settings_(std::move(settings)),
        vectors_(std::move(vectors)) {}

  std::unique_ptr<Call> Make() const override {
    return std::make_unique<CallOf<pb::UpsertResponse>>();
  }

  void Start(Call& call, grpc::CompletionQueue& queue) const override {
    auto& stub = *stubs_[call.number % stubs_.size()];
    static_cast<CallOf<pb::UpsertResponse>&>(call).Begin(
        stub.PrepareAsyncUpsert(&call.context, RequestOf(call.number), &queue));
  }

 private:
  pb::UpsertRequest RequestOf(uint64_t number) const {
    pb::UpsertRequest request;
    request.set_collection(settings_.collection);
    if (settings_.relaxed) request.set_durability(pb::DURABILITY_RELAXED);
    pb::RecordColumns& columns = *request.mutable_columns();
    auto& keys = *columns.mutable_keys()->mutable_int64_keys()->mutable_values();
    keys.Reserve(static_cast<int>(settings_.batch));
    pb::VectorColumn& column = *columns.add_vectors();
    column.set_name(settings_.vector_field);
    std::string& bytes = *column.mutable_f32();
    bytes.reserve(settings_.batch * vectors_.dim * sizeof(float));
    const uint64_t first = number * settings_.batch;
    for (uint64_t i = first; i < first + settings_.batch; ++i) {
      const uint64_t key = settings_.key_count == 0 ? i : i % settings_.key_count;
      keys.AddAlreadyReserved(settings_.first_key + static_cast<int64_t>(key));
      bytes += Bytes(vectors_.row(i % vectors_.rows), vectors_.dim);
    }
    return request;
  }

  const std::vector<std::unique_ptr<pb::RecordService::Stub>> stubs_;
  const UpsertSettings settings_;
  const Vectors vectors_;
};

}  // namespace

std::unique_ptr<Operation> MakeSearches(const Channels& channels, const SearchSettings& settings,
                                        const Vectors& queries) {
  return std::make_unique<Searches>(channels, settings, queries);
}

std::unique_ptr<Operation> MakeSearchBatches(const Channels& channels,
                                             const SearchSettings& settings,
                                             const Vectors& queries) {
  return std::make_unique<SearchBatches>(channels, settings, queries);
}

std::unique_ptr<Operation> MakeUpserts(const Channels& channels, const UpsertSettings& settings,
                                       Vectors vectors) {
  return std::make_unique<Upserts>(channels, settings, std::move(vectors));
}

}  // namespace azimuth::bench
