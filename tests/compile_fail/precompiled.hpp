// The headers of the files here, compiled once for all of them.
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/core/copy.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/data/batches.hpp>
#include <fathom/data/corpus.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/attention_map.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/trainer.hpp>
