// A consumer that draws.
#include <fathom/viz.hpp>

int main() {}
