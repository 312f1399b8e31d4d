"""Writes optimizer_numbers.hpp, the reference of train_optimizers.cpp: steps by the formulas in PyTorch's
documentation (torch.optim.SGD, torch.optim.AdamW), and Muon's orthogonalisation by its authors' formula, in numpy's doubles.
If PyTorch is installed, it must agree.

  python tests/make_optimizers.py > tests/optimizer_numbers.hpp
"""
import sys

import numpy as np

STEPS = 4
WEIGHTS = np.array([0.5, -1.25, 2.0, 0.0])


def gradient(step, w):
    """Depends on the weights, so that an error in one step shows in the next."""
    return np.array([0.75, -0.5, 0.125, -1.0]) * step - 0.25 * w


def sgd(lr, momentum, weight_decay, nesterov):
    w, b = WEIGHTS.copy(), None
    for t in range(1, STEPS + 1):
        g = gradient(t, w) + weight_decay * w
        b = g if b is None else momentum * b + g
        w = w - lr * (g + momentum * b if nesterov else b)
    return w


def adamw(lr, betas, eps, weight_decay):
    w, m, v = WEIGHTS.copy(), 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, w)
        w = w - lr * weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


def lion(lr, betas, weight_decay):
    """arXiv 2302.06675, Algorithm 2."""
    w, m = WEIGHTS.copy(), np.zeros(4)
    for t in range(1, STEPS + 1):
        g = gradient(t, w)
        c = betas[0] * m + (1 - betas[0]) * g
        w = w - lr * (np.sign(c) + weight_decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
    return w


def numbers(rows, columns):
    return np.array([((i * i * 5 + i * 7 + 3) % 23 - 11) / 8 for i in range(rows * columns)]).reshape(rows, columns)


def newton_schulz(g):
    """https://kellerjordan.github.io/posts/muon, in double: a tall matrix is transposed."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (np.linalg.norm(g) + 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def with_torch(optimizer, **options):
    import torch

    w = torch.nn.Parameter(torch.from_numpy(WEIGHTS.copy()))
    optimizer = optimizer([w], **options)
    for t in range(1, STEPS + 1):
        w.grad = torch.from_numpy(gradient(t, w.detach().numpy()))
        optimizer.step()
    return w.detach().numpy()


def main():
    for_sgd = [dict(lr=0.125, momentum=0.75, weight_decay=decay, nesterov=nesterov) for decay in (0, 0.25) for nesterov in (False, True)]
    for_adamw = dict(lr=0.125, betas=(0.75, 0.5), eps=2.0**-10, weight_decay=0.25)
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed, and was not asked", file=sys.stderr)
    else:
        for options in for_sgd:
            assert np.allclose(with_torch(torch.optim.SGD, **options), sgd(**options), rtol=1e-13)
        assert np.allclose(with_torch(torch.optim.AdamW, **for_adamw), adamw(**for_adamw), rtol=1e-13)

    print("// Written by make_optimizers.py.\n#pragma once\n")

    def write(name, values):
        print(f"inline constexpr double {name}[] = {{{', '.join(repr(float(v)) for v in np.ravel(values))}}};")

    write("sgd_weights", sgd(**for_sgd[0]))
    write("sgd_nesterov_weights", sgd(**for_sgd[1]))
    write("sgd_decayed_weights", sgd(**for_sgd[2]))
    write("sgd_nesterov_decayed_weights", sgd(**for_sgd[3]))
    write("adamw_weights", adamw(**for_adamw))
    write("lion_weights", lion(lr=0.125, betas=(0.75, 0.5), weight_decay=0.25))
    for rows, columns in ((3, 5), (5, 3), (4, 4)):
        write(f"orthogonal_{rows}x{columns}", newton_schulz(numbers(rows, columns)))


main()
