// A consumer that reads speech.
#include <fathom/data/speech.hpp>

int main(int count, char** arguments) {
  if (count < 2) return 0;
  const auto corpus = fathom::data::speech(arguments[1]);
  return corpus.train().empty();
}
