// Single steps of a model in llama.cpp on demand: the counterpart of steps.cpp, with the same commands and answers.
//
//   ggml_steps FILE.gguf CONTEXT THREADS f16|bf16|f32 (the cache) FLASH (0, 1) BATCH (most tokens at once) BLAS (0, 1) SEQUENCES UNIFIED (0, 1)
//
// Then, line by line on the standard input: decode FROM N; prefill N; prompt TOKENS N; together SEQUENCES FROM N; logits PROMPT.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <ggml-backend.h>
#include <llama.h>

namespace {

struct steps {
  llama_model* model;
  llama_context* context;
  int size;  // most tokens of a sequence
  int vocab;

  llama_token text(int i) const { return static_cast<llama_token>(static_cast<long>(i) * 7919 % vocab); }

  /// The logits after `count` further tokens of the text.
  const float* read(int from, int count) const {
    std::vector<llama_token> tokens;
    for (int i = from; i < from + count; ++i) tokens.push_back(text(i));
    if (llama_decode(context, llama_batch_get_one(tokens.data(), count)) != 0) throw std::runtime_error("llama_decode failed");
    return llama_get_logits_ith(context, -1);
  }
  const float* read_prompt(int count) const {
    llama_memory_clear(llama_get_memory(context), false);
    return read(0, count);
  }
  /// One token of each sequence at the same position.
  void read_together(llama_batch& batch, int sequences, int position) const {
    batch.n_tokens = sequences;
    for (int s = 0; s < sequences; ++s) {
      batch.token[s] = text(position + s);
      batch.pos[s] = position;
      batch.n_seq_id[s] = 1;
      batch.seq_id[s][0] = s;
      batch.logits[s] = 1;
    }
    if (llama_decode(context, batch) != 0) throw std::runtime_error("llama_decode failed");
    for (int s = 0; s < sequences; ++s) llama_get_logits_ith(context, s);
  }
  void read_prompt_of(int sequence, int count) const {
    llama_batch batch = llama_batch_init(count, 0, 1);
    batch.n_tokens = count;
    for (int i = 0; i < count; ++i) {
      batch.token[i] = text(sequence + i);
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = sequence;
      batch.logits[i] = i + 1 == count;
    }
    if (llama_decode(context, batch) != 0) throw std::runtime_error("llama_decode failed");
    llama_batch_free(batch);
  }
  template <class F>
  static void print_seconds(const F& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() << ' ';
  }
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 10) return std::fputs("usage: see the top of bench/compare_ggml.cpp\n", stderr), 2;
  const auto log = [](ggml_log_level level, const char* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
  };
  llama_log_set(log, nullptr);
  llama_backend_init();
  if (!std::atoi(argv[7]))
    if (ggml_backend_reg_t blas = ggml_backend_reg_by_name("BLAS")) ggml_backend_unload(blas);
  auto how = llama_model_default_params();
  how.load_mode = LLAMA_LOAD_MODE_NONE;  // into its own memory, so that repacking and huge pages are possible
  steps s{llama_model_load_from_file(argv[1], how), nullptr, std::atoi(argv[2]), 0};
  if (!s.model) throw std::runtime_error("no model");
  s.vocab = llama_vocab_n_tokens(llama_model_get_vocab(s.model));
  auto with = llama_context_default_params();
  const std::string cache = argv[4];
  const auto sequences = static_cast<unsigned>(std::atoi(argv[8]));
  with.n_ctx = static_cast<unsigned>(s.size) * sequences;
  with.n_seq_max = sequences;
  with.kv_unified = std::atoi(argv[9]) != 0;
  with.n_batch = static_cast<unsigned>(s.size);
  with.n_ubatch = static_cast<unsigned>(std::atoi(argv[6]));
  with.n_outputs_max = sequences;
  with.n_threads = with.n_threads_batch = std::atoi(argv[3]);
  with.type_k = with.type_v = cache == "f32" ? GGML_TYPE_F32 : cache == "bf16" ? GGML_TYPE_BF16 : GGML_TYPE_F16;
  with.flash_attn_type = std::atoi(argv[5]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  with.no_perf = true;
  s.context = llama_init_from_model(s.model, with);
  if (!s.context) throw std::runtime_error("no context");

  std::cout.precision(9);
  std::cout << "{\"weight_bytes\": " << llama_model_size(s.model) << "}" << std::endl;
  int n = 0, count = 0, held = 0;
  const std::map<std::string, std::function<void()>> commands{
      {"decode", [&] {
         std::cin >> n >> count;
         if (held < n) s.read_prompt(n);
         llama_memory_seq_rm(llama_get_memory(s.context), 0, n, -1);
         for (int i = 0; i < count; ++i) steps::print_seconds([&] { s.read(n + i, 1); });
         held = n + count;
       }},
      {"prefill", [&] {
         std::cin >> count;
         for (int i = 0; i < count; ++i) steps::print_seconds([&] { s.read_prompt(s.size); });
         held = s.size;
       }},
      {"prompt", [&] {
         std::cin >> n >> count;
         for (int i = 0; i < count; ++i) steps::print_seconds([&] { s.read_prompt(n); });
         held = n;
       }},
      {"together", [&] {
         int sequences_now = 0;
         std::cin >> sequences_now >> n >> count;
         llama_memory_clear(llama_get_memory(s.context), false);
         for (int i = 0; i < sequences_now; ++i) s.read_prompt_of(i, n);
         llama_batch batch = llama_batch_init(sequences_now, 0, 1);
         for (int i = 0; i < count; ++i) steps::print_seconds([&] { s.read_together(batch, sequences_now, n + i); });
         llama_batch_free(batch);
         held = 0;
       }},
      {"logits", [&] {
         std::cin >> n;
         const float* logits = s.read_prompt(n);
         for (int i = n; i < s.size; ++i) logits = s.read(i, 1);
         for (int i = 0; i < s.vocab; ++i) std::cout << logits[i] << ' ';
         held = s.size;
       }}};
  for (std::string command; std::cin >> command; std::cout << std::endl) commands.at(command)();
  llama_free(s.context);
  llama_model_free(s.model);
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s: %s\n", argv[1], e.what());
  return 1;
}
