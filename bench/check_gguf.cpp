// Whether llama.cpp computes with the files of save_gguf what fathom computes: small models with random weights, one for each
// family, in each type, and the logits of 100 tokens. See check_gguf.sh.
//
//   check_gguf FOLDER (for the files)
//
// ggml takes GELU from a table in F16 (ggml/src/ggml-cpu/vec.h), and has only its tanh form for gpt_neox. The lines "rounded" are
// GPT-2 and Gemma 3 with that table's GELU here, too.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fathom/data/gguf_bpe.hpp>
#include <fathom/fathom.hpp>
#include <ggml-backend.h>
#include <llama.h>

namespace {

using fathom::config;
constexpr int tokens = 100, vocab = 96;

/// The logits of llama.cpp for every token, [tokens, vocab].
std::vector<float> logits_of(const std::string& file, const std::vector<fathom::token>& text) {
  auto how = llama_model_default_params();
  llama_model* const model = llama_model_load_from_file(file.c_str(), how);
  if (!model) throw std::runtime_error(file + ": llama.cpp cannot load it");
  auto with = llama_context_default_params();
  with.n_ctx = with.n_batch = with.n_ubatch = 128;
  with.n_threads = with.n_threads_batch = 1;
  with.type_k = with.type_v = GGML_TYPE_F32;
  with.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* const context = llama_init_from_model(model, with);
  if (!context) throw std::runtime_error(file + ": llama.cpp makes no context");
  llama_batch batch = llama_batch_init(tokens, 0, 1);
  batch.n_tokens = tokens;
  for (int i = 0; i < tokens; ++i) {
    batch.token[i] = text[static_cast<std::size_t>(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) throw std::runtime_error(file + ": llama_decode failed");
  std::vector<float> all;
  for (int i = 0; i < tokens; ++i) {
    const float* const row = llama_get_logits_ith(context, i);
    all.insert(all.end(), row, row + vocab);
  }
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  return all;
}

/// How far logits of F32 files may be apart.
constexpr double exact = 1e-5, with_table = 1e-3;
bool failed = false;

/// Loads a file into a model, and compares with llama.cpp.
template <class Net>
double difference(const std::filesystem::path& path, const std::vector<fathom::token>& text) {
  const auto weights = fathom::make<typename Net::parameters>();
  fathom::load(path, *weights);
  typename Net::tape tape(1, tokens);
  Net::forward(*weights, {text, {}, 1, tokens}, tape);
  const auto ours = tape.logits();
  const std::vector<float> theirs = logits_of(path.string(), text);
  double largest = 0, off = 0;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(ours[i])));
    off = std::max(off, std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i])));
  }
  return off / largest;
}
std::vector<fathom::token> some_text() {
  std::vector<fathom::token> text;
  for (int i = 0; i < tokens; ++i) text.push_back((i * 7919 + i * i * 31) % vocab);
  return text;
}

template <config C>
void check(const std::filesystem::path& folder, const char* name, double most = exact) {
  using net = fathom::model<C>;
  const auto weights = fathom::make<typename net::parameters>();
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  net::visit(
      [&](std::string_view tensor, fathom::initial, auto& numbers) {
        const bool is_gain = numbers.shape.size() == 1 && tensor.ends_with(".weight") && C.family != fathom::family::gemma3;
        for (float& x : numbers.span()) x = (is_gain ? 1.0f : 0.0f) + 0.15f * normal(random);
      },
      *weights);
  constexpr const char* types[] = {"F32", "BF16", "Q8_0"};
  std::printf("%-10s", name);
  for (const auto type : {fathom::gguf_numbers::f32, fathom::gguf_numbers::bf16, fathom::gguf_numbers::q8_0}) {
    const char* const called = types[static_cast<int>(type)];
    const auto path = folder / fathom::join(name, "-", called, ".gguf");
    fathom::save_gguf(path, *weights, {.type = type, .name = name});
    const double off = difference<net>(path, some_text());
    std::printf("  %s %.1e", called, off);
    failed |= !(off <= (type == fathom::gguf_numbers::f32 ? most : 0.1));
  }
  std::printf("\n");
}

constexpr config of(fathom::family family) {
  return {.vocab = vocab, .context = 128, .width = 64, .depth = 3, .heads = 4, .hidden = 96, .tied = false, .shortcut = {}, .family = family, .kv_heads = 2};
}
constexpr config gpt2 = [] {
  config c{.vocab = vocab, .context = 128, .width = 64, .depth = 3, .heads = 4, .tied = true, .shortcut = {}};
  c.hidden = 96;
  return c;
}();
constexpr config llama3 = [] {
  config c = of(fathom::family::llama);
  c.tied = true;
  c.head_width = 32;
  c.rotary = {.base = 500'000, .scaling = fathom::rotary_scaling::llama3, .factor = 8, .original = 64};
  return c;
}();
constexpr config linear = [] {
  config c = of(fathom::family::llama);
  c.rotary = {.scaling = fathom::rotary_scaling::linear, .factor = 4};
  return c;
}();
constexpr config yarn = [] {
  config c = of(fathom::family::llama);
  c.rotary = {.scaling = fathom::rotary_scaling::yarn, .factor = 4, .original = 32};
  return c;
}();
constexpr config mistral = [] {  // llama.cpp gives its architecture llama no window, so this one is not smaller than the text
  config c = of(fathom::family::mistral);
  c.window = 128;
  return c;
}();
constexpr config qwen3 = [] {
  config c = of(fathom::family::qwen3);
  c.tied = true;
  c.head_width = 32;
  c.inverse_epsilon = 1'000'000;
  return c;
}();
constexpr config gpt_neox = [] {
  config c = of(fathom::family::gpt_neox);
  c.kv_heads = 0;
  c.rotary.width = 4;
  return c;
}();
constexpr config gemma3 = [] {
  config c = of(fathom::family::gemma3);
  c.depth = 7;
  c.tied = true;
  c.head_width = 32;
  c.window = 16;
  c.window_pattern = 3;
  c.rotary = {.base = 1'000'000, .scaling = fathom::rotary_scaling::linear, .factor = 8};
  return c;
}();

/// Whether llama.cpp cuts texts as the tokenizer does that wrote the file's vocabulary.
void check_tokenizer(const std::filesystem::path& folder, const char* name) {
  const std::filesystem::path golden = std::filesystem::path(FATHOM_GOLDEN) / "tokenizers";
  const fathom::data::bpe tokenizer(golden / name);
  config c = of(fathom::family::llama);
  c.vocab = static_cast<int>(tokenizer.size());
  fathom::io::gguf_metadata metadata = fathom::io::metadata_of(c, {});
  for (auto& entry : fathom::data::gguf_metadata_of(tokenizer)) metadata.push_back(std::move(entry));
  const auto path = folder / fathom::join(name, ".gguf");
  fathom::io::write_gguf(path, metadata, {});
  auto how = llama_model_default_params();
  how.vocab_only = true;
  llama_model* const model = llama_model_load_from_file(path.c_str(), how);
  if (!model) throw std::runtime_error(path.string() + ": llama.cpp cannot load it");
  const llama_vocab* const vocabulary = llama_model_get_vocab(model);
  std::ifstream file(golden / "expected.txt");
  int count = 0, same = 0;
  for (std::string line; std::getline(file, line);) {
    const std::size_t at = line.find(':');
    if (at == line.npos) continue;
    std::string text;  // in hexadecimal
    for (std::size_t i = at + 1; i + 1 < line.size() && line[i] != ':'; i += 2) text += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    std::vector<llama_token> theirs(text.size() + 8);
    const int found = llama_tokenize(vocabulary, text.data(), static_cast<int>(text.size()), theirs.data(), static_cast<int>(theirs.size()), false, false);
    theirs.resize(static_cast<std::size_t>(std::max(found, 0)));
    ++count;
    same += theirs == std::vector<llama_token>(tokenizer.encode(text)) ? 1 : 0;
  }
  llama_model_free(model);
  std::printf("%-10s  %d of %d texts have the same tokens\n", name, same, count);
}

}  // namespace

// ---- With GELU as ggml rounds it ------------------------------------------------------------------------------------------

namespace fathom {
namespace {

/// For the reference backend, whose vectors are numbers.
struct ggml_gelu {
  template <class V>
  struct at {
    V value, derivative{};
    explicit at(const V& x) {
      const V rounded = static_cast<float>(fathom::to_f16(x));
      value = x <= -10 ? 0 : x >= 10 ? x : static_cast<float>(fathom::to_f16(fathom::gelu_tanh::at<V>(rounded).value));
    }
  };
};
struct rounded_gpt2 : architecture<sizes<vocab, 128, 64>, embed<tokens, learned_positions>,
                                   body<repeat<3, block<pre<"attn", layer_norm<>, attention<4>>, pre<"mlp", layer_norm<>, mlp<96, ggml_gelu>>>>>,
                                   head<layer_norm<>, tied>> {
  static constexpr config configuration = ::gpt2;
};
using gemma_norm = rms_norm<epsilon<1, 100'000>, 1>;
template <class... Options>
using gemma_block = block<sandwich<"attn", gemma_norm, attention<4, kv_heads<2>, head_width<32>, no_bias, head_norms<gemma_norm>, Options...>, gemma_norm>,
                          sandwich<"mlp", gemma_norm, gated_mlp<96, ggml_gelu>, gemma_norm>>;
using local = gemma_block<rotary<10'000>, window<16>>;
using global = gemma_block<rotary<1'000'000, linear_scaling<std::ratio<8>>>>;
struct rounded_gemma3 : architecture<sizes<vocab, 128, 64>, embed<scaled_tokens>, cycle<7, local, local, global>, head<gemma_norm, tied>> {
  static constexpr config family_configuration = ::gemma3;
};
template <class Architecture>
void check_rounded(const std::filesystem::path& folder, const char* name) {
  const double off = difference<transformer<Architecture, backend::reference<float>>>(folder / join(name, "-F32.gguf"), some_text());
  std::printf("%-10s  F32 %.1e, rounded\n", name, off);
  failed |= !(off <= with_table);
}

}  // namespace
}  // namespace fathom

int main(int argc, char** argv) try {
  if (argc != 2) return std::fputs("usage: check_gguf FOLDER\n", stderr), 2;
  llama_log_set([](ggml_log_level level, const char* text, void*) { if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr); }, nullptr);
  llama_backend_init();
  if (ggml_backend_reg_t blas = ggml_backend_reg_by_name("BLAS")) ggml_backend_unload(blas);
  const std::filesystem::path folder = argv[1];
  check<gpt2>(folder, "gpt2", with_table);
  check<of(fathom::family::llama)>(folder, "llama");
  check<llama3>(folder, "llama3");
  check<linear>(folder, "linear");
  check<yarn>(folder, "yarn");
  check<mistral>(folder, "mistral");
  check<of(fathom::family::qwen2)>(folder, "qwen2");
  check<qwen3>(folder, "qwen3");
  check<gemma3>(folder, "gemma3", with_table);
  check<gpt_neox>(folder, "gpt_neox", with_table);
  check<of(fathom::family::olmo2)>(folder, "olmo2");
  fathom::check_rounded<fathom::rounded_gpt2>(folder, "gpt2");
  fathom::check_rounded<fathom::rounded_gemma3>(folder, "gemma3");
  for (const char* name : {"llama3", "smollm2", "qwen2", "llama2", "gemma"}) check_tokenizer(folder, name);
  return failed ? 1 : 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
