// The kernels of distance.h, half.h and byte_rows.h in terms of Highway. Read once per target,
// inside of its namespace, with hn for hwy::HWY_NAMESPACE. Needs <algorithm>, <cstring>,
// hwy/cache_control.h and hwy/highway.h.

struct L2 {
  template <class V>
  static HWY_INLINE V Step(V a, V b, V sum) {
    const V difference = hn::Sub(a, b);
    return hn::MulAdd(difference, difference, sum);
  }
  static HWY_INLINE float Term(float a, float b) { return (a - b) * (a - b); }
  static HWY_INLINE float Finish(float sum) { return sum; }
};

struct Ip {
  template <class V>
  static HWY_INLINE V Step(V a, V b, V sum) {
    return hn::MulAdd(a, b, sum);
  }
  static HWY_INLINE float Term(float a, float b) { return a * b; }
  static HWY_INLINE float Finish(float sum) { return -sum; }
};

struct Cosine : Ip {
  static HWY_INLINE float Finish(float sum) { return 1.0f - sum; }
};

// Full vectors of either element as floats; and the first `count` ones, others 0, less than a
// vector, without reading past them.
template <class D>
HWY_INLINE auto LoadRow(D d, const float* HWY_RESTRICT row) {
  return hn::LoadU(d, row);
}
template <class D>
HWY_INLINE auto LoadRow(D d, const uint8_t* HWY_RESTRICT row) {
  const hn::Rebind<uint8_t, D> bytes;
  const hn::RebindToSigned<D> whole;
  return hn::ConvertTo(d, hn::PromoteTo(whole, hn::LoadU(bytes, row)));
}
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
template <class D>
HWY_INLINE auto LoadFirst(D d, const uint8_t* HWY_RESTRICT row, size_t count) {
  uint8_t first[hn::MaxLanes(d)] = {};
  std::memcpy(first, row, count);
  return LoadRow(d, first);
}
template <class D>
HWY_INLINE auto LoadRow(D d, const uint16_t* HWY_RESTRICT row) {
  const hn::Rebind<hwy::float16_t, D> halves;
  const hn::Rebind<uint16_t, D> bits;
  return hn::PromoteTo(d, hn::BitCast(halves, hn::LoadU(bits, row)));
}
template <class D>
HWY_INLINE auto LoadFirst(D d, const float* HWY_RESTRICT row, size_t count) {
  return hn::MaskedLoad(hn::FirstN(d, count), d, row);
}
template <class D>
HWY_INLINE auto LoadFirst(D d, const uint16_t* HWY_RESTRICT row, size_t count) {
#if HWY_TARGET <= HWY_AVX3
  const hn::Rebind<hwy::float16_t, D> halves;
  const hn::Rebind<uint16_t, D> bits;
  const auto first = hn::MaskedLoad(hn::FirstN(bits, count), bits, row);
  return hn::PromoteTo(d, hn::BitCast(halves, first));
#else
  uint16_t first[hn::MaxLanes(d)] = {};
  std::memcpy(first, row, count * sizeof(uint16_t));
  return LoadRow(d, first);
#endif
}
#endif

// Four accumulators hide the latency of the fused multiply-add. The tail never reads past the end:
// masked loads do not fault on AVX2 and above; elsewhere vectors are short and a loop does.
template <class Op, class Element>
HWY_INLINE float Distance(const float* HWY_RESTRICT a, const Element* HWY_RESTRICT b, size_t dim) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum2 = hn::Zero(d);
  auto sum3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    sum0 = Op::Step(hn::LoadU(d, a + i), LoadRow(d, b + i), sum0);
    sum1 = Op::Step(hn::LoadU(d, a + i + lanes), LoadRow(d, b + i + lanes), sum1);
    sum2 = Op::Step(hn::LoadU(d, a + i + 2 * lanes), LoadRow(d, b + i + 2 * lanes), sum2);
    sum3 = Op::Step(hn::LoadU(d, a + i + 3 * lanes), LoadRow(d, b + i + 3 * lanes), sum3);
  }
  for (; i + lanes <= dim; i += lanes) {
    sum0 = Op::Step(hn::LoadU(d, a + i), LoadRow(d, b + i), sum0);
  }
  float rest = 0;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  if (i < dim) {
    sum1 = Op::Step(LoadFirst(d, a + i, dim - i), LoadFirst(d, b + i, dim - i), sum1);
  }
#else
  for (; i < dim; ++i) rest += Op::Term(a[i], b[i]);
#endif
  const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  return Op::Finish(hn::GetLane(hn::SumOfLanes(d, sum)) + rest);
}

template <class Op, class Element>
float Pair(const float* a, const Element* b, size_t dim) {
  return Distance<Op>(a, b, dim);
}

// The first lines of a row; the hardware prefetcher sees a stream by then and brings the others.
template <class Element>
HWY_INLINE void PrefetchRow(const Element* row, size_t dim) {
  constexpr size_t kLine = 64 / sizeof(Element);
  const size_t end = std::min(dim, 4 * kLine);
  for (size_t i = 0; i < end; i += kLine) hwy::Prefetch(row + i);
}

template <class Op, class Element>
void Gather(const float* query, const Element* base, size_t stride, size_t dim, const uint32_t* ids,
            size_t count, float* out) {
  constexpr size_t kRowsAhead = 3;
  for (size_t i = 0; i < std::min(count, kRowsAhead); ++i) {
    PrefetchRow(base + ids[i] * stride, dim);
  }
  for (size_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) PrefetchRow(base + ids[i + kRowsAhead] * stride, dim);
    out[i] = Distance<Op>(query, base + ids[i] * stride, dim);
  }
}

template <class Op, class Element>
void Run(const float* query, const Element* rows, size_t stride, size_t dim, size_t count,
         float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = Distance<Op>(query, rows + i * stride, dim);
}

// Kernels is DistanceKernels, HalfKernels or ByteKernels.
template <class Kernels, class Op, class Element>
Kernels KernelsOf() {
  return {&Pair<Op, Element>, &Gather<Op, Element>, &Run<Op, Element>};
}
