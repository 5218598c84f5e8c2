// The kernels of code_distance.h in terms of the vectors of a target (x86). Read once per target,
// inside of its namespace and under its attributes, after these of it:
//   Vector           sums of int32_t, or bytes
//   kChains          sums of a row that do not wait for each other
//   kTileQueries     queries at once in registers, for four rows
//   Zero, Load       a vector of zeros, of bytes
//   Low, High        of each byte the low and the high four bits
//   AddProducts      to a sum those of a vector of codes and one of a query
//   AddHalves        the same for the low and the high halves of codes, in two chains if there are
//   Join             one sum of a row's chains
//   Totals           the totals of four sums, one in each lane
// Needs <algorithm>, <atomic>, <cstring> and <immintrin.h>, which includers name before the
// attributes begin.

#if defined(__clang__)
#define AZ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AZ_UNROLL _Pragma("GCC unroll 8")
#endif

// Rows whose distances are computed together: each part of the query is loaded once for them.
inline constexpr size_t kGroupRows = 4;

// How far Gather looks ahead, in rows and in lines of memory, and how much of a row it asks for.
inline constexpr size_t kPrefetchRowsMin = 4;
inline constexpr size_t kPrefetchLines = 24;
inline constexpr size_t kPrefetchBytes = 4 * kCodeAlignment;

struct Group {
  const uint8_t* codes[kGroupRows];
  const uint8_t* factors[kGroupRows];
};

HWY_INLINE void SetRow(const CodeRows& rows, size_t row, size_t place, Group& group) {
  group.codes[place] = rows.codes + row * rows.stride;
  group.factors[place] = rows.factors + row * rows.factors_stride;
}

// Adds the products of 64 bytes of each row, from byte `at` on, in a chain of their own if there
// are more (of 4 bits, each half has its own).
template <CodeBits kBits, size_t kRows, size_t kQueries, size_t kSums>
HWY_INLINE void AddBlock(const CodeQuery* queries, const Group& group, size_t at, size_t chain,
                         Vector (&sums)[kQueries][kRows][kSums]) {
  AZ_UNROLL
  for (size_t byte = 0; byte < kCodeAlignment; byte += sizeof(Vector)) {
    Vector codes[kRows];
    AZ_UNROLL
    for (size_t r = 0; r < kRows; ++r) codes[r] = Load(group.codes[r] + at + byte);
    AZ_UNROLL
    for (size_t q = 0; q < kQueries; ++q) {
      if constexpr (kBits == CodeBits::k8) {
        const Vector part = Load(queries[q].code + at + byte);
        AZ_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          sums[q][r][chain] = AddProducts(sums[q][r][chain], codes[r], part);
        }
      } else {
        const int8_t* code = queries[q].code + 2 * at + byte;
        const Vector low = Load(code);
        const Vector high = Load(code + kCodeAlignment);
        AZ_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          AddHalves(sums[q][r], Low(codes[r]), low, High(codes[r]), high);
        }
      }
    }
  }
}

// As the scalar function rounds: every product and every sum.
template <size_t kRows>
HWY_INLINE void Finish(const CodeQuery& query, __m128i dots, const Group& group, float* out) {
  __m128i pairs[kGroupRows];
  AZ_UNROLL
  for (size_t r = 0; r < kGroupRows; ++r) {
    pairs[r] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(group.factors[r < kRows ? r : 0]));
  }
  const __m128i first = _mm_unpacklo_epi32(pairs[0], pairs[1]);
  const __m128i last = _mm_unpacklo_epi32(pairs[2], pairs[3]);
  const __m128 add = _mm_castsi128_ps(_mm_unpacklo_epi64(first, last));
  const __m128 mul = _mm_castsi128_ps(_mm_unpackhi_epi64(first, last));
  const __m128 decoded =
      _mm_add_ps(_mm_mul_ps(_mm_set1_ps(query.mul), _mm_cvtepi32_ps(dots)), _mm_set1_ps(query.off));
  const __m128 distances =
      _mm_add_ps(_mm_add_ps(_mm_set1_ps(query.add), add), _mm_mul_ps(mul, decoded));
  float four[kGroupRows];
  _mm_storeu_ps(four, distances);
  std::memcpy(out, four, kRows * sizeof(float));
}

// Of the first kRows of the group to kQueries queries; query q's go to out + q * out_stride.
template <CodeBits kBits, size_t kRows, size_t kQueries>
HWY_INLINE void Distances(const CodeQuery* queries, const Group& group, size_t stride, float* out,
                          size_t out_stride) {
  constexpr size_t kSums = kQueries == 1 ? kChains : 1;
  Vector sums[kQueries][kRows][kSums];
  AZ_UNROLL
  for (size_t q = 0; q < kQueries; ++q) {
    AZ_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      AZ_UNROLL
      for (size_t chain = 0; chain < kSums; ++chain) sums[q][r][chain] = Zero();
    }
  }
  if constexpr (kBits == CodeBits::k8 && kSums == 2) {
    size_t at = 0;
    for (; at + 2 * kCodeAlignment <= stride; at += 2 * kCodeAlignment) {
      AddBlock<kBits>(queries, group, at, 0, sums);
      AddBlock<kBits>(queries, group, at + kCodeAlignment, 1, sums);
    }
    if (at < stride) AddBlock<kBits>(queries, group, at, 0, sums);
  } else {
    for (size_t at = 0; at < stride; at += kCodeAlignment) {
      AddBlock<kBits>(queries, group, at, 0, sums);
    }
  }
  AZ_UNROLL
  for (size_t q = 0; q < kQueries; ++q) {
    Vector of_rows[kGroupRows];
    AZ_UNROLL
    for (size_t r = 0; r < kGroupRows; ++r) {
      of_rows[r] = r < kRows ? Join(sums[q][r < kRows ? r : 0]) : Zero();
    }
    Finish<kRows>(queries[q], Totals(of_rows[0], of_rows[1], of_rows[2], of_rows[3]), group,
                  out + q * out_stride);
  }
}

// Of a group that is not full.
template <CodeBits kBits>
HWY_INLINE void DistancesOfRest(const CodeQuery& query, const Group& group, size_t count,
                                size_t stride, float* out) {
  switch (count) {
    case 3:
      return Distances<kBits, 3, 1>(&query, group, stride, out, 0);
    case 2:
      return Distances<kBits, 2, 1>(&query, group, stride, out, 0);
    case 1:
      return Distances<kBits, 1, 1>(&query, group, stride, out, 0);
    default:
      return;
  }
}

// The first lines of a code, and the factors; the hardware sees a stream by then and brings the
// other lines. The fence keeps g++ 12 from dropping loops that do nothing else.
HWY_INLINE void PrefetchRow(const CodeRows& rows, size_t row) {
  const uint8_t* code = rows.codes + row * rows.stride;
  const size_t end = std::min(rows.stride, kPrefetchBytes);
  for (size_t i = 0; i < end; i += kCodeAlignment) {
    _mm_prefetch(reinterpret_cast<const char*>(code + i), _MM_HINT_T0);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  _mm_prefetch(reinterpret_cast<const char*>(rows.factors + row * rows.factors_stride),
               _MM_HINT_T0);
}

template <CodeBits kBits>
void Gather(const CodeQuery& query, const CodeRows& rows, const uint32_t* ids, size_t count,
            float* out) {
  const size_t rows_ahead =
      std::max(kPrefetchRowsMin, kPrefetchLines * kCodeAlignment / rows.stride);
  for (size_t i = 0; i < std::min(count, rows_ahead); ++i) PrefetchRow(rows, ids[i]);
  Group group;
  size_t i = 0;
  for (; i + kGroupRows <= count; i += kGroupRows) {
    const size_t end = std::min(count, i + rows_ahead + kGroupRows);
    for (size_t ahead = i + rows_ahead; ahead < end; ++ahead) PrefetchRow(rows, ids[ahead]);
    for (size_t r = 0; r < kGroupRows; ++r) SetRow(rows, ids[i + r], r, group);
    Distances<kBits, kGroupRows, 1>(&query, group, rows.stride, out + i, 0);
  }
  for (size_t r = 0; i + r < count; ++r) SetRow(rows, ids[i + r], r, group);
  DistancesOfRest<kBits>(query, group, count - i, rows.stride, out + i);
}

template <CodeBits kBits>
void Run(const CodeQuery& query, const CodeRows& rows, size_t first, size_t count, float* out) {
  Group group;
  size_t i = 0;
  for (; i + kGroupRows <= count; i += kGroupRows) {
    for (size_t r = 0; r < kGroupRows; ++r) SetRow(rows, first + i + r, r, group);
    Distances<kBits, kGroupRows, 1>(&query, group, rows.stride, out + i, 0);
  }
  for (size_t r = 0; i + r < count; ++r) SetRow(rows, first + i + r, r, group);
  DistancesOfRest<kBits>(query, group, count - i, rows.stride, out + i);
}

template <CodeBits kBits>
void Tile(const CodeQuery* queries, size_t query_count, const CodeRows& rows, size_t first,
          size_t count, float* out) {
  Group group;
  size_t i = 0;
  for (; i + kGroupRows <= count; i += kGroupRows) {
    for (size_t r = 0; r < kGroupRows; ++r) SetRow(rows, first + i + r, r, group);
    size_t q = 0;
    for (; q + kTileQueries <= query_count; q += kTileQueries) {
      Distances<kBits, kGroupRows, kTileQueries>(queries + q, group, rows.stride,
                                                 out + q * count + i, count);
    }
    for (; q < query_count; ++q) {
      Distances<kBits, kGroupRows, 1>(queries + q, group, rows.stride, out + q * count + i, 0);
    }
  }
  for (size_t r = 0; i + r < count; ++r) SetRow(rows, first + i + r, r, group);
  for (size_t q = 0; q < query_count; ++q) {
    DistancesOfRest<kBits>(queries[q], group, count - i, rows.stride, out + q * count + i);
  }
}

inline CodeKernels KernelsOf(CodeBits bits) {
  if (bits == CodeBits::k4) {
    return {&Gather<CodeBits::k4>, &Run<CodeBits::k4>, &Tile<CodeBits::k4>};
  }
  return {&Gather<CodeBits::k8>, &Run<CodeBits::k8>, &Tile<CodeBits::k8>};
}

#undef AZ_UNROLL
