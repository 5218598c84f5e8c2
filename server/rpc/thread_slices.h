// What a thread may ask of the scheduler.
//
// Thread safety: of the calling thread alone.
#pragma once

namespace azimuth::server {

// Of threads that work for tens of microseconds and then wait: a thread that wakes up with a short
// slice runs before one that has run for part of a longer slice, instead of after milliseconds. A
// wish only: kernels before Linux 6.12, and other systems, do not know it.
void AskForShortSlices();

}  // namespace azimuth::server
