// A config as JSON: the keys of a model's config.json, and of the entry `fathom.config` that saved weights carry.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fathom/core/compiled.hpp"
#include "fathom/core/json.hpp"
#include "fathom/io/config_keys.hpp"
#include "fathom/model/config.hpp"

namespace fathom {

namespace io {

/// The architecture that a config stands for, as JSON text. zero_init is not part of it: it only says how training begins.
[[nodiscard]] std::string to_json(const config& given);

/// What a text of JSON says otherwise than a config, as "\n  config key: expected X, found Y" for every key that the config
/// has; empty when they agree. Further keys are not looked at, nor is `hidden` in a shortcut without feature MLP.
[[nodiscard]] std::string differences(const config& expected, std::string_view found);

/// What a config.json says.
struct config_reading {
  config value{};          // means nothing where there is a problem
  config_problem problem{};  // "\"width\" is 4.5; expected a whole number, at least 1"; empty: there is none
};

/// Reads the text of a config.json, with our keys or those of GPT2Config in transformers, whose defaults hold for keys that
/// are not there. In a program, and in the compiler:
///
///   constexpr auto read = fathom::io::read_config(R"({"vocab": 256, "context": 64, "width": 64, "depth": 2, "heads": 4})");
///   static_assert(read.problem.empty());
///   using net = fathom::model<read.value>;
[[nodiscard]] constexpr config_reading read_config(std::string_view json) {
  config_reading result;
  json_reader at(json);
  bool is_object = at.next() == json_event::begin_object;
  const std::size_t begin = at.begin();
  is_object = is_object && at.skip();
  const std::string_view object = json.substr(begin, at.position() - begin);
  if (!is_object || at.next() != json_event::end) {
    result.problem.add("is not a JSON object");
    return result;
  }
  const detail::transformers_places of_transformers(object);
  if (of_transformers.are_there())
    detail::read_transformers(of_transformers, result.value, result.problem);
  else
    detail::read_keys(object, detail::config_keys, "", result.value, result.problem);
  return result;
}

/// A sentence as a type, for the compiler to print: config_sentence<problem> is what is wrong with a config.json.
template <config_problem Problem>
struct sentence;
template <char... Letters>
struct letters;

namespace detail {
#if defined(__clang__) && __clang_major__ < 16  // these print an array of letters as numbers, and no more than ten
template <config_problem Problem, std::size_t N = Problem.size()>
struct sentence_of {
  template <std::size_t... I>
  static letters<Problem.text[I]...>* spell(std::index_sequence<I...>);
  using type = std::remove_pointer_t<decltype(spell(std::make_index_sequence<N>()))>;
};
#else
template <config_problem Problem>
struct sentence_of {
  using type = sentence<Problem>;
};
#endif
}  // namespace detail

template <config_problem Problem>
using config_sentence = typename detail::sentence_of<Problem>::type;

/// Whether a sentence says nothing.
template <class Sentence>
inline constexpr bool is_config = false;
template <config_problem Problem>
inline constexpr bool is_config<sentence<Problem>> = Problem.empty();
template <>
inline constexpr bool is_config<letters<>> = true;

}  // namespace io

/// The config that a config.json stands for (io::read_config), for programs that look at one. Fails, naming the file and the
/// key, when it cannot be read, or is the config of no model.
[[nodiscard]] config load_config(const std::filesystem::path& path);

}  // namespace fathom

#if !defined(FATHOM_KERNELS)
#include "fathom/io/config.inl.hpp"
#endif
