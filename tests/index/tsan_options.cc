// Default options of ThreadSanitizer for test binaries that build graphs. hnswlib
// has one mutex per node, with which the deadlock detector is a hundred times slower. TSAN_OPTIONS
// still wins.
extern "C" const char* __tsan_default_options() {
  return "detect_deadlocks=0";
}
