// For the program that make_families.py --random writes: compares a model of `transformers` with the same one here, and prints what it
// found as a line of JSON. The script decides what is a fault.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/core/json.hpp>
#include <fathom/io/save_gguf.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

#include "transformers_numbers.hpp"

template <fathom::config C>
fathom::json found_in(const std::filesystem::path& folder) {
  using fathom::token;
  using net = fathom::model<C>;
  fathom::json line = fathom::json::object();
  const fathom::io::safetensors_file expected(folder / "expected.safetensors");
  auto weights = fathom::make<typename net::parameters>(), gradients = fathom::make<typename net::parameters>();
  auto theirs = fathom::make<typename net::parameters>();
  fathom::load(folder, *weights);

  // A batch of two rows: logits, loss, gradients.
  const auto tokens = tokens_in(expected, "tokens");  // [2, length]
  const auto length = static_cast<fathom::index>(tokens.size() / 2);
  std::vector<token> targets(tokens.size(), -1);  // the next token, as transformers shifts labels
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
    if (static_cast<fathom::index>(i + 1) % length != 0) targets[i] = tokens[i + 1];
  typename net::tape tape(2, length);
  net::forward(*weights, {tokens, {}, 2, length}, tape);
  line["logits"] = distance_of<float>(tape.logits(), numbers_in(expected.at("logits"))).relative();
  net::forward_backward(*weights, {tokens, targets, 2, length}, tape, *gradients);
  const std::vector<float> loss = {static_cast<float>(tape.loss())};
  line["loss"] = distance_of<float>(loss, numbers_in(expected.at("loss"))).relative();
  fathom::io::read_any_layout(stored_gradients(expected), *theirs, {}, true);
  line["gradients"] = fathom::json::array();  // of each tensor: largest difference, largest number
  net::visit(
      [&](std::string_view name, fathom::initial, const auto& mine, const auto& other) {
        const distance d = distance_of<float>(std::span(mine.span().data(), mine.span().size()), std::span(other.span().data(), other.span().size()));
        fathom::json row = fathom::json::array();
        row.push_back(std::string(name)), row.push_back(d.off), row.push_back(d.largest);
        line["gradients"].push_back(row);
      },
      *gradients, *theirs);

  // Their greedy tokens, read by prompt and one by one: the logits behind each, and the token that is most likely.
  const auto greedy = tokens_in(expected, "greedy");  // [prompt + written]
  const std::vector<float> after = numbers_in(expected.at("greedy_logits"));  // [1 + written, vocab]
  const std::size_t prompt = greedy.size() + 1 - after.size() / static_cast<std::size_t>(C.vocab);
  typename net::cache cache(1);
  line["chosen"] = fathom::json::array();
  std::vector<float> all;
  std::span<const float> logits = net::prefill(*weights, std::span(greedy).first(prompt), cache);
  for (std::size_t i = prompt;; ++i) {
    all.insert(all.end(), logits.begin(), logits.begin() + C.vocab);
    line["chosen"].push_back(std::max_element(logits.begin(), logits.begin() + C.vocab) - logits.begin());
    if (i == greedy.size()) break;
    logits = net::decode(*weights, greedy[i], cache);
  }
  line["decoded"] = distance_of<float>(all, after).relative();

  fathom::save_transformers(folder / "saved", *weights);
  try {  // some models cannot be said in GGUF, which is an error
    fathom::save_gguf(folder / "model.gguf", *weights);
  } catch (const fathom::error& problem) {
    line["gguf_refused"] = std::string(problem.what());
    return line;
  }
  auto again = fathom::make<typename net::parameters>();
  fathom::load(folder / "model.gguf", *again);
  net::forward(*again, {tokens, {}, 2, length}, tape);
  line["gguf"] = distance_of<float>(tape.logits(), numbers_in(expected.at("logits"))).relative();
  return line;
}

template <fathom::config C>
void compare(const std::filesystem::path& folder) {
  fathom::json line = fathom::json::object();
  try {
    line = found_in<C>(folder);
  } catch (const std::exception& problem) {
    line["error"] = std::string(problem.what());
  }
  line["model"] = folder.filename().string();
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}
