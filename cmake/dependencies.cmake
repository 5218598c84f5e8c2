# Every library of others, found once here because imported targets are only seen in the folder
# that found them. Each is linked only by the layer that may use it (tests/lint/tidy.py checks the
# includes): absl everywhere, Hnswlib and hwy in index, RocksDB in storage, gRPC, Protobuf, OpenSSL
# and CLI11 in server.
find_package(Threads REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(Hnswlib REQUIRED)                 # Hnswlib::hnswlib, cmake/FindHnswlib.cmake
find_package(hwy CONFIG REQUIRED)              # hwy::hwy
find_package(RocksDB CONFIG REQUIRED)          # RocksDB::rocksdb-shared
find_package(Protobuf REQUIRED)                # protobuf::libprotobuf; Debian has no config file
find_package(gRPC CONFIG REQUIRED)             # gRPC::grpc++, gRPC::grpc++_reflection
find_package(OpenSSL REQUIRED)                 # OpenSSL::Crypto
find_package(CLI11 CONFIG REQUIRED)            # CLI11::CLI11
if(AZIMUTH_TESTS)
  find_package(GTest CONFIG REQUIRED)          # GTest::gtest, GTest::gmock, GTest::gtest_main
endif()
if(AZIMUTH_BENCH)
  find_package(benchmark CONFIG REQUIRED)      # benchmark::benchmark, benchmark::benchmark_main
endif()
