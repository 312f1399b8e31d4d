// The data of a page as JSON.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fathom/core/error.hpp"
#include "fathom/core/json.hpp"
#include "fathom/core/types.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/choices.hpp"
#include "fathom/viz/page/object_text.hpp"
#include "fathom/viz/page/options.hpp"
#include "fathom/viz/page/text.hpp"
#include "fathom/viz/page/views.hpp"
#include "fathom/viz/page/weights.hpp"

namespace fathom::viz::detail {

/// A JSON array of strings.
[[nodiscard]] inline json strings(std::span<const std::string> texts) {
  json result = json::array();
  for (const std::string& text : texts) result.push_back(text);
  return result;
}

/// All data of the page's script, as JSON.
[[nodiscard]] inline std::string page_data(const attention_weights_map& map, const page_options& options) {
  if (!options.nll.empty() && std::cmp_not_equal(options.nll.size(), map.queries))
    fail("save_page: ", options.nll.size(), " NLLs of ", map.queries, " tokens; expected one for each");
  std::vector<std::string> bytes;
  for (const token t : map.tokens) bytes.push_back(options.labels(t, map.vocab));

  const bool runs = std::holds_alternative<text>(options.as);
  std::vector<std::string> texts = runs ? running_text(bytes) : std::vector<std::string>{};
  std::string names;  // of single tokens, where they differ from the text
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string name = characters(bytes[i]);
    if (!runs)
      texts.push_back(std::move(name));
    else if (name != texts[i])
      names += join(names.empty() ? "\"" : ",\"", i, "\":", json(std::move(name)).dump());
  }
  json nll = json::array();
  for (const float nats : options.nll) {
    if (nats < 0 || std::isinf(nats)) fail("save_page: an NLL of ", nats, "; expected 0 or more, or a NaN for none");
    nll.push_back(std::isnan(nats) ? json() : json(nats));
  }
  json ids = json::array();
  for (const token t : map.tokens) ids.push_back(t);
  json sources = json::array();
  for (const std::string& source : map.sources) sources.push_back(characters(source));
  return object_text({{"title", json(characters(options.title)).dump()},
                      {"view", std::visit([&](const auto& as) { return view(as, map.queries); }, options.as)},
                      {"measure", options.measure == measure::relative ? "\"relative\"" : "\"weight\""},
                      {"heads", json(map.heads).dump()},
                      {"each_head", json(options.heads == heads::all).dump()},
                      {"sources", sources.dump()},
                      {"ids", ids.dump()},
                      {"texts", strings(texts).dump()},
                      {"names", "{" + names + "}"},
                      {"nll", nll.dump()},
                      {"weights", json(packed_weights(map, options.heads)).dump()}});
}

}  // namespace fathom::viz::detail
