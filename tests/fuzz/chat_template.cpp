// Chat templates of models, as examples/chat reads them.
#include <string>

#include <fathom/data/model_tokenizer.hpp>

#include "../../examples/chat/templates.hpp"
#include "fuzz.hpp"

namespace fuzz::chat_template {

void read(bytes input) {
  static const fathom::data::bpe tokenizer = fathom::data::bpe::from_memory(seeds::read(FATHOM_TESTS "/golden/tokenizers/smollm2/tokenizer.json"));
  const chat::style style(std::string(text_of(input)), "", tokenizer, "model", "2024-01-01");
  const std::string system = style.standard_system();
  static_cast<void>(style.before_first(system, "Hello") + style.content("Hello", system) + style.behind() + style.before_next() + style.content("More"));
}

void make_seeds(seeds& to) {
  const auto all = fathom::json::parse(seeds::read(FATHOM_TESTS "/golden/chat.json"));
  if (!all || !all->is_array()) return;
  for (const fathom::json& one : all->elements())
    if (one.is_object() && one["template"].is_string()) to.add(one["template"].text());
}

const harness it("chat_template", read, make_seeds);

}  // namespace fuzz::chat_template
