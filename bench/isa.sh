# For the scripts that compare with peers: source it with the script's arguments. It takes --avx2 out of them, and sets
#
#   arguments   the others
#   isa         native, or avx2
#   march       for -march
#   build       where to build fathom's programs
#
# With --avx2 everybody is held to what most processors have, AVX2 and FMA, whatever this one has: fathom by its compiler's
# flags, the peers by what each of them listens to.
arguments=() isa=native march=native build=build/bench
for argument in "$@"; do
  if [ "$argument" = --avx2 ]; then isa=avx2 march=x86-64-v3 build=build/bench-avx2; else arguments+=("$argument"); fi
done

# Settings of the machine's owner may hold a library back: each chooses for itself.
unset ${!OPENBLAS_@} ${!DNNL_@} ${!ONEDNN_@} ${!LIBXSMM_@} ${!MKL_@} ${!GGML_@} ${!OMP_@} ${!GOMP_@}
if [ "$isa" = avx2 ]; then
  export ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell LIBXSMM_TARGET=hsw MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
fi

# configure [OPTION ...]: fathom's benches, below $build.
configure() {
  cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF "-DCMAKE_CXX_FLAGS=-march=$march" "$@" -B "$build" >/dev/null
}
