// How chat models mark who speaks: the text around each turn. A model's template is recognised by its marks.
#pragma once

#include <string>
#include <string_view>

namespace chat {

enum class role { system, user, assistant };

/// The marks of one kind of template. A turn is open(role) content close.
struct marks {
  std::string_view name;
  std::string_view recognised_by;              // text that only templates of this kind contain
  std::string_view system, user, assistant;    // what opens a turn of each; no system: it goes before the first user's text
  std::string_view close;                      // what ends a turn
  std::string_view stop;                       // the token that ends an answer

  [[nodiscard]] std::string_view open(role who) const {
    return who == role::system ? system : who == role::user ? user : assistant;
  }
};
inline constexpr marks known[] = {
    {"ChatML", "<|im_start|>", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n", "<|im_end|>"},
    {"Llama 3", "<|start_header_id|>", "<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", "<|eot_id|>"},
    {"Gemma", "<start_of_turn>", "", "<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>\n", "<end_of_turn>"},
    {"Zephyr", "<|assistant|>", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", "</s>\n", "</s>"},
};

/// The marks of a template (in Jinja); null if it is of another kind.
[[nodiscard]] inline const marks* recognise(std::string_view text) {
  for (const marks& m : known)
    if (text.find(m.recognised_by) != std::string_view::npos) return &m;
  return nullptr;
}
/// The system prompt that a template writes where the conversation has none; empty if there is no such text.
[[nodiscard]] inline std::string standard_system(const marks& m, std::string_view text) {
  if (m.system.empty()) return {};
  std::size_t at = text.find(m.system);
  if (at == std::string_view::npos) return {};
  at += m.system.size();
  const std::string_view found = text.substr(at, text.find(m.stop, at) - at);
  return found.find_first_of("{}'\"+") == std::string_view::npos && found.size() < 1000 ? std::string(found) : std::string();
}

}  // namespace chat
