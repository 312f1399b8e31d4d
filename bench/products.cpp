// Prints a Markdown table of the three models' matrix products in fathom, Eigen, OpenBLAS, oneDNN and libxsmm.
//
//   bench_products [--bf16] [--models tiny small medium] [--rows 64 512 2048] [--rounds 7] [--threads 2] [--filter dW]
//
// Every round measures an FMA burst and each library once, starting with a different library each time. Peers are used
// as their users would: weights are converted to the library's own format beforehand if it has one
// (oneDNN; libxsmm, with block sizes tuned for each shape). Before timing, some elements of every result are checked.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cblas.h>
#include <libxsmm.h>
#include <Eigen/Core>
#include <fathom/backend/cpu.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <oneapi/dnnl/dnnl.hpp>

#include "burst.hpp"
#include "models.hpp"

namespace {

using fathom::bf16;
using fathom::index;
using fathom::matrix;
using seconds = std::chrono::duration<double>;

int threads = 2;

// ---- Problems
// --------------------------------------------------------------------------------------------------

enum class kind {
  nn,  // c [m, n] = a [m, k] b [k, n]      forward, x W
  nt,  // c [m, n] = a [m, k] b [n, k]^T    backward to the input, dY W^T; logits
  tn   // c [m, n] += a [k, m]^T b [k, n]   backward to the weights, dW += X^T dY
};

struct shape {
  kind op;
  index m, n, k;
  [[nodiscard]] double flops() const { return 2.0 * static_cast<double>(m * n * k); }
};

/// Numbers on their own pages.
class numbers {
 public:
  numbers(index rows, index columns, std::uint64_t seed)
      : memory_(static_cast<std::size_t>(rows * columns) * sizeof(float)),
        view(reinterpret_cast<float*>(memory_.bytes().data()), rows, columns) {
    if (seed == 0) return;
    fathom::random draw(seed, 0);
    for (index i = 0; i < rows * columns; ++i) view.data[i] = static_cast<float>(2 * draw.uniform() - 1);
  }

 private:
  fathom::buffer memory_;

 public:
  matrix<float> view;
};

struct problem {
  shape s;
  numbers a, b, c;
  explicit problem(const shape& of)
      : s(of),
        a(of.op == kind::tn ? of.k : of.m, of.op == kind::tn ? of.m : of.k, 1),
        b(of.op == kind::nt ? of.n : of.k, of.op == kind::nt ? of.k : of.n, 2),
        c(of.m, of.n, 0) {}

  [[nodiscard]] float left(index i, index k) const { return s.op == kind::tn ? a.view(k, i) : a.view(i, k); }
  [[nodiscard]] float right(index k, index j) const { return s.op == kind::nt ? b.view(j, k) : b.view(k, j); }
};

float rounded(float x) { return static_cast<float>(bf16(x)); }

/// The largest error among some hundred elements of c, in units of the permitted rounding error.
double error_of(const problem& p, bool in_bf16) {
  double worst = 0;
  fathom::random draw(3, 0);
  const auto any_below = [&](index n) {
    return std::min<index>(n - 1, static_cast<index>(draw.uniform() * static_cast<double>(n)));
  };
  for (int sample = 0; sample < 400; ++sample) {
    const index i = sample < 4 ? (sample & 1 ? p.s.m - 1 : 0) : any_below(p.s.m),
                j = sample < 4 ? (sample & 2 ? p.s.n - 1 : 0) : any_below(p.s.n);
    double sum = 0;
    for (index k = 0; k < p.s.k; ++k) {
      const float l = p.left(i, k), r = p.right(k, j);
      sum += in_bf16 ? static_cast<double>(rounded(l)) * rounded(r) : static_cast<double>(l) * r;
    }
    worst = std::max(worst, std::abs(sum - static_cast<double>(p.c.view(i, j))) /
                                (1e-6 * std::sqrt(static_cast<double>(p.s.k)) + 1e-6));
  }
  return worst;
}

// ---- Libraries
// ---------------------------------------------------------------------------------------------------

struct contestant {
  std::string name;
  std::function<void()> run;
  std::string note = {};  // the implementation that the library reports
};

template <class Compute>
contestant fathom_product(problem& p) {
  return {"fathom", [&p] {
            typename fathom::backend::cpu<Compute>::executor{threads}.run([&](const auto& on) {
              const matrix<const float> a = p.a.view, b = p.b.view;
              if (p.s.op == kind::nn) matmul(on, a, b, p.c.view, fathom::epilogue::none{});
              if (p.s.op == kind::nt) matmul_nt(on, a, b, p.c.view, fathom::epilogue::none{});
              if (p.s.op == kind::tn) matmul_tn(on, a, b, p.c.view);
            });
          }};
}

contestant eigen_product(problem& p) {
  using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return {"Eigen", [&p] {
            const auto map = [](const matrix<float>& m) { return Eigen::Map<rows>(m.data, m.rows, m.columns); };
            auto c = map(p.c.view);
            if (p.s.op == kind::nn) c.noalias() = map(p.a.view) * map(p.b.view);
            if (p.s.op == kind::nt) c.noalias() = map(p.a.view) * map(p.b.view).transpose();
            if (p.s.op == kind::tn) c.noalias() += map(p.a.view).transpose() * map(p.b.view);
          }};
}

/// Runs OpenBLAS on OpenMP's threads, like all others: its own threads would keep spinning next to them.
void on_openmp(int, openblas_dojob_callback job, int jobs, std::size_t size, void* data, int argument) {
#pragma omp parallel for num_threads(jobs) schedule(static, 1)
  for (int i = 0; i < jobs; ++i) job(i, static_cast<char*>(data) + static_cast<std::size_t>(i) * size, argument);
}

contestant openblas_product(problem& p) {
  return {"OpenBLAS", [&p] {
            const auto size = [](index n) { return static_cast<blasint>(n); };
            scipy_cblas_sgemm(CblasRowMajor, p.s.op == kind::tn ? CblasTrans : CblasNoTrans,
                              p.s.op == kind::nt ? CblasTrans : CblasNoTrans, size(p.s.m), size(p.s.n), size(p.s.k),
                              1.f, p.a.view.data, size(p.a.view.stride), p.b.view.data, size(p.b.view.stride),
                              p.s.op == kind::tn ? 1.f : 0.f, p.c.view.data, size(p.c.view.stride));
          }};
}

/// oneDNN's matmul primitive. Weights are in its preferred format; activations (both operands of dW) keep their layout.
contestant onednn_product(problem& p, bool in_bf16) {
  using namespace dnnl;
  using tag = memory::format_tag;
  static engine cpu(engine::kind::cpu, 0);
  static stream queue(cpu);
  const auto type = in_bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const shape s = p.s;
  const tag a_tag = s.op == kind::tn ? tag::ba : tag::ab, b_tag = s.op == kind::nt ? tag::ba : tag::ab;
  const auto held = [&](const memory::desc& plain, float* data) {  // as `type`, in the same order
    memory from(plain, cpu, data);
    if (!in_bf16) return from;
    memory to({plain.get_dims(), type, plain.get_strides()}, cpu);
    reorder(from, to).execute(queue, from, to);
    queue.wait();
    return to;
  };
  const memory a = held({{s.m, s.k}, memory::data_type::f32, a_tag}, p.a.view.data);
  memory b = held({{s.k, s.n}, memory::data_type::f32, b_tag}, p.b.view.data);
  const memory c({{s.m, s.n}, memory::data_type::f32, tag::ab}, cpu, p.c.view.data);
  primitive_attr attributes;
  if (s.op == kind::tn) {
    post_ops sum;
    sum.append_sum(1.f);
    attributes.set_post_ops(sum);
  }
  const memory::desc wanted = s.op == kind::tn ? b.get_desc() : memory::desc({s.k, s.n}, type, tag::any);
  const matmul::primitive_desc description(cpu, a.get_desc(), wanted, c.get_desc(), attributes);
  if (description.weights_desc() != b.get_desc()) {
    memory packed(description.weights_desc(), cpu);
    reorder(b, packed).execute(queue, b, packed);
    queue.wait();
    b = packed;
  }
  return {"oneDNN",
          [product = matmul(description),
           arguments = std::unordered_map<int, memory>{{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}}] {
            product.execute(queue, arguments);
            queue.wait();
          },
          description.impl_info_str()};
}

/// libxsmm: a batch-reduce kernel for each block of c; threads share the blocks; weights are packed as
/// [n / block_n][k / block_k][block_k][block_n].
class libxsmm_blocks {
 public:
  libxsmm_blocks(problem& p, index block_m, index block_n, index block_k)
      : p_(&p), bm_(block_m), bn_(block_n), bk_(block_k), weights_(p.s.n, p.s.k, 0) {
    const shape& s = p.s;
    float* to = weights_.view.data;
    for (index j = 0; j < s.n; j += bn_)
      for (index k = 0; k < s.k; ++k)
        for (index c = j; c < std::min(s.n, j + bn_); ++c) *to++ = p.right(k, c);
    for (int edge_m = 0; edge_m < 2; ++edge_m)
      for (int edge_n = 0; edge_n < 2; ++edge_n) {
        const index rows = edge_m ? s.m % bm_ : bm_, columns = edge_n ? s.n % bn_ : bn_;
        if (rows == 0 || columns == 0) continue;
        // In its column-major terms: c^T [columns, rows] = sum of w^T [columns, bk] x^T [bk, rows]
        const auto m = static_cast<libxsmm_blasint>(columns), n = static_cast<libxsmm_blasint>(rows),
                   k = static_cast<libxsmm_blasint>(bk_), ldb = static_cast<libxsmm_blasint>(s.k),
                   ldc = static_cast<libxsmm_blasint>(s.n);
        const float one = 1, zero = 0;
        kernels_[edge_m][edge_n] = libxsmm_smmdispatch_reducebatch_strd(
            m, n, k, m * k * static_cast<libxsmm_blasint>(sizeof(float)),
            k * static_cast<libxsmm_blasint>(sizeof(float)), &m, &ldb, &ldc, &one, &zero, nullptr, nullptr);
        if (!kernels_[edge_m][edge_n]) std::exit((std::fprintf(stderr, "libxsmm has no kernel for this machine\n"), 1));
      }
  }
  void run() const {
    const shape& s = p_->s;
    const index blocks_m = (s.m + bm_ - 1) / bm_, blocks_n = (s.n + bn_ - 1) / bn_;
    const unsigned long long count = static_cast<unsigned long long>(s.k / bk_);
#pragma omp parallel for num_threads(threads) collapse(2) schedule(static)
    for (index bn = 0; bn < blocks_n; ++bn)
      for (index bm = 0; bm < blocks_m; ++bm) {
        const index i = bm * bm_, j = bn * bn_;
        kernels_[i + bm_ > s.m][j + bn_ > s.n](weights_.view.data + j * s.k, p_->a.view.row(i), p_->c.view.row(i) + j,
                                               &count);
      }
  }

 private:
  problem* p_;
  index bm_, bn_, bk_;
  numbers weights_;
  libxsmm_smmfunction_reducebatch_strd kernels_[2][2] = {};
};

contestant libxsmm_product(problem& p) {
  std::shared_ptr<libxsmm_blocks> best;
  std::string note;
  double best_time = INFINITY;
  for (const index bn : {32, 48, 64})
    for (const index bm : {24, 32, 64})
      for (const index bk : {64, 128, 256}) {
        if (p.s.k % bk != 0 || (p.s.n > 10000 && bk != 128)) continue;
        const auto blocks = std::make_shared<libxsmm_blocks>(p, bm, bn, bk);
        blocks->run();
        double time = INFINITY;
        for (int attempt = 0; attempt < 5; ++attempt) {
          const auto start = std::chrono::steady_clock::now();
          blocks->run();
          time = std::min(time, seconds(std::chrono::steady_clock::now() - start).count());
        }
        if (time < best_time)
          best_time = time, best = blocks,
          note = std::to_string(bm) + "x" + std::to_string(bn) + "x" + std::to_string(bk);
      }
  return {"libxsmm", [best] { best->run(); }, note};
}

// ---- Measuring
// ---------------------------------------------------------------------------------------------------------

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n == 0 ? NAN : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// FLOP/s over calls that together take at least five milliseconds.
double speed_of(const contestant& who, double flops, double at_least = 5e-3) {
  who.run();
  const auto start = std::chrono::steady_clock::now();
  int calls = 0;
  double time = 0;
  do {
    who.run();
    ++calls;
    time = seconds(std::chrono::steady_clock::now() - start).count();
  } while (time < at_least);
  return flops * calls / time;
}

struct options {
  bool in_bf16 = false;
  std::vector<std::string> models{"tiny", "small", "medium"};
  std::vector<index> rows{64, 512, 2048};
  std::string filter;
  int rounds = 7;
};

struct summary {
  std::vector<double> over_peer, of_burst_large;
  double fastest_peer = 0, fastest_burst = 0;  // of all rounds of all products: disturbances only make a round slower
};

/// One row of the table.
void measure(const options& o, const std::string& model, const std::string& name, const shape& s, summary& all) {
  problem p(s);
  std::vector<contestant> field;
  if (o.in_bf16) {
    field.push_back(onednn_product(p, true));
    field.push_back(fathom_product<bf16>(p));
  } else {
    field.push_back(eigen_product(p));
    field.push_back(openblas_product(p));
    field.push_back(onednn_product(p, false));
    if (s.op != kind::tn && s.k % 64 == 0) field.push_back(libxsmm_product(p));  // its blocks divide the depth
    field.push_back(fathom_product<float>(p));
  }
  for (const contestant& who : field) {
    std::fill_n(p.c.view.data, s.m * s.n, 0.f);
    who.run();
    const double error = error_of(p, o.in_bf16);
    if (!(error < 20))
      std::exit(
          (std::fprintf(stderr, "%s computes something else at %s: error %g\n", who.name.c_str(), name.c_str(), error),
           1));
  }

  std::vector<double> bursts;
  std::vector<std::vector<double>> speeds(field.size());
  for (int round = 0; round < o.rounds; ++round) {
    bursts.push_back(fma_burst(2));
    for (std::size_t turn = 0; turn < field.size(); ++turn) {
      const std::size_t i = (turn + static_cast<std::size_t>(round)) % field.size();
      speeds[i].push_back(speed_of(field[i], s.flops()));
    }
  }

  const std::size_t ours = field.size() - 1;
  std::size_t best = 0;
  for (std::size_t i = 0; i < ours; ++i)
    if (median(speeds[i]) > median(speeds[best])) best = i;
  std::vector<double> over_peer, of_burst;
  for (std::size_t r = 0; r < bursts.size(); ++r) {
    over_peer.push_back(speeds[ours][r] / speeds[best][r]);
    of_burst.push_back(speeds[ours][r] / bursts[r]);
  }
  std::printf("| %s %s %td,%td,%td | %.0f |", model.c_str(), name.c_str(), s.m, s.k, s.n, median(bursts) / 1e9);
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (i == ours && field.size() == 4) std::printf(" |");  // no libxsmm here
    std::printf(" %.0f (%.0f)", median(speeds[i]) / 1e9, *std::ranges::max_element(speeds[i]) / 1e9);
    if (!field[i].note.empty() && std::getenv("FATHOM_BENCH_NOTES")) std::printf(" %s", field[i].note.c_str());
    std::printf(" |");
  }
  std::printf(" %s | %.2f | %.2f |\n", field[best].name.c_str(), median(over_peer), median(of_burst));
  std::fflush(stdout);
  all.over_peer.push_back(median(over_peer));
  all.fastest_peer = std::max(all.fastest_peer, std::ranges::max(speeds[best]));
  all.fastest_burst = std::max(all.fastest_burst, std::ranges::max(bursts));
  if (std::min({s.m, s.n, s.k}) >= 256) all.of_burst_large.push_back(median(of_burst));
}

/// All products of a layer: forward, gradient of the input, gradient of the weights.
void measure_model(const options& o, const std::string& model, const fathom::config& c, summary& all) {
  const index E = c.width;
  const std::vector<std::tuple<std::string, index, index>> weights{
      {"qkv", E, 3 * E}, {"projection", E, E}, {"up", E, 4 * E}, {"down", 4 * E, E}};
  const auto row = [&](const std::string& name, const shape& s) {
    if (name.find(o.filter) != std::string::npos) measure(o, model, name, s, all);
  };
  for (const index m : o.rows) {
    if (model == "medium" && m > 512) continue;
    for (const auto& [name, k, n] : weights) {
      row(name + " xW", {kind::nn, m, n, k});
      row(name + " dX", {kind::nt, m, k, n});
      row(name + " dW", {kind::tn, k, n, m});
    }
    // The head is the embedding table, [V, E].
    row("head xW", {kind::nt, m, c.vocab, E});
    row("head dX", {kind::nn, m, E, c.vocab});
    row("head dW", {kind::tn, c.vocab, E, m});
  }
}

options read(std::span<char*> arguments) {
  options o;
  std::string now;
  bool first = false;
  for (const char* argument : arguments) {
    const std::string word = argument;
    if (word.starts_with("--")) {
      now = word;
      first = true;
      if (now == "--bf16") o.in_bf16 = true;
      continue;
    }
    if (now == "--models") {
      if (first) o.models.clear();
      o.models.push_back(word);
    } else if (now == "--rows") {
      if (first) o.rows.clear();
      o.rows.push_back(std::stol(word));
    } else if (now == "--rounds") {
      o.rounds = std::stoi(word);
    } else if (now == "--threads") {
      threads = std::stoi(word);
    } else if (now == "--filter") {
      o.filter = word;
    } else {
      std::exit((std::fprintf(stderr, "bench_products: unknown option %s\n", word.c_str()), 2));
    }
    first = false;
  }
  return o;
}

const char* name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "AVX-512 VNNI";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 BF16";
    case dnnl::cpu_isa::avx512_core_fp16:
      return "AVX-512 FP16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "AMX";
    default:
      return "another instruction set";
  }
}

}  // namespace

int main(int count, char** values) {
  const options o = read({values + 1, static_cast<std::size_t>(count - 1)});
  omp_set_num_threads(threads);
  Eigen::setNbThreads(threads);
  scipy_openblas_set_num_threads(threads);
  scipy_openblas_set_threads_callback_function(on_openmp);
  libxsmm_init();
  const dnnl_version_t* onednn = dnnl_version();
  std::printf("%d threads, %d rounds; median (best) GFLOP/s. oneDNN %d.%d.%d on %s", threads, o.rounds, onednn->major,
              onednn->minor, onednn->patch, name_of(dnnl::get_effective_cpu_isa()));
  if (!o.in_bf16)
    std::printf("; Eigen %d.%d.%d; %s; libxsmm " LIBXSMM_VERSION " on %s", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION,
                EIGEN_MINOR_VERSION, scipy_openblas_get_config(), libxsmm_get_target_arch());
  std::printf("\n\n");
  if (o.in_bf16)
    std::printf(
        "| product M,K,N | burst | oneDNN | fathom | best peer | fathom / best peer | fathom / burst |\n| --- | --- | "
        "--- | --- | --- | --- | --- |\n");
  else
    std::printf(
        "| product M,K,N | burst | Eigen | OpenBLAS | oneDNN | libxsmm | fathom | best peer | fathom / best peer | "
        "fathom / burst |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");

  summary all;
  for (const std::string& model : o.models)
    measure_model(o, model, model == "tiny" ? bench::tiny : model == "small" ? bench::small : bench::medium, all);

  if (all.over_peer.empty()) return 0;
  double logs = 0;
  for (const double ratio : all.over_peer) logs += std::log(ratio);
  const auto at_least = [](const std::vector<double>& v, double bound) {
    return std::ranges::count_if(v, [=](double x) { return x >= bound; });
  };
  std::printf(
      "\nfathom / best peer: geometric mean %.2f, least %.2f; at least 1.1 at %td of %zu, at least 1.0 at %td\n",
      std::exp(logs / static_cast<double>(all.over_peer.size())), *std::ranges::min_element(all.over_peer),
      at_least(all.over_peer, 1.095), all.over_peer.size(), at_least(all.over_peer, 0.995));
  if (!all.of_burst_large.empty())
    std::printf("fathom / burst, M, K, N >= 256: median %.2f, least %.2f; at least 0.80 at %td of %zu\n",
                median(all.of_burst_large), *std::ranges::min_element(all.of_burst_large),
                at_least(all.of_burst_large, 0.795), all.of_burst_large.size());
  const double peer_of_burst = all.fastest_peer / all.fastest_burst;
  std::printf("the fastest round of a peer / of the burst: %.2f\n", peer_of_burst);
  if (!o.in_bf16 && peer_of_burst > 1.05) {
    std::fprintf(stderr, "bench_products: a peer is faster than the burst, which must be wrong (burst.hpp)\n");
    return 1;
  }
}
