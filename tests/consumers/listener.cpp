// A consumer that reads speech.
#include <fathom/data/speech.hpp>

int main(int count, char** arguments) {
  return count < 2 || !fathom::data::speech(arguments[1]).train().empty() ? 0 : 1;
}
