// How chat models mark who speaks: the text around each turn. A model's chat template is recognised by its marks.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <fathom/core/error.hpp>
#include <fathom/data/bpe.hpp>

namespace chat {

/// The marks of one kind of template; {bos} and {eos} stand for the tokenizer's tokens. A conversation is
///
///   begin [system] (user_open TEXT user_close answer_open ANSWER answer_close)*
///
/// where system is system_open TEXT system_close, which is in the first user's text if `system_in_text`.
struct marks {
  std::string_view name;                      // for --template
  std::string_view recognised_by;             // text that templates of this kind contain,
  std::string_view unless;                    // and what they do not contain
  std::string_view system_open, system_close;
  std::string_view user_open, user_close;
  std::string_view answer_open, answer_close;
  bool system_in_text = false;
  bool trims = false;                         // white space around the texts
  bool begins = false;                        // with {bos}, where no template says so
};
/// In the order in which they are looked for.
inline constexpr marks known[] = {
    {.name = "llama3", .recognised_by = "<|start_header_id|>", .unless = "", .system_open = "<|start_header_id|>system<|end_header_id|>\n\n",
     .system_close = "<|eot_id|>", .user_open = "<|start_header_id|>user<|end_header_id|>\n\n", .user_close = "<|eot_id|>",
     .answer_open = "<|start_header_id|>assistant<|end_header_id|>\n\n", .answer_close = "<|eot_id|>", .trims = true, .begins = true},
    {.name = "chatml", .recognised_by = "<|im_start|>", .unless = "<|im_sep|>", .system_open = "<|im_start|>system\n", .system_close = "<|im_end|>\n",
     .user_open = "<|im_start|>user\n", .user_close = "<|im_end|>\n", .answer_open = "<|im_start|>assistant\n", .answer_close = "<|im_end|>\n"},
    {.name = "gemma", .recognised_by = "<start_of_turn>", .unless = "", .system_open = "", .system_close = "\n\n",
     .user_open = "<start_of_turn>user\n", .user_close = "<end_of_turn>\n", .answer_open = "<start_of_turn>model\n",
     .answer_close = "<end_of_turn>\n", .system_in_text = true, .trims = true, .begins = true},
    {.name = "llama2", .recognised_by = "<<SYS>>", .unless = "", .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n",
     .user_open = "{bos}[INST] ", .user_close = " [/INST]", .answer_open = "", .answer_close = " {eos}", .system_in_text = true, .trims = true},
    {.name = "mistral", .recognised_by = "[INST]", .unless = "", .system_open = "", .system_close = "\n\n", .user_open = "[INST] ",
     .user_close = " [/INST]", .answer_open = "", .answer_close = "{eos}", .system_in_text = true, .begins = true},
    {.name = "zephyr", .recognised_by = "<|assistant|>", .unless = "<|end|>", .system_open = "<|system|>\n", .system_close = "{eos}\n",
     .user_open = "<|user|>\n", .user_close = "{eos}\n", .answer_open = "<|assistant|>\n", .answer_close = "{eos}\n"}};

/// "chatml, gemma, ..."
[[nodiscard]] inline std::string names_of_all() {
  std::string names;
  for (const marks& m : known) names += (names.empty() ? "" : ", ") + std::string(m.name);
  return names;
}

/// Replaces every `from` in a text.
[[nodiscard]] inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}
[[nodiscard]] inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\n\v\f\r";
  const std::size_t first = text.find_first_not_of(white);
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(white) - first + 1);
}

/// A model's way to write conversations.
class style {
 public:
  /// The kind of the template, in Jinja, or the one called `name`, if there is a name. Fails when it is none of those known;
  /// `model` is the model's name in the error.
  style(std::string_view jinja, std::string_view name, const fathom::data::bpe& tokenizer, const std::string& model)
      : kind_(find(jinja, name, model)),
        bos_(tokenizer.bos() ? tokenizer.bytes(*tokenizer.bos()) : std::string_view()),
        eos_(tokenizer.eos() ? tokenizer.bytes(*tokenizer.eos()) : std::string_view()) {
    // Templates write new lines as they are, or as \n.
    const std::string text = replaced(std::string(jinja), "\\n", "\n");
    const bool is_mark = kind_->user_open.find(bos_) != std::string_view::npos;  // as <|im_start|> is in some models
    const bool says_bos = !bos_.empty() && !is_mark && (text.find("bos_token") != std::string::npos || text.find(bos_) != std::string::npos);
    begins_ = jinja.empty() || !name.empty() ? kind_->begins : says_bos && kind_->user_open.find("{bos}") == std::string_view::npos;
    if (!kind_->system_in_text) standard_system_ = find_standard_system(text);
  }

  [[nodiscard]] std::string_view name() const { return kind_->name; }
  /// The system prompt that the template writes into conversations without one; empty if there is none.
  [[nodiscard]] const std::string& standard_system() const { return standard_system_; }

  // The text around a user's: before the first one, with the system prompt, if there is one; before others, which ends the
  // answer to the last one; and behind it.
  [[nodiscard]] std::string before_first(std::string_view system) const {
    std::string text = begins_ ? bos_ : std::string();
    const std::string prompt = system.empty() ? std::string() : filled(kind_->system_open) + content(system) + filled(kind_->system_close);
    return text + (kind_->system_in_text ? filled(kind_->user_open) + prompt : prompt + filled(kind_->user_open));
  }
  [[nodiscard]] std::string before_next() const { return filled(kind_->answer_close) + filled(kind_->user_open); }
  [[nodiscard]] std::string behind() const { return filled(kind_->user_close) + filled(kind_->answer_open); }
  /// A user's text as the template writes it.
  [[nodiscard]] std::string content(std::string_view text) const { return std::string(kind_->trims ? trimmed(text) : text); }
  /// The spelling of the token that ends an answer.
  [[nodiscard]] std::string stop() const { return std::string(trimmed(filled(kind_->answer_close))); }

 private:
  [[nodiscard]] static const marks* find(std::string_view jinja, std::string_view name, const std::string& model) {
    for (const marks& m : known)
      if (name.empty() ? jinja.find(m.recognised_by) != std::string_view::npos && (m.unless.empty() || jinja.find(m.unless) == std::string_view::npos)
                       : m.name == name)
        return &m;
    if (!name.empty()) fathom::fail("--template ", name, ": expected one of ", names_of_all());
    const std::string hint = ": say how it is written, --template with one of " + names_of_all();
    if (jinja.empty()) fathom::fail(model, ": has no chat template", hint);
    fathom::fail(model, ": has a chat template of an unknown kind", hint, "; the template is\n", jinja.substr(0, 600), jinja.size() > 600 ? "..." : "");
  }
  [[nodiscard]] std::string filled(std::string_view mark) const { return replaced(replaced(std::string(mark), "{bos}", bos_), "{eos}", eos_); }
  /// What stands, as plain text, between the marks of a system prompt.
  [[nodiscard]] std::string find_standard_system(std::string_view text) const {
    const std::string open(kind_->system_open), close(trimmed(filled(kind_->system_close)));
    for (std::size_t at = 0; (at = text.find(open, at)) != std::string_view::npos;) {
      at += open.size();
      const std::string_view found = text.substr(at, text.find(close, at) - at);
      if (!found.empty() && found.size() < 1000 && found.find_first_of("{}'\"+") == std::string_view::npos) return std::string(found);
    }
    return {};
  }

  const marks* kind_;
  std::string bos_, eos_, standard_system_;
  bool begins_ = false;
};

}  // namespace chat
