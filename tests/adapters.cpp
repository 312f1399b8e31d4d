// Training a part of a model, and its files: gradients bitwise those of the whole model, memory, training and resuming as with
// frozen groups, LoRA against differences, and what a file of an adapter refuses.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/io/adapter.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/initialize.hpp>
#include <fathom/model/low_rank.hpp>
#include <fathom/model/model.hpp>
#include <fathom/model/train_only.hpp>
#include <fathom/train/muon.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::index;
using fathom::token;

constexpr fathom::config plain{.vocab = 11, .context = 16, .width = 16, .depth = 4, .heads = 2};
constexpr fathom::config with_shortcut = [] {
  fathom::config c = plain;
  c.shortcut = {.depths = {1, 2}, .features = fathom::feature_map::linear, .zero_init = true};
  return c;
}();
constexpr fathom::config llama{.vocab = 11,
                               .context = 16,
                               .width = 16,
                               .depth = 3,
                               .heads = 2,
                               .hidden = 24,
                               .tied = false,
                               .shortcut = {.depths = {1, 2}, .zero_init = true},
                               .family = fathom::family::llama,
                               .kv_heads = 1};
using base = fathom::model<plain>;
using net = fathom::model<with_shortcut>;
using llama_net = fathom::model<llama>;
using shortcut = fathom::train_only<net, "shortcut.*">;

std::vector<token> toy(int count) {
  std::vector<token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * i + i / 3) % 11);
  return tokens;
}

/// Weights of a model, none of them zero.
template <class Model>
auto some_weights(std::uint64_t seed = 3) {
  auto weights = fathom::make<typename Model::parameters>();
  fathom::initialize<Model>(*weights, seed);
  fathom::random numbers(seed, 7);
  Model::visit_tensors(
      [&](fathom::initial, auto& tensor) {
        for (auto& x : tensor.span()) x += static_cast<std::remove_reference_t<decltype(x)>>(0.05 * numbers.normal());
      },
      *weights);
  return weights;
}

template <class T>
bool are_same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

/// The gradients and the loss of a part are those of the whole model, and the tape is smaller.
template <class Part, class Net>
void check_gradients() {
  const auto data = toy(97);
  const fathom::batch b{std::span(data).first(32), std::span(data).last(32), 2, 16};
  const auto weights = some_weights<Net>();
  typename Net::tape whole_tape(2, 16);
  typename Part::tape tape(2, 16);
  auto whole = fathom::make<typename Net::parameters>();
  auto part = fathom::make<typename Part::trained>(), expected = fathom::make<typename Part::trained>();
  Net::forward_backward(*weights, b, whole_tape, *whole);
  Part::take(*whole, *expected);
  Part::forward_backward(*weights, b, tape, *part);
  CHECK(are_same(*part, *expected));
  CHECK(tape.loss() == whole_tape.loss());
  CHECK(std::ranges::any_of(part->numbers, [](float x) { return x != 0; }));
  // In two steps, over what the first pass left in the tape.
  auto again = fathom::make<typename Part::trained>();
  Part::forward(*weights, b, tape);
  Part::backward(*weights, b, tape, *again);
  CHECK(are_same(*again, *expected));
}

TEST_CASE("the gradients of a part of a model are bitwise those of the whole", "[adapters]") {
  check_gradients<shortcut, net>();
  check_gradients<fathom::train_only<net, "h.3.attn.*", "ln_f.*">, net>();
  check_gradients<fathom::train_only<net, "h.1.mlp.c_fc.weight">, net>();
  check_gradients<fathom::train_only<net, "wpe.weight">, net>();
  check_gradients<fathom::train_only<llama_net, "shortcut.*">, llama_net>();
  check_gradients<fathom::train_only<llama_net, "*.down_proj.*", "lm_head.*">, llama_net>();
}

TEST_CASE("what is frozen takes no memory", "[adapters]") {
  // A tensor of 16 numbers is 64 bytes, as much as an alignment.
  CHECK(sizeof(shortcut::trained) == sizeof(float) * static_cast<std::size_t>(net::parameter_count - base::parameter_count));
  CHECK(sizeof(fathom::train_only<net, "h.1.mlp.c_fc.weight">::trained) == 16 * 64 * sizeof(float));
  // Blocks 0 and 1 lie where block 2 does. Backward may write gradients of frozen tensors to one place, the largest's.
  constexpr std::size_t ignored = 16 * 64 * sizeof(float);
  CHECK(net::tape_bytes(2, 16) - shortcut::tape_bytes(2, 16) == 2 * base::body::block_tape_bytes<float>({2, 16}) - ignored);
  CHECK(fathom::train_only<net, "h.3.*">::tape_bytes(2, 16) == shortcut::tape_bytes(2, 16));
  CHECK(fathom::train_only<net, "wpe.weight">::tape_bytes(2, 16) >= net::tape_bytes(2, 16));
  CHECK(shortcut::lowest == fathom::lowest_stage{3, 1});
}

TEST_CASE("a part is trained as the whole with everything else frozen, and resumes", "[adapters]") {
  const temporary_folder folder;
  const auto data = toy(400);
  const fathom::training options{.batch = 2, .tokens = 16, .steps = 9, .rate = 0.02f, .seed = 4};
  auto frozen = options;
  frozen.groups = {{.match = [](std::string_view name) { return !name.starts_with("shortcut."); }, .frozen = true}};
  fathom::trainer<net> whole(frozen);
  fathom::trainer<shortcut> part(options);
  const auto start = some_weights<net>();
  fathom::copy(start, whole.weights());
  fathom::copy(start, part.weights());
  const auto expected = whole.fit(data, data), found = part.fit(data, data);
  CHECK(found.validation_nll == expected.validation_nll);
  CHECK(are_same(part.weights(), whole.weights()));
  CHECK(!are_same(part.weights(), *start));

  // Stopped after five steps, and resumed by another trainer, whose weights are the base.
  auto interrupted = options;
  interrupted.checkpoint = folder.path() / "run.safetensors";
  interrupted.observer = [](const fathom::progress& p) { return p.step < 5; };
  fathom::trainer<shortcut> first(interrupted);
  fathom::copy(start, first.weights());
  CHECK(first.fit(data).steps == 5);
  interrupted.observer = [](const fathom::progress&) { return true; };
  interrupted.resume = true;
  fathom::trainer<shortcut> second(interrupted);
  fathom::copy(start, second.weights());
  CHECK(second.fit(data).steps == 9);
  CHECK(are_same(second.weights(), whole.weights()));
  CHECK(std::filesystem::file_size(folder.path() / "run.safetensors") < sizeof(net::parameters) * 3 / 2);
  // The checkpoint of a part is not one of the whole.
  auto other = options;
  other.checkpoint = interrupted.checkpoint;
  other.resume = true;
  CHECK(fails_with([&] { fathom::trainer<net>(other).fit(data); }, "wte.weight: missing"));
  // Nor one of the same part over another base.
  fathom::trainer<shortcut> elsewhere(interrupted);
  fathom::copy(some_weights<net>(8), elsewhere.weights());
  CHECK(fails_with([&] { elsewhere.fit(data); }, "is the checkpoint of another run", "part.base: expected"));
}

/// The numbers of two blocks of weights differ by at most this much.
template <class Model>
double largest_difference(const typename Model::parameters& a, const typename Model::parameters& b) {
  double largest = 0;
  Model::visit_tensors(
      [&](fathom::initial, const auto& x, const auto& y) {
        for (index i = 0; i < x.size; ++i) largest = std::max(largest, std::abs(static_cast<double>(x.data()[i]) - static_cast<double>(y.data()[i])));
      },
      a, b);
  return largest;
}

TEST_CASE("micro-batches and Muon train a part as the whole with everything else frozen", "[adapters]") {
  const auto data = toy(400);
  const auto start = some_weights<net>();
  const auto compare = [&]<template <class> class Optimizer>(auto options) {
    options.batch = 2;
    options.tokens = 16;
    options.steps = 6;
    auto frozen = options;
    frozen.groups = {{.match = [](std::string_view name) { return !name.starts_with("shortcut."); }, .frozen = true}};
    fathom::trainer<net, Optimizer> whole(frozen);
    fathom::trainer<shortcut, Optimizer> part(options);
    fathom::copy(start, whole.weights());
    fathom::copy(start, part.weights());
    CHECK(part.fit(data).training_nll == whole.fit(data).training_nll);
    CHECK(are_same(part.weights(), whole.weights()));
    CHECK(!are_same(part.weights(), *start));
  };
  compare.operator()<fathom::adamw>(fathom::training{.micro_batches = 3, .rate = 0.02f});
  compare.operator()<fathom::muon>(fathom::training_of<fathom::muon_options>{});
}

TEST_CASE("weights of a part that become infinite end the run", "[adapters]") {
  const temporary_folder folder;
  const auto file = folder.path() / "run.safetensors";
  // A token that the data has not: decay, times a rate far too high, moves its embedding out of range.
  const auto data = toy(400);
  std::vector<token> few;
  for (const token t : data) few.push_back(t % 10);
  fathom::trainer<fathom::train_only<llama_net, "wte.weight">> part(
      {.batch = 2, .tokens = 16, .steps = 1, .rate = 100, .warmup = 0, .decay = 1, .checkpoint = file});
  part.weights().embed.wte.values[10 * 16] = std::numeric_limits<float>::max();
  CHECK(fails_with([&] { part.fit(few); }, "training stopped", "after step 1", "wte.weight is not finite", "the last good checkpoint is none"));
  // Sums of A and B that are finite.
  using lora = fathom::low_rank<base, 2, 4, "*.attn.*">;
  fathom::trainer<lora> trainer({.batch = 2, .tokens = 16, .steps = 1, .rate = 3e38f, .warmup = 0, .decay = 0, .checkpoint = file});
  CHECK(fails_with([&] { trainer.fit(data); }, "training stopped", "after step 1", "attn.c_attn.weight is not finite"));
  CHECK(!std::filesystem::exists(file));
}

TEST_CASE("an adapter equals its base at step 0, and its file is loaded over the base", "[adapters]") {
  const temporary_folder folder;
  const auto file = folder.path() / "adapter.safetensors";
  const auto data = toy(400);
  const auto plain_weights = some_weights<base>(5);
  fathom::save(folder.path() / "base.safetensors", plain_weights);
  fathom::trainer<shortcut> trainer({.batch = 2, .tokens = 16, .steps = 6, .rate = 0.02f});
  fathom::load(folder.path() / "base.safetensors", trainer.weights(), {.missing = fathom::missing::keep});
  base::tape plain_tape(2, 16);
  net::tape tape(2, 16);
  const auto nll = [&](const auto& weights) { return fathom::evaluate<net>(weights, data, tape, 2, 16); };
  CHECK(nll(trainer.weights()) == fathom::evaluate<base>(*plain_weights, data, plain_tape, 2, 16));
  trainer.fit(data);
  CHECK(nll(trainer.weights()) < fathom::evaluate<base>(*plain_weights, data, plain_tape, 2, 16));
  fathom::save_adapter<shortcut>(file, trainer.weights());
  CHECK(std::filesystem::file_size(file) < sizeof(shortcut::trained) + 8192);

  auto fresh = fathom::make<net::parameters>();
  fathom::initialize<net>(*fresh, 77);
  fathom::load(folder.path() / "base.safetensors", fresh, {.missing = fathom::missing::keep});
  const auto before = fathom::copy(fresh);
  fathom::load_adapter(file, fresh);
  CHECK(are_same(*fresh, trainer.weights()));
  // Matrices in bf16: a smaller file, and numbers within its rounding.
  fathom::save_adapter<shortcut, fathom::bf16>(folder.path() / "small.safetensors", trainer.weights());
  CHECK(std::filesystem::file_size(folder.path() / "small.safetensors") < std::filesystem::file_size(file) * 3 / 4);
  fathom::load_adapter(folder.path() / "small.safetensors", fresh);
  CHECK(std::abs(nll(*fresh) - nll(trainer.weights())) < 1e-3);

  // What does not belong together changes nothing.
  const auto refuses = [&](const auto& f, auto& weights, auto... words) {
    const auto same = fathom::copy(weights);
    const bool is_refused = fails_with(f, words...);
    return is_refused && are_same(*same, *weights);
  };
  auto wrong = fathom::copy(before);
  wrong->embed.wte.values[3] += 1e-6f;
  CHECK(refuses([&] { fathom::load_adapter(file, wrong); }, wrong, "adapter.safetensors", "is an adapter of other weights", "load the base"));
  CHECK(refuses([&] { fathom::load_adapter(folder.path() / "base.safetensors", wrong); }, wrong, "is not an adapter", "fathom.adapter"));
  auto other = fathom::make<base::parameters>();
  CHECK(refuses([&] { fathom::load_adapter(file, other); }, other, "is an adapter of another model", "shortcut"));
  // A longer or shorter context, with positions of its own, is the same base.
  constexpr fathom::config longer_config = [] {
    fathom::config c = with_shortcut;
    c.context = 24;
    return c;
  }();
  using longer_net = fathom::model<longer_config>;
  auto longer = fathom::make<longer_net::parameters>();
  // All tensors but the positions, in order.
  const auto take_over = [](const net::parameters& from, longer_net::parameters& to) {
    const fathom::tensor_table rows = fathom::table_of<net>(from), places = fathom::table_of<longer_net>(to);
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (rows[i].name != "wpe.weight")
        std::memcpy(reinterpret_cast<std::byte*>(&to) + places[i].offset, reinterpret_cast<const std::byte*>(&from) + rows[i].offset,
                    static_cast<std::size_t>(rows[i].size) * sizeof(float));
  };
  fathom::initialize<longer_net>(*longer, 78);
  take_over(*before, *longer);
  auto expected_longer = fathom::copy(longer);
  take_over(trainer.weights(), *expected_longer);
  fathom::load_adapter(file, longer);
  CHECK(are_same(*longer, *expected_longer));
  // A file that lacks a tensor, and one that has another.
  const fathom::io::safetensors_file whole(file);
  const auto write_without = [&](std::string_view leave_out, const std::string& rename) {
    std::vector<fathom::io::tensor_to_write> tensors;
    std::vector<std::vector<std::byte>> bytes;
    bytes.reserve(whole.tensors().size());
    for (const auto& [name, tensor] : whole.tensors()) {
      if (name == leave_out && rename.empty()) continue;
      bytes.push_back(tensor.bytes());
      tensors.push_back({name == leave_out ? rename : name, tensor.type, tensor.shape, bytes.back()});
    }
    fathom::io::write_safetensors(folder.path() / "changed.safetensors", tensors, {whole.metadata().begin(), whole.metadata().end()});
  };
  write_without("shortcut.attn.c_q.weight", "");
  auto again = fathom::copy(before);
  CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "shortcut.attn.c_q.weight: missing"));
  write_without("shortcut.attn.c_q.weight", "shortcut.attn.c_q.other");
  CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "shortcut.attn.c_q.other: not part of the model"));
  for (const char* metadata : {"[]", "{\"base\":1}", "{\"base\":-1,\"changes\":[]}", "{\"base\":1,\"changes\":[1]}",
                               "{\"base\":1,\"changes\":[],\"rank\":0,\"scale\":1}", "{\"base\":1,\"changes\":[],\"rank\":1}", "{"}) {
    INFO(metadata);
    fathom::io::write_safetensors(folder.path() / "changed.safetensors", {}, {{"fathom.adapter", metadata}});
    CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "metadata fathom.adapter", "expected"));
  }
  fathom::io::write_safetensors(folder.path() / "changed.safetensors", {}, {{"fathom.adapter", R"({"base":1,"changes":["h.9.mlp"]})"}});
  CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "h.9.mlp: not part of the model"));
  fathom::io::write_safetensors(folder.path() / "changed.safetensors", {},
                                {{"fathom.adapter", R"({"base":1,"changes":["wte.weight"],"rank":2,"scale":1})"}});
  CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "wte.weight: is no matrix"));
  // Repeated names, which would be added again, and scales beyond the weights' type.
  for (const auto& [metadata, words] :
       {std::pair(R"({"base":1,"changes":["ln_f.bias","h.0.mlp.c_fc.weight","ln_f.bias"]})", "ln_f.bias more than once"),
        std::pair(R"({"base":1,"changes":["h.0.mlp.c_fc.weight"],"rank":2,"scale":1e300})", "scale 1e+300"),
        std::pair(R"({"base":1,"changes":["h.0.mlp.c_fc.weight"],"rank":2,"scale":-3.5e38})", "scale -3.5e+38")}) {
    INFO(metadata);
    fathom::io::write_safetensors(folder.path() / "changed.safetensors", {}, {{"fathom.adapter", metadata}});
    CHECK(refuses([&] { fathom::load_adapter(folder.path() / "changed.safetensors", again); }, again, "metadata fathom.adapter", words, "expected"));
  }
}

TEST_CASE("LoRA: gradients are differences, and the base is unchanged at step 0", "[adapters]") {
  using exact = fathom::model<llama, fathom::backend::reference<double>>;
  using lora = fathom::low_rank<exact, 3, 6>;
  const auto data = toy(97);
  const fathom::batch b{std::span(data).first(32), std::span(data).last(32), 2, 16};
  const auto start = some_weights<exact>();
  auto weights = fathom::make<lora::parameters>();
  fathom::copy(*start, static_cast<exact::parameters&>(*weights));
  lora::initialize_trained(*weights, 2);
  lora::tape tape(2, 16);
  auto x = fathom::make<lora::trained>(), g = fathom::make<lora::trained>();
  lora::take(*weights, *x);
  lora::put(*x, *weights);
  CHECK(are_same(static_cast<const exact::parameters&>(*weights), *start));  // B is 0

  fathom::random numbers(1, 1);
  for (double& n : x->numbers) n += 0.1 * numbers.normal();
  lora::put(*x, *weights);
  lora::forward_backward(*weights, b, tape, *g);
  const auto loss_at = [&](std::size_t i, double value) {
    const double kept = x->numbers[i];
    x->numbers[i] = value;
    lora::put(*x, *weights);
    lora::forward(*weights, b, tape);
    x->numbers[i] = kept;
    return tape.loss();
  };
  double largest = 0, difference = 0;
  index matrices = 0;
  for (const fathom::tensor_row& row : lora::trained_table()) {
    matrices += row.name.ends_with(".lora_a");
    for (int n = 0; n < 6; ++n) {
      const std::size_t i = row.offset / sizeof(double) + static_cast<std::size_t>(n * 37 % row.size);
      const double here = x->numbers[i], h = 1e-5;
      const double expected = (loss_at(i, here + h) - loss_at(i, here - h)) / (2 * h);
      largest = std::max(largest, std::abs(expected));
      difference = std::max(difference, std::abs(expected - g->numbers[i]));
    }
  }
  CHECK(matrices == 3 * 5 + 2 * 2 + 3);  // of a block: c_attn, c_proj, gate, up, down; of two features; of the shortcut
  CHECK(largest > 1e-3);
  CHECK(difference < 1e-8);
  // Taking the additions back leaves the base, but for rounding.
  std::ranges::fill(x->numbers, 0.0);
  lora::put(*x, *weights);
  double off = 0;
  exact::visit_tensors(
      [&](fathom::initial, const auto& now, const auto& then) {
        for (index i = 0; i < now.size; ++i) off = std::max(off, std::abs(now.data()[i] - then.data()[i]));
      },
      static_cast<const exact::parameters&>(*weights), *start);
  CHECK(off < 1e-13);
}

TEST_CASE("LoRA is trained, saved, and loaded over its base", "[adapters]") {
  using lora = fathom::low_rank<base, 2, 4, "*.attn.*">;
  CHECK(lora::lowest == fathom::lowest_stage{0, 0});
  const temporary_folder folder;
  const auto data = toy(400);
  const auto start = some_weights<base>(5);
  fathom::trainer<lora> trainer({.batch = 2, .tokens = 16, .steps = 12, .rate = 0.05f, .decay = 0});
  fathom::copy(*start, static_cast<base::parameters&>(trainer.weights()));
  base::tape tape(2, 16);
  const auto nll = [&](const base::parameters& weights) { return fathom::evaluate<base>(weights, data, tape, 2, 16); };
  trainer.fit(data);
  CHECK(nll(trainer.weights()) < nll(*start) - 0.01);
  fathom::save_adapter<lora>(folder.path() / "lora.safetensors", trainer.weights());
  CHECK(std::filesystem::file_size(folder.path() / "lora.safetensors") < sizeof(lora::trained) + 8192);
  auto fresh = fathom::copy(start);
  fathom::load_adapter(folder.path() / "lora.safetensors", fresh);
  // Trained step by step and added at once: but for rounding, the same weights.
  double off = 0, changed = 0;
  base::visit(
      [&](const fathom::path& name, fathom::initial, const auto& a, const auto& b, const auto& before) {
        for (index i = 0; i < a.size; ++i) {
          off = std::max(off, static_cast<double>(std::abs(a.data()[i] - b.data()[i])));
          const double moved = std::abs(a.data()[i] - before.data()[i]);
          if (name.view().find("attn.c_") != std::string_view::npos && name.view().ends_with("weight"))
            changed = std::max(changed, moved);
          else
            CHECK(moved == 0);
        }
      },
      static_cast<const base::parameters&>(trainer.weights()), *fresh, *start);
  CHECK(off < 1e-6);
  CHECK(changed > 1e-2);
  auto wrong = fathom::copy(start);
  wrong->blocks.blocks[0].rest.layer.c_fc.weight.values[0] += 1e-3f;
  CHECK(fails_with([&] { fathom::load_adapter(folder.path() / "lora.safetensors", wrong); }, "is an adapter of other weights"));

  // Into weights of a LoRA, the file's additions take the place of theirs: what is saved of them is the same file.
  const auto file = folder.path() / "lora.safetensors", copied = folder.path() / "copied.safetensors";
  auto other = fathom::make<lora::parameters>();
  fathom::copy(*start, static_cast<base::parameters&>(*other));
  lora::initialize_trained(*other, 9);
  for (int twice = 0; twice < 2; ++twice) {
    fathom::load_adapter(file, other);
    CHECK(largest_difference<base>(*other, *fresh) < 1e-6);
    fathom::save_adapter<lora>(copied, *other);
    CHECK((folder.read("copied.safetensors") == folder.read("lora.safetensors")));
  }
  auto another = fathom::make<fathom::low_rank<base, 2, 6, "*.attn.*">::parameters>();
  fathom::copy(*start, static_cast<base::parameters&>(*another));
  CHECK(fails_with([&] { fathom::load_adapter(file, another); }, "is another adapter", "scale 3", "found rank 2, scale 2"));

  // A base that is loaded after a run has no additions: they are not saved, and a run begins anew.
  const fathom::training options{.batch = 2, .tokens = 16, .steps = 12, .rate = 0.05f, .decay = 0};
  const auto once = fathom::copy(trainer.weights());
  fathom::copy(*start, static_cast<base::parameters&>(trainer.weights()));
  CHECK(fails_with([&] { fathom::save_adapter<lora>(copied, trainer.weights()); }, "copied.safetensors: not written", "another base"));
  trainer.fit(data);
  CHECK(are_same(static_cast<const base::parameters&>(trainer.weights()), static_cast<const base::parameters&>(*once)));
  CHECK(are_same(trainer.weights().additions, once->additions));
  // Without that, it goes on from the additions, which are still all that the weights have beside the base.
  trainer.fit(data);
  CHECK(largest_difference<base>(trainer.weights(), *once) > 1e-3);
  fathom::save_adapter<lora>(copied, trainer.weights());
  const auto twice_trained = fathom::copy(start);
  fathom::load_adapter(copied, twice_trained);
  CHECK(largest_difference<base>(trainer.weights(), *twice_trained) < 1e-5);

  // Interrupted and resumed: but for the rounding of sums, the same.
  auto interrupted = options;
  interrupted.checkpoint = folder.path() / "run.safetensors";
  interrupted.observer = [](const fathom::progress& p) { return p.step < 5; };
  fathom::trainer<lora> first(interrupted);
  fathom::copy(*start, static_cast<base::parameters&>(first.weights()));
  CHECK(first.fit(data).steps == 5);
  interrupted.observer = {};
  interrupted.resume = true;
  fathom::trainer<lora> second(interrupted);
  fathom::copy(*start, static_cast<base::parameters&>(second.weights()));
  CHECK(second.fit(data).steps == 12);
  CHECK(largest_difference<base>(second.weights(), *once) < 1e-4);
  CHECK(!are_same(second.weights(), first.weights()));
  // Neither over another base, nor with another scale.
  fathom::trainer<lora> elsewhere(interrupted);
  CHECK(fails_with([&] { elsewhere.fit(data); }, "is the checkpoint of another run", "part.base: expected"));
  fathom::trainer<fathom::low_rank<base, 2, 6, "*.attn.*">> scaled(interrupted);
  fathom::copy(*start, static_cast<base::parameters&>(scaled.weights()));
  CHECK(fails_with([&] { scaled.fit(data); }, "is the checkpoint of another run", "part.scale: expected 3.0, found 2.0"));

  // Micro-batches: the gradients of as many passes.
  auto in_parts = options;
  in_parts.steps = 3;
  const auto weights_after = [&](index accumulate, index micro_batches) {
    in_parts.accumulate = accumulate;
    in_parts.micro_batches = micro_batches;
    fathom::trainer<lora> of_parts(in_parts);
    fathom::copy(*start, static_cast<base::parameters&>(of_parts.weights()));
    of_parts.fit(data);
    return fathom::copy(of_parts.weights());
  };
  const auto passes = weights_after(4, 1), micro_batches = weights_after(1, 4), one = weights_after(1, 1);
  CHECK(largest_difference<base>(*passes, *micro_batches) < 1e-4);
  CHECK(largest_difference<base>(*passes, *one) > 1e-3);
}

}  // namespace
