// What the targets with AVX-512 share of code_distance-inl.h; read under their attributes.

using Vector = __m512i;
constexpr size_t kTileQueries = 4;

HWY_INLINE Vector Zero() {
  return _mm512_setzero_si512();
}
HWY_INLINE Vector Load(const void* bytes) {
  return _mm512_loadu_si512(bytes);
}
HWY_INLINE Vector Low(Vector codes) {
  return _mm512_and_si512(codes, _mm512_set1_epi8(0x0F));
}
HWY_INLINE Vector High(Vector codes) {
  return _mm512_and_si512(_mm512_srli_epi16(codes, 4), _mm512_set1_epi8(0x0F));
}
HWY_INLINE __m128i Totals(Vector a, Vector b, Vector c, Vector d) {
  const Vector ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const Vector cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const Vector abcd =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
