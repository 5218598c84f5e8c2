// Between the files of row_code.h: the scalar kernels, which are the definition of the others, and
// what the kernels of all targets share.
#pragma once

#include "index/distance/row_code.h"

namespace azimuth::index {

void ScalarCodeDots(const int8_t* query, const uint8_t* codes, size_t bytes, size_t count,
                    int32_t* out);
RowCode ScalarEncodeRow(std::span<const float> row, uint8_t* code);

// Null if this CPU has no AVX-512 VNNI.
CodeDots VnniCodeDots();

// The greatest number of a row's code.
inline constexpr float kRowCodeMax = 127;

// The code's side of a row from its least and greatest element; false if the range overflows.
bool SetRange(float least, float greatest, RowCode& code);
// What is kept of the sums of squares of a row and of its error, each computed in double or in
// float with four accumulators or more.
void SetNorms(float square, float error_square, size_t dim, RowCode& code);

}  // namespace azimuth::index
