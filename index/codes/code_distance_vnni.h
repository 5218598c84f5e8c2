// Between the files of code_distance.h.
#pragma once

#include "index/codes/code_distance.h"

namespace azimuth::index {

// Null functions if this CPU has no AVX-512 VNNI.
CodeKernels VnniCodeKernelsFor(CodeBits bits);

}  // namespace azimuth::index
