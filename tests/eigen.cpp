// Views between the library's matrices and Eigen's, and products by Eigen and the library.
#include <Eigen/Core>
#include <fathom/backend/cpu.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/eigen.hpp>

#include "catch.hpp"

namespace fathom::test {

using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST_CASE("a matrix of the library is a matrix of Eigen's over the same numbers", "[eigen]") {
  float numbers[12];
  for (int i = 0; i < 12; ++i) numbers[i] = static_cast<float>(i);
  const matrix<float> m(numbers, 3, 2, 4);  // two columns of four
  CHECK(as_eigen(m)(2, 1) == 9);
  as_eigen(m)(1, 0) = 100;
  CHECK(numbers[4] == 100);
  CHECK(numbers[6] == 6);
  CHECK(as_eigen(matrix<const float>(m)).sum() == 0 + 1 + 100 + 5 + 8 + 9);

  auto table = make<tensor<float, 2, 3>>();
  auto gain = make<tensor<float, 5>>();
  as_eigen(*table).setConstant(2);
  as_eigen(*gain)(0, 4) = 7;
  CHECK(table->view()(1, 2) == 2);
  CHECK(gain->data()[4] == 7);
  CHECK(as_eigen(*gain).cols() == 5);
}

TEST_CASE("a matrix of Eigen's is a matrix of the library over the same numbers", "[eigen]") {
  rows x(3, 4);
  for (int i = 0; i < 12; ++i) x(i / 4, i % 4) = static_cast<float>(i);
  const matrix<float> whole = as_matrix(x);
  CHECK((whole.rows == 3 && whole.columns == 4 && whole.stride == 4));
  CHECK(whole(2, 3) == 11);
  auto block = x.block(1, 1, 2, 2);
  const matrix<float> part = as_matrix(block);
  CHECK((part.rows == 2 && part.columns == 2 && part.stride == 4));
  part(1, 1) = -1;
  CHECK(x(2, 2) == -1);
  const rows& same = x;
  CHECK(as_matrix(same)(1, 1) == 5);
  Eigen::VectorXf column = Eigen::VectorXf::Constant(4, 3);
  const matrix<float> vector = as_matrix(column);
  CHECK((vector.rows == 4 && vector.columns == 1 && vector(3, 0) == 3));
}

TEST_CASE("products and sums are those of Eigen", "[eigen]") {
  random numbers(1, 0);
  const auto filled = [&](index r, index c) {
    rows m(r, c);
    for (index i = 0; i < r * c; ++i) m.data()[i] = static_cast<float>(numbers.normal());
    return m;
  };
  rows x = filled(70, 130), w = filled(130, 90), y(70, 90), g = filled(130, 90);
  const Eigen::MatrixXd wide_x = x.cast<double>(), wide_w = w.cast<double>(), wide_g = g.cast<double>();
  Eigen::RowVectorXf bias = filled(1, 90), sums = Eigen::RowVectorXf::Zero(90);
  backend::cpu<float>::executor{2}.run([&](const auto& on) {
    matmul(on, as_matrix(x), as_matrix(w), as_matrix(y), epilogue::bias{static_cast<const float*>(bias.data())});
    matmul_tn(on, as_matrix(x), as_matrix(y), as_matrix(g));
    column_sums(on, as_matrix(y), sums.data());
  });
  const Eigen::MatrixXd expected = (wide_x * wide_w).rowwise() + bias.cast<double>();
  CHECK((y.cast<double>() - expected).cwiseAbs().maxCoeff() < 1e-4);
  const Eigen::MatrixXd gradient = wide_g + wide_x.transpose() * y.cast<double>();
  CHECK((g.cast<double>() - gradient).cwiseAbs().maxCoeff() < 2e-3);
  CHECK((sums.cast<double>() - y.cast<double>().colwise().sum()).cwiseAbs().maxCoeff() < 1e-3);
}

}  // namespace fathom::test
