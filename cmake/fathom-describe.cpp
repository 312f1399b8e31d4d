// Prints the config of a model as C++. fathom_add_model (fathom-add-model.cmake) builds this for the machine that compiles, also
// where the program is for another one.
//
//   fathom-describe MODEL [CONTEXT [NAMESPACE OUTPUT]]
//
// MODEL is a GGUF file, a folder of `transformers`, or a safetensors file that fathom saved. CONTEXT is the most tokens of a
// sequence, if the model has room for more; 0: as many as the model has. With NAMESPACE and OUTPUT it writes a header with
// NAMESPACE::config.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <fathom/core/error.hpp>
#include <fathom/io/config.hpp>
#include <fathom/io/file.hpp>
#include <fathom/io/model_files.hpp>

int main(int count, char** arguments) {
  if (count != 2 && count != 3 && count != 5)
    return std::fputs("fathom-describe MODEL [CONTEXT [NAMESPACE OUTPUT]]\n", stderr), 2;
  try {
    const fathom::io::model_files model(arguments[1]);
    fathom::config c = fathom::io::config_of(model);
    if (const int most = count > 2 ? std::atoi(arguments[2]) : 0; most > 0) c.context = std::min(c.context, most);
    if (const std::string problems = fathom::io::problems_of(c); !problems.empty())
      fathom::fail(model.name(), ": is the config of no model that can be built:", problems);
    const std::string text = fathom::io::to_cpp(c);
    if (count < 5) return std::printf("%s\n", text.c_str()) < 0;
    fathom::io::atomic_file header(arguments[4]);
    header.write(fathom::join("// Made by fathom-describe from ", model.name(), "\n#pragma once\n\n#include <fathom/model/config.hpp>\n\nnamespace ",
                              arguments[3], " {\ninline constexpr fathom::config config = ", text, ";\n}\n"));
    header.commit();
  } catch (const std::exception& problem) {
    return std::fprintf(stderr, "%s\n", problem.what()), 1;
  }
}
