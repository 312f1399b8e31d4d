// JSON, and configs in it: ours, those of `transformers`, and as a file to compare a model with.
#include <optional>
#include <string>

#include <fathom/core/json.hpp>
#include <fathom/io/config.hpp>
#include <fathom/io/families.hpp>
#include <fathom/io/model_files.hpp>
#include <fathom/io/transformers.hpp>

#include "fuzz.hpp"

namespace fuzz::config {

void read(bytes input) {
  const std::string_view text = text_of(input);
  if (const auto value = fathom::json::parse(text)) {
    const std::string dumped = value->dump();
    const auto again = fathom::json::parse(dumped);
    expect(again && *again == *value && again->dump() == dumped, "JSON that is written is read as the same");
  }
  constexpr fathom::config given{.vocab = 7, .context = 8, .width = 8, .depth = 3, .heads = 2, .shortcut = {.depths = {1}}};
  static_cast<void>(fathom::io::differences(given, text));
  static_cast<void>(fathom::io::transformers_differences(given, text));
  const fathom::config found = fathom::io::config_of_json(text, "input");
  const std::string as_cpp = fathom::io::to_cpp(found);
  const fathom::io::config_reading again = fathom::io::read_config(fathom::io::to_json(found));
  expect(again.problem.empty() || !fathom::io::problems_of(found).empty(), "a config that is written can be read");
  expect(!again.problem.empty() || fathom::io::to_cpp(again.value) == as_cpp, "a config that is written is read as the same");
  if (found.family != fathom::family::gpt2 && found.shortcut.depths.empty() && found.residual.form == fathom::residual_form::plain) {
    std::string problems;
    const fathom::config third = fathom::io::config_of_transformers(fathom::io::to_family_json(found, "float32"), problems);
    expect(!problems.empty() || fathom::io::to_cpp(third) == as_cpp, "a family's config that is written is read as the same");
  }
}

void make_seeds(seeds& to) {
  to.add_files("golden", "config.json");
  to.add_files("families", "config.json");
  to.add(R"({"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 4, "mlp_hidden": 50, "tied": false,
            "shortcut": {"depths": [0, 3], "features": "mlp", "hidden": 7, "placement": "joint"}, "family": "llama", "kv_heads": 2,
            "head_width": 8, "window": 5, "rotary": {"base": 500000, "width": 4, "scaling": "llama3", "factor": 8, "low_factor": 2,
            "high_factor": 5, "original": 64}, "inverse_epsilon": 1000000, "window_pattern": 6, "local_base": 10000, "score_width": 4})");
  to.add(R"({"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 4, "shortcut": {"depths": [1, 2], "features": "identity",
            "placement": "own_values", "blocks": 2, "source": "values", "gate": "head_and_depth", "head_norms": true, "slopes": "learned",
            "exit": "sink"}, "residual": {"form": "mudd", "last_blocks": 2}})");
  to.add(R"({"vocab": 61, "context": 16, "width": 32, "depth": 4, "heads": 4, "shortcut": {"depths": [0, 2], "placement": "joint",
            "source": "own_input", "unit_features": true, "depth_bias": true, "gate": "head", "rotary": 100, "exit": "sigmoid"},
            "residual": {"form": "dense_former", "dilation": 2}})");
  to.add(R"([1.5e-8, -0, "\u00e9\ud83d\ude00", {"a": null, "b": [true, false]}, 18446744073709551615, 1e400])");
}

const harness it("config", read, make_seeds);

}  // namespace fuzz::config
