#include "server/rpc/request_digest.h"

#include "base/status.h"

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "openssl/evp.h"

#include <memory>

namespace azimuth::server {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// A stream into a running hash, so that a request of many MiB is not held twice.
class Sha256Stream final : public google::protobuf::io::CopyingOutputStream {
 public:
  Sha256Stream() : context_(EVP_MD_CTX_new()) {
    ok_ = context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }

  bool Write(const void* data, int size) override {
    ok_ = ok_ && EVP_DigestUpdate(context_.get(), data, static_cast<size_t>(size)) == 1;
    return ok_;
  }

  // False after any failure. Call last.
  bool Finish(std::string& digest) {
    digest.resize(EVP_MAX_MD_SIZE);
    unsigned int bytes = 0;
    ok_ = ok_ && EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()),
                                    &bytes) == 1;
    digest.resize(bytes);
    return ok_;
  }

 private:
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context_;
  bool ok_ = false;
};

}  // namespace

absl::StatusOr<std::string> RequestDigest(std::string_view rpc,
                                          const google::protobuf::MessageLite& request) {
  Sha256Stream hash;
  // With its end, so that no name and request give the bytes of another pair.
  hash.Write(rpc.data(), static_cast<int>(rpc.size()));
  hash.Write("", 1);
  bool ok = false;
  {
    google::protobuf::io::CopyingOutputStreamAdaptor buffer(&hash);
    {
      google::protobuf::io::CodedOutputStream out(&buffer);
      out.SetSerializationDeterministic(true);
      ok = request.SerializeToCodedStream(&out);
    }
    ok = buffer.Flush() && ok;
  }
  std::string digest;
  if (!hash.Finish(digest) || !ok) return absl::InternalError("request_id: no digest was made");
  return digest;
}

}  // namespace azimuth::server
