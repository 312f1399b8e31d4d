// fathom::kernels: data sets read from files.
#include "fathom/data/corpus.inl.hpp"
#include "fathom/data/files.inl.hpp"
#include "fathom/data/text.inl.hpp"
#include "fathom/data/token_files.inl.hpp"
