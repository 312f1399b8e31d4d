// Prints a hash of the bytes of packed weights for each type: packed_layout.cmake compiles this for several processors and
// compares with what packed_layout.py makes from the description in core/packed_layout.hpp. The shape is odd, so that panels,
// words and groups are filled up.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include <fathom/backend/cpu/packed.hpp>

namespace {

using fathom::index;

constexpr index in = 69, out = 37;

/// FNV-1a of `count` bytes.
std::uint64_t hash(const void* from, std::size_t count) {
  std::uint64_t h = 14695981039346656037u;
  for (std::size_t i = 0; i < count; ++i) h = (h ^ static_cast<const unsigned char*>(from)[i]) * 1099511628211u;
  return h;
}
void print(const char* name, std::uint64_t hash) { std::printf("%s %016llx\n", name, static_cast<unsigned long long>(hash)); }

template <class P>
std::unique_ptr<fathom::cpu::packed_matrix<P, in, out>> zeros() {
  auto weights = std::make_unique<fathom::cpu::packed_matrix<P, in, out>>();
  std::memset(static_cast<void*>(weights.get()), 0, sizeof *weights);
  return weights;
}

/// W[k, j] = ((31 k + 7 j + k j) mod 127 - 63) / 64
template <class P>
void packed(const char* name) {
  using T = typename fathom::cpu::packed_matrix<P, in, out>::T;
  std::vector<T> numbers;
  for (index k = 0; k < in; ++k)
    for (index j = 0; j < out; ++j) numbers.push_back(static_cast<T>((31 * k + 7 * j + k * j) % 127 - 63) / 64);
  auto weights = zeros<P>();
  weights->pack(numbers.data(), out, 1);
  print(name, hash(weights.get(), sizeof *weights));
}

/// The same places for groups, whose integers are given instead of rounded: q[k, j] = (31 k + 7 j + k j) mod 2^bits, and for
/// group g of column j the scale 100 g + j and the offset 1000 + j + g, as bits of f16.
template <class P>
void grouped(const char* name) {
  auto weights = zeros<P>();
  const auto view = weights->writable_view();
  for (index g = 0; g < weights->groups; ++g)
    for (index j = 0; j < out; ++j) {
      fathom::group<P> group;
      group.scale = {static_cast<std::uint16_t>(100 * g + j)};
      group.offset = {static_cast<std::uint16_t>(1000 + j + g)};
      for (index i = 0, k = g * 32; i < 32 && k < in; ++i, ++k)
        group.q[i] = static_cast<std::uint8_t>((31 * k + 7 * j + k * j) % (1 << P::bits));
      view.put(g, j, group);
    }
  print(name, hash(weights->bytes, static_cast<std::size_t>(weights->panels * weights->groups * view.group_bytes)));
}

}  // namespace

int main() {
  std::printf("version %d\n", fathom::packed_layout_version);
  packed<double>("double");
  packed<float>("float");
  packed<fathom::bf16>("bf16");
  packed<std::int8_t>("int8");
  grouped<fathom::int4>("int4");
  grouped<fathom::symmetric_int4>("symmetric_int4");
  grouped<fathom::grouped_int8>("grouped_int8");
}
