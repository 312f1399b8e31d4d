# Scripts that compare with peers source this file with their arguments. It removes --avx2 from them, and sets
#
#   arguments   the remaining arguments
#   isa         native, or avx2
#   march       for -march
#   build       where to build fathom's programs
#
# --avx2 restricts fathom and all peers to AVX2 and FMA, the level of most processors, whatever this one supports: fathom by
# compiler flags, the peers by their own settings.
arguments=() isa=native march=native build=build/bench
for argument in "$@"; do
  if [ "$argument" = --avx2 ]; then isa=avx2 march=x86-64-v3 build=build/bench-avx2; else arguments+=("$argument"); fi
done

# The user's environment may restrict a library; clear it, so that each library chooses for itself.
unset ${!OPENBLAS_@} ${!DNNL_@} ${!ONEDNN_@} ${!LIBXSMM_@} ${!MKL_@} ${!GGML_@} ${!OMP_@} ${!GOMP_@}
if [ "$isa" = avx2 ]; then
  export ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell LIBXSMM_TARGET=hsw MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
fi

# configure [OPTION ...]: configures fathom's benches in $build.
configure() {
  cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_EXAMPLES=OFF "-DCMAKE_CXX_FLAGS=-march=$march" "$@" -B "$build" >/dev/null
}
