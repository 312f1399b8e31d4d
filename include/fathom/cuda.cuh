// fathom on a GPU: fathom::model<config, fathom::backend::cuda<float>>, or cuda<fathom::bf16>, with the same trainer,
// generator and files as on the CPU. Compiled by nvcc. Includes neither Eigen nor xsimd; together with fathom.hpp, a program
// has both backends.
#pragma once

#include "fathom/backend/cuda.cuh"
#include "fathom/backend/reference.hpp"
#include "fathom/core/bf16.hpp"
#include "fathom/core/copy.hpp"
#include "fathom/core/error.hpp"
#include "fathom/data/batches.hpp"
#include "fathom/generate/generator.hpp"
#include "fathom/io/load_any.hpp"
#include "fathom/io/weights.hpp"
#include "fathom/layer/gated_mlp.hpp"
#include "fathom/layer/rms_norm.hpp"
#include "fathom/model/architecture.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/model/edit.hpp"
#include "fathom/model/initialize.hpp"
#include "fathom/model/model.hpp"
#include "fathom/model/summary.hpp"
#include "fathom/train/adamw.hpp"
#include "fathom/train/evaluate.hpp"
#include "fathom/train/lion.hpp"
#include "fathom/train/muon.hpp"
#include "fathom/train/sgd.hpp"
#include "fathom/train/trainer.hpp"
