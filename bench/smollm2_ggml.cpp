// The loss of a GGUF model in llama.cpp, to compare with smollm2.cpp: mean NLL of all tokens but the first, in windows of 512 tokens
// that do not overlap. See smollm2.sh.
//
//   smollm2_ggml MODEL TOKENS [f16]      TOKENS: int32 of this machine; f16: keys and values so, else in float
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include <llama.h>

int main(int count, char** arguments) {
  if (count < 3) return std::fputs("smollm2_ggml MODEL TOKENS [f16]\n", stderr), 2;
  std::ifstream file(arguments[2], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<std::int32_t> tokens(bytes.size() / 4);
  if (tokens.size() < 2) return std::fprintf(stderr, "%s: expected at least 2 tokens\n", arguments[2]), 1;
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * 4);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model* const model = llama_model_load_from_file(arguments[1], llama_model_default_params());
  if (!model) return std::fprintf(stderr, "%s: llama.cpp cannot load it\n", arguments[1]), 1;
  constexpr int window = 512;
  auto with = llama_context_default_params();
  with.n_ctx = with.n_batch = with.n_ubatch = window;
  with.n_threads = with.n_threads_batch = 2;
  with.type_k = with.type_v = count > 3 ? GGML_TYPE_F16 : GGML_TYPE_F32;
  with.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* const context = llama_init_from_model(model, with);
  if (!context) return std::fputs("llama.cpp makes no context\n", stderr), 1;
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  llama_batch batch = llama_batch_init(window, 0, 1);
  double total = 0;
  for (std::size_t begin = 0; begin + 1 < tokens.size(); begin += window) {
    const int length = static_cast<int>(std::min<std::size_t>(window, tokens.size() - 1 - begin));
    batch.n_tokens = length;
    for (int i = 0; i < length; ++i) {
      batch.token[i] = tokens[begin + static_cast<std::size_t>(i)];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    llama_memory_clear(llama_get_memory(context), true);
    if (llama_decode(context, batch) != 0) return std::fputs("llama_decode failed\n", stderr), 1;
    for (int i = 0; i < length; ++i) {
      const float* const logits = llama_get_logits_ith(context, i);
      const double largest = static_cast<double>(*std::max_element(logits, logits + vocab));
      double sum = 0;
      for (int v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v]) - largest);
      total += std::log(sum) + largest - static_cast<double>(logits[tokens[begin + static_cast<std::size_t>(i) + 1]]);
    }
  }
  std::printf("%.6f\n", total / static_cast<double>(tokens.size() - 1));
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
}
