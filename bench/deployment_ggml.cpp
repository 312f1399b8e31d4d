// Decodes greedily from a prompt of bytes, one byte for each token, with two threads, using llama.cpp
// with its defaults (a mapped file, flash attention if possible, a cache in F16, one token at a time).
// compare_deployment.py runs it.
//
//   deployment_ggml FILE.gguf PROMPT COUNT [CONTEXT]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <vector>

#include <llama.h>

int main(int argc, char** argv) try {
  if (argc != 4 && argc != 5) return std::fputs("usage: deployment_ggml FILE.gguf PROMPT COUNT [CONTEXT]\n", stderr), 2;
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) throw std::runtime_error("no model");
  auto with = llama_context_default_params();
  with.n_ctx = argc == 5 ? static_cast<std::uint32_t>(std::atoi(argv[4])) : 0;  // 0: the model's
  with.n_threads = with.n_threads_batch = 2;
  llama_context* context = llama_init_from_model(model, with);
  if (!context) throw std::runtime_error("no context");

  std::vector<llama_token> tokens;
  for (const char byte : std::string_view(argv[2])) tokens.push_back(static_cast<unsigned char>(byte));
  for (int count = std::atoi(argv[3]); count > 0; --count) {
    if (llama_decode(context, llama_batch_get_one(tokens.data(), static_cast<int>(tokens.size()))) != 0)
      throw std::runtime_error("llama_decode failed");
    const float* logits = llama_get_logits_ith(context, -1);
    const auto next = std::max_element(logits, logits + llama_vocab_n_tokens(llama_model_get_vocab(model))) - logits;
    std::putchar(static_cast<int>(next));
    std::fflush(stdout);
    tokens = {static_cast<llama_token>(next)};
  }
  llama_free(context);
  llama_model_free(model);
} catch (const std::exception& e) {
  std::fprintf(stderr, "deployment_ggml: %s\n", e.what());
  return 1;
}
