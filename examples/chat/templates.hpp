// How chat models mark who speaks: the text around each turn. A model's chat template is recognised by its marks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <ctime>
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
  std::string_view unless[6];                 // and what they do not contain, as others do that write more or less
  std::string_view system_open, system_close;
  std::string_view user_open, user_close;
  std::string_view answer_open, answer_close;
  bool system_in_text = false;
  bool trims = false;                         // white space around the texts
  bool trims_system = false;                  // and around the system prompt
  bool trims_both = false;                    // around system prompt and text together, as one text
  bool begins = false;                        // with {bos}, where no template says so
};
/// In the order in which they are looked for.
inline constexpr marks known[] = {
    {.name = "llama3", .recognised_by = "<|start_header_id|>", .unless = {"Available functions", "available function(s)", "functions = "},
     .system_open = "<|start_header_id|>system<|end_header_id|>\n\n",
     .system_close = "<|eot_id|>", .user_open = "<|start_header_id|>user<|end_header_id|>\n\n", .user_close = "<|eot_id|>",
     .answer_open = "<|start_header_id|>assistant<|end_header_id|>\n\n", .answer_close = "<|eot_id|>", .trims = true, .trims_system = true,
     .begins = true},
    {.name = "chatml", .recognised_by = "<|im_start|>", .unless = {"<|im_sep|>", "## Metadata"}, .system_open = "<|im_start|>system\n",
     .system_close = "<|im_end|>\n",
     .user_open = "<|im_start|>user\n", .user_close = "<|im_end|>\n", .answer_open = "<|im_start|>assistant\n", .answer_close = "<|im_end|>\n"},
    {.name = "gemma", .recognised_by = "<start_of_turn>", .unless = {}, .system_open = "", .system_close = "\n\n",
     .user_open = "<start_of_turn>user\n", .user_close = "<end_of_turn>\n", .answer_open = "<start_of_turn>model\n",
     .answer_close = "<end_of_turn>\n", .system_in_text = true, .trims = true, .begins = true},
    {.name = "llama2", .recognised_by = "<<SYS>>", .unless = {}, .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n",
     .user_open = "{bos}[INST] ", .user_close = " [/INST]", .answer_open = "", .answer_close = " {eos}", .system_in_text = true, .trims = true,
     .trims_both = true},
    {.name = "mistral", .recognised_by = "[INST] ", .unless = {"<<SYS>>", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "'[/INST]", "\"[/INST]"},
     .system_open = "", .system_close = "\n\n", .user_open = "[INST] ",
     .user_close = " [/INST]", .answer_open = "", .answer_close = "{eos}", .system_in_text = true, .begins = true},
    {.name = "zephyr", .recognised_by = "<|assistant|>", .unless = {"<|end|>"}, .system_open = "<|system|>\n", .system_close = "{eos}\n",
     .user_open = "<|user|>\n", .user_close = "{eos}\n", .answer_open = "<|assistant|>\n", .answer_close = "{eos}\n"},
    // Tulu 3 and OLMo 2: Zephyr's marks, but only answers end with {eos}.
    {.name = "tulu", .recognised_by = "<|assistant|>", .unless = {"<|end|>"}, .system_open = "<|system|>\n", .system_close = "\n",
     .user_open = "<|user|>\n", .user_close = "\n", .answer_open = "<|assistant|>\n", .answer_close = "{eos}\n", .begins = true}};

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

/// Whether a template is of a kind, by the text that it contains.
[[nodiscard]] inline bool is_of(const marks& kind, std::string_view jinja) {
  const auto contains = [&](std::string_view text) { return jinja.find(text) != std::string_view::npos; };
  if (!contains(kind.recognised_by)) return false;
  for (const std::string_view other : kind.unless)
    if (!other.empty() && contains(other)) return false;
  // What else templates of other models write between the same marks.
  const std::string text = replaced(std::string(jinja), "\\n", "\n");
  const auto has = [&](std::string_view part) { return text.find(part) != std::string::npos; };
  if (kind.name == "llama3") return !has("Cutting Knowledge Date") || has("Today Date: ");
  if (kind.name == "llama2") return has("strip()") && (has("bos_token + '[INST] '") || has("'<s>[INST] '"));
  if (kind.name == "chatml") {  // answers that begin with a thought
    for (std::size_t at = text.rfind("add_generation_prompt"); at != std::string::npos;)
      if (at = text.find("<think>\n", at + 1); at != std::string::npos && !std::string_view(text).substr(at).starts_with("<think>\n\n")) return false;
    return true;
  }
  if (kind.name != "zephyr" && kind.name != "tulu") return true;
  // What follows the user's text in the expression that writes it. Templates that write all roles alike have no <|user|>.
  const std::size_t at = text.find("<|user|>");
  const std::string user = at == std::string::npos ? text : text.substr(at, text.find("}}", at) - at);
  const bool has_end = user.find("eos_token") != std::string::npos || user.find("</s>") != std::string::npos || user.find("<|endoftext|>") != std::string::npos;
  if (kind.name == "zephyr") return has_end;
  const std::string_view behind = trimmed(user);
  return !has_end && user.starts_with("<|user|>\n") && (behind.ends_with("+ '\n'") || behind.ends_with("+ \"\n\""));
}

/// Today as Llama 3's templates write it, "26 Jul 2024".
[[nodiscard]] inline std::string today() {
  constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  const std::tm* const local = std::localtime(&now);
  if (!local) return "26 Jul 2024";
  const std::string day = std::to_string(local->tm_mday);
  return (day.size() < 2 ? "0" : "") + day + " " + months[static_cast<std::size_t>(local->tm_mon)] + " " + std::to_string(1900 + local->tm_year);
}

/// A model's way to write conversations.
class style {
 public:
  /// The kind of the template, in Jinja, or the one called `name`, if there is a name. Fails when it is none of those known;
  /// `model` is the model's name in the error; `date` is for templates that write today's date.
  style(std::string_view jinja, std::string_view name, const fathom::data::bpe& tokenizer, const std::string& model,
        const std::string& date = today())
      : kind_(find(jinja, name, model)),
        bos_(tokenizer.bos() ? tokenizer.bytes(*tokenizer.bos()) : std::string_view()),
        eos_(tokenizer.eos() ? tokenizer.bytes(*tokenizer.eos()) : std::string_view()) {
    // Templates write new lines as they are, or as \n.
    const std::string text = replaced(std::string(jinja), "\\n", "\n");
    const bool is_mark = kind_->user_open.find(bos_) != std::string_view::npos;  // as <|im_start|> is in some models
    const bool says_bos = !bos_.empty() && !is_mark && (text.find("bos_token") != std::string::npos || text.find(bos_) != std::string::npos);
    begins_ = jinja.empty() || !name.empty() ? kind_->begins : says_bos && kind_->user_open.find("{bos}") == std::string_view::npos;
    if (!kind_->system_in_text) standard_system_ = find_standard_system(text);
    // Llama 3.1 and later always write a system turn, which begins with dates: today's, or, without a clock, a fixed one.
    constexpr std::string_view dated = "Cutting Knowledge Date: December 2023\n";
    if (kind_->name == "llama3" && name.empty() && text.find(dated) != std::string::npos)
      dates_ = std::string(dated) + "Today Date: " + (text.find("strftime_now") != std::string::npos ? date : "26 Jul 2024") + "\n\n";
    // Some of Mistral's write a space before [INST].
    if (kind_->name == "mistral" && (text.find("' [INST]") != std::string::npos || text.find("\" [INST]") != std::string::npos)) user_open_ = " [INST] ";
  }

  [[nodiscard]] std::string_view name() const { return kind_->name; }
  /// The system prompt that the template writes into conversations without one; empty if there is none.
  [[nodiscard]] const std::string& standard_system() const { return standard_system_; }

  // The text around a user's: before the first one, with the system prompt, if there is one; before others, which ends the
  // answer to the last one; and behind it. `said` only matters if it is nothing but white space.
  [[nodiscard]] std::string before_first(std::string_view system, std::string_view said = "text") const {
    std::string text = begins_ ? bos_ : std::string();
    const std::string_view given = kind_->trims_system ? trimmed(system) : system;
    const bool has_system = !system.empty() || !dates_.empty();
    const std::string prompt = has_system ? filled(kind_->system_open) + dates_ + std::string(given) + filled(kind_->system_close) : std::string();
    if (kind_->trims_both && trimmed(said).empty()) return text + user_open() + std::string(trimmed(prompt));
    return text + (kind_->system_in_text ? user_open() + prompt : prompt + user_open());
  }
  [[nodiscard]] std::string before_next() const { return filled(kind_->answer_close) + user_open(); }
  [[nodiscard]] std::string behind() const { return filled(kind_->user_close) + filled(kind_->answer_open); }
  /// A user's text as the template writes it, behind before_first(system) or, if `system` is empty, also behind before_next().
  [[nodiscard]] std::string content(std::string_view text, std::string_view system = {}) const {
    if (!kind_->trims) return std::string(text);
    if (!kind_->trims_both || system.empty()) return std::string(trimmed(text));
    const std::string_view all = trimmed(text);  // white space at the beginning is inside the joined text
    return all.empty() ? std::string() : std::string(text.substr(0, static_cast<std::size_t>(all.data() - text.data()) + all.size()));
  }
  /// The spelling of the token that ends an answer.
  [[nodiscard]] std::string stop() const { return std::string(trimmed(filled(kind_->answer_close))); }

 private:
  [[nodiscard]] static const marks* find(std::string_view jinja, std::string_view name, const std::string& model) {
    for (const marks& m : known)
      if (name.empty() ? is_of(m, jinja) : m.name == name) return &m;
    if (!name.empty()) fathom::fail("--template ", name, ": expected one of ", names_of_all());
    const std::string hint = ": say how it is written, --template with one of " + names_of_all();
    if (jinja.empty()) fathom::fail(model, ": has no chat template", hint);
    fathom::fail(model, ": has a chat template of an unknown kind", hint, "; the template is\n", jinja.substr(0, 600), jinja.size() > 600 ? "..." : "");
  }
  [[nodiscard]] std::string user_open() const { return user_open_.empty() ? filled(kind_->user_open) : user_open_; }
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
  std::string dates_, user_open_;  // of this template, not of its kind; mostly empty
  bool begins_ = false;
};

}  // namespace chat
