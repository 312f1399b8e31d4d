// fathom::kernels for several instruction sets: chooses at start which one runs.
//
// The build compiles the kernels once per set, each in a namespace of its own, and generates one source that includes this
// file (cmake/fathom-dispatch.cmake). It has a jump for every kernel, `fathom::cpu::dispatched::...`, through a table of
// addresses, which choose() fills before any other code runs. The environment variable FATHOM_ISA forces a set; a
// name that this program has no kernels for, or that this processor does not run, ends the program with an error. For x86-64.
#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include <cpuid.h>

namespace fathom::cpu::dispatch {

using kernel = void (*)();  // of whatever type

/// Whether this processor and its operating system run code of that instruction set (Intel, Software Developer's Manual 2,
/// CPUID; x86-64 psABI, table 3.1, for the levels of x86-64-v3 and v4).
inline bool runs(std::string_view set) {
  struct registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
  };
  const auto ask = [](unsigned leaf, unsigned part) {
    registers r;
    __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);  // leaves zeros if there is no such leaf
    return r;
  };
  const auto has = [](unsigned bits, std::initializer_list<int> all) {
    for (const int bit : all)
      if (!(bits >> bit & 1u)) return false;
    return true;
  };
  const registers first = ask(1, 0), seventh = ask(7, 0), extended = ask(0x80000001u, 0);
  const registers more = seventh.a >= 1 ? ask(7, 1) : registers();
  if (!has(first.c, {0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29})) return false;  // SSE 3 to 4.2, FMA, MOVBE, AVX, F16C, ...
  unsigned saved, high;  // XCR0: the registers that the operating system saves
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  const auto names = [set](std::string_view what) { return set.find(what) != set.npos; };
  bool all = has(seventh.b, {3, 5, 8}) && has(extended.c, {0, 5}) && (saved & 0x6u) == 0x6u;  // BMI, AVX2; LZCNT: v3
  if (names("avx512")) {
    all = all && has(seventh.b, {16, 17, 28, 30, 31}) && (saved & 0xe6u) == 0xe6u;  // F, DQ, CD, BW, VL: v4
    if (names("_vnni")) all = all && has(seventh.c, {11});
  } else {
    if (names("_vnni")) all = all && has(more.a, {4});
  }
  if (names("_bf16")) all = all && has(more.a, {5});
  if (names("_amx")) all = all && has(seventh.d, {22, 24}) && (saved & 0x60000u) == 0x60000u;
  return all;
}

[[noreturn]] inline void refuse(std::string_view asked, std::span<const char* const> sets) {
  std::string message = "fathom: FATHOM_ISA=" + std::string(asked) + ": this program has kernels for";
  for (const char* const set : sets) message.append(" ").append(set);
  message += "; this processor runs";
  for (const char* const set : sets)
    if (set == sets.back() || runs(set)) message.append(" ").append(set);
  std::fputs((message + "\n").c_str(), stderr);
  std::_Exit(2);
}

/// Fills `table` with the kernels of the best set that this processor runs, and returns the set's name. `sets`: best first;
/// the last one is what the program itself is compiled for. kernels[i]: kernel i of each set, or null where the next set's is
/// as good.
template <std::size_t Sets, std::size_t Kernels>
const char* choose(const std::array<const char*, Sets>& sets, const std::array<std::array<kernel, Sets>, Kernels>& kernels,
                   kernel (&table)[Kernels]) {
  std::array<bool, Sets> can{};
  for (std::size_t s = 0; s < Sets; ++s) can[s] = s + 1 == Sets || runs(sets[s]);
  std::size_t chosen = 0;
  if (const char* const forced = std::getenv("FATHOM_ISA"); forced && *forced) {
    while (chosen < Sets && std::string_view(sets[chosen]) != forced) ++chosen;
    if (chosen == Sets || !can[chosen]) refuse(forced, sets);
  } else {
    while (!can[chosen]) ++chosen;
  }
  for (std::size_t i = 0; i < Kernels; ++i) {
    std::size_t s = chosen;
    while (!can[s] || !kernels[i][s]) ++s;
    table[i] = kernels[i][s];
  }
  return sets[chosen];
}

}  // namespace fathom::cpu::dispatch
