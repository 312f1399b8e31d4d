// An older C++ is refused in one sentence, whatever is included first.
// says: fathom is written in C++20: compile with -std=c++20 or newer
// flags: -std=c++17
// MISTAKE=<fathom/fathom.hpp>: standard.hpp
// MISTAKE=<fathom/backend/cpu.hpp>: standard.hpp
// MISTAKE=<fathom/core/memory.hpp>: standard.hpp
// MISTAKE=<fathom/data/text.hpp>: standard.hpp
// MISTAKE=<fathom/data/tokens.hpp>: standard.hpp
// MISTAKE=<fathom/generate/generator.hpp>: standard.hpp
// MISTAKE=<fathom/io/file.hpp>: standard.hpp
// MISTAKE=<fathom/io/weights.hpp>: standard.hpp
// MISTAKE=<fathom/model/config.hpp>: standard.hpp
// MISTAKE=<fathom/model/model.hpp>: standard.hpp
// MISTAKE=<fathom/train/trainer.hpp>: standard.hpp
#if defined(MISTAKE)
#include MISTAKE
#endif
