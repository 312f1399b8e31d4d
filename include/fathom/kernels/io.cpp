// For the target fathom::kernels (core/compiled.hpp): non-template definitions of JSON, io, train and model.
#if !defined(FATHOM_KERNELS)
#error "compile this with FATHOM_KERNELS defined, as all that is linked with it"
#endif

#include "fathom/core/json.inl.hpp"
#include "fathom/io/config.inl.hpp"
#include "fathom/io/conversion.inl.hpp"
#include "fathom/io/description.inl.hpp"
#include "fathom/io/file.inl.hpp"
#include "fathom/io/gguf.inl.hpp"
#include "fathom/io/load_any.inl.hpp"
#include "fathom/io/safetensors.inl.hpp"
#include "fathom/io/transformers.inl.hpp"
#include "fathom/io/weights.inl.hpp"
#include "fathom/model/attention_map.inl.hpp"
#include "fathom/model/initialize.inl.hpp"
#include "fathom/model/summary.inl.hpp"
#include "fathom/model/tensor_table.inl.hpp"
#include "fathom/train/checkpoint.inl.hpp"
#include "fathom/train/groups.inl.hpp"
#include "fathom/train/log.inl.hpp"
#include "fathom/train/progress.inl.hpp"
#include "fathom/train/training.inl.hpp"
