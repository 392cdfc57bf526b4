"""Losses on inner layers in float64 NumPy, written from the papers and independent of the package.

Maps are `(B, H, W, C)`; each function returns the loss of a batch. Loops stand where the formula
has indices. A unit is a convolution without bias and its batch normalisation: `(kernel, scale,
shift)`.
"""

import itertools
import math

import numpy as np


def hint(student, teacher, kernel, bias):
    """FitNets: squared distance of the projected layer."""
    return np.mean((student @ kernel + bias - teacher) ** 2)


def orthogonal_hint(student, teacher, base, lower, transposed):
    """VkD: Huber's distance of means, projected by Cayley's map, and normalised ones."""
    n, k = lower.shape
    skew = np.zeros((n, n))
    skew[:, :k] = np.tril(lower, -1)
    skew -= skew.T
    columns = np.linalg.inv(np.eye(n) - skew / 2) @ (np.eye(n) + skew / 2)
    matrix = base @ columns[:, :k]
    matrix = matrix.T if transposed else matrix
    target = teacher.mean(axis=(1, 2))
    target = (target - target.mean(axis=1, keepdims=True)) / np.sqrt(
        target.var(axis=1, keepdims=True) + 1e-5
    )
    return huber(student.mean(axis=(1, 2)) @ matrix.T - target).mean()


def huber(difference):
    distance = np.abs(difference)
    return np.where(distance < 1, difference**2 / 2, distance - 0.5)


def attention_transfer(student, teacher):
    maps = []
    for one in (student, teacher):
        attention = (one**2).mean(axis=-1).reshape(len(one), -1)
        maps.append(attention / np.linalg.norm(attention, axis=1, keepdims=True))
    return np.mean((maps[0] - maps[1]) ** 2)


def neuron_selectivity(student, teacher):
    """Squared maximum mean discrepancy of two sets of unit vectors, polynomial kernel."""
    total = 0.0
    for one, other in zip(student, teacher, strict=True):
        sets = [side.reshape(-1, side.shape[-1]).T for side in (one, other)]
        sets = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in sets]

        def kernel(a, b):
            return np.mean([[(x @ y) ** 2 for y in b] for x in a])

        total += kernel(sets[0], sets[0]) + kernel(sets[1], sets[1]) - 2 * kernel(*sets)
    return total / len(student)


def variational_information(student, teacher, kernels, scale):
    """Negative log likelihood of a Gaussian, without its constant."""
    mean = student
    for index, kernel in enumerate(kernels):
        mean = mean @ kernel
        mean = np.maximum(mean, 0) if index < 2 else mean
    variance = np.log1p(np.exp(scale)) + 1e-5
    return np.mean(((mean - teacher) ** 2 / variance + np.log(variance)) / 2)


def similarity_preserving(student, teacher):
    grams = []
    for one in (student, teacher):
        rows = one.reshape(len(one), -1)
        gram = rows @ rows.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return np.sum((grams[0] - grams[1]) ** 2) / len(student) ** 2


def relational_distances(student, teacher, distance_weight, angle_weight):
    rows = [one.mean(axis=(1, 2)) for one in (student, teacher)]
    count = len(student)
    distances, angles = [], []
    for one in rows:
        all_distances = np.array([[np.linalg.norm(a - b) for b in one] for a in one])
        distances.append(all_distances / all_distances[all_distances > 0].mean())
        cosines = np.zeros((count,) * 3)
        for i, j, k in itertools.product(range(count), repeat=3):
            if i not in (j, k):
                a, b = one[j] - one[i], one[k] - one[i]
                cosines[i, j, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        angles.append(cosines)
    return (
        distance_weight * huber(distances[0] - distances[1]).mean()
        + angle_weight * huber(angles[0] - angles[1]).mean()
    )


def probabilistic_transfer(student, teacher):
    probabilities = []
    for one in (student, teacher):
        rows = one.mean(axis=(1, 2))
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        similarities = (rows @ rows.T + 1) / 2
        probabilities.append(similarities / similarities.sum(axis=1, keepdims=True))
    q, p = probabilities
    return np.mean(p * np.log(p / q))


def correlation_congruence(student, teacher, kernels, biases):
    embedded = [
        one.mean(axis=(1, 2)) @ kernel + bias
        for one, kernel, bias in zip((student, teacher), kernels, biases, strict=True)
    ]
    difference = np.abs(embedded[0] - embedded[1])
    return np.mean(np.sum(difference[:-1] * difference[1:], axis=1))


def feature_overhaul(student, teacher, unit, scale, shift):
    """The margin is a channel's mean below zero, here by integration."""
    values = normalized_unit(student, unit)
    below = np.linspace(-40, 0, 400_001)
    margins = []
    for deviation, mean in zip(np.abs(scale), shift, strict=True):
        density = np.exp(-(((below - mean) / deviation) ** 2) / 2)
        margins.append(np.sum(below * density) / np.sum(density))
    target = np.maximum(teacher, margins)
    counts = (values > target) | (target > 0)
    return np.sum(counts * (values - target) ** 2) / len(student)


def knowledge_review(student, teacher, fusions):
    """Levels from deep to shallow; each fusion is two units, and attention's kernel and bias."""
    total, rest = 0.0, None
    for level, (first, second, attention) in reversed(list(enumerate(fusions))):
        size = teacher[level].shape[1]
        values = normalized_unit(student[level], first)
        if attention is not None:
            repeats = values.shape[1] // rest.shape[1]
            rest = rest.repeat(repeats, axis=1).repeat(repeats, axis=2)
            weights = np.concatenate([values, rest], axis=-1) @ attention[0] + attention[1]
            weights = 1 / (1 + np.exp(-weights))
            values = values * weights[..., :1] + rest * weights[..., 1:]
        rest = values
        difference = normalized_unit(values, second) - teacher[level]
        terms, weights, weight = [np.mean(difference**2)], [1.0], 1.0
        for cells in (4, 2, 1):
            if cells < size:
                weight /= 2
                weights.append(weight)
                terms.append(np.mean(cell_means(difference, cells) ** 2))
        total += np.dot(terms, weights) / np.sum(weights)
    return total


def gaussian_wasserstein(student, teacher, unit, mean_weight):
    """Squared 2-Wasserstein distance of two Gaussians with independent channels."""
    student = np.maximum(normalized_unit(student, unit), 0)
    moments = []
    for one in (student, teacher):
        one = one.reshape(len(one), -1, one.shape[-1])
        moments.append((one.mean(axis=1), np.sqrt(one.var(axis=1, ddof=1) + 1e-5)))
    (mean, deviation), (its_mean, its_deviation) = moments
    distance = mean_weight * (mean - its_mean) ** 2 + (deviation - its_deviation) ** 2
    return distance.sum(axis=1).mean()


def reused_classifier(student, teacher, units):
    values = student
    for unit in units:
        values = np.maximum(normalized_unit(values, unit), 0)
    return np.mean((values - teacher) ** 2)


def class_attention(student, teacher, heads, resolution):
    maps = []
    for one, (kernel, bias) in zip((student, teacher), heads, strict=True):
        pooled = cell_means(one @ kernel + bias, resolution)
        pooled = pooled.reshape(len(one), -1, pooled.shape[-1])
        maps.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    return np.mean((maps[0] - maps[1]) ** 2)


def contrastive_representation(
    student, teacher, heads, banks, normalizers, ids, drawn, temperature
):
    samples, count = len(banks[0]), drawn.shape[1]
    embedded = []
    for one, (kernel, bias) in zip((student, teacher), heads, strict=True):
        rows = one.mean(axis=(1, 2)) @ kernel + bias
        embedded.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    total, noise = 0.0, count / samples
    for own, bank, normalizer in zip(embedded, banks[::-1], normalizers, strict=True):
        chosen = np.concatenate([np.reshape(ids, (-1, 1)), drawn], axis=1)
        terms = np.exp(np.einsum("bkd,bd->bk", bank[chosen], own) / temperature)
        p = terms / normalizer
        total -= np.sum(np.log(p[:, 0] / (p[:, 0] + noise + 1e-7)))
        total -= np.sum(np.log(noise / (p[:, 1:] + noise + 1e-7)))
    return total / len(student)


def scale_decoupled_kd(student, teacher, heads, labels, scales, temperature):
    total, count = 0.0, 0
    whole = teacher.mean(axis=(1, 2)) @ heads[1][0] + heads[1][1]
    for scale in scales:
        logits = [
            cell_means(one, scale) @ kernel + bias
            for one, (kernel, bias) in zip((student, teacher), heads, strict=True)
        ]
        for sample, row, column in np.ndindex(len(student), scale, scale):
            z, f = (one[sample, row, column] for one in logits)
            p, q = (np.exp(one / temperature) for one in (f, z))
            p, q = p / p.sum(), q / q.sum()
            is_right = [np.argmax(one) == labels[sample] for one in (f, whole[sample])]
            weight = 2 if is_right[0] != is_right[1] else 1
            total += weight * temperature**2 * np.sum(p * np.log(p / q))
            count += 1
    return total / count


def normalized_unit(values, unit):
    kernel, scale, shift = unit
    values = convolved(values, kernel) if kernel.ndim == 4 else values @ kernel
    axes = tuple(range(values.ndim - 1))
    values = (values - values.mean(axis=axes)) / np.sqrt(values.var(axis=axes) + 1e-5)
    return values * scale + shift


def convolved(values, kernel):
    """A convolution that keeps the size, `(B, H, W, C)` with `(h, w, C, D)`."""
    height, width = values.shape[1:3]
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(values, [(0, 0), (rows, rows), (columns, columns), (0, 0)])
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i, j in np.ndindex(kernel.shape[:2])
    )


def cell_means(values, cells):
    """Means over a grid; each cell covers what it touches."""
    size = values.shape[1]
    bounds = [
        (math.floor(i * size / cells), math.ceil((i + 1) * size / cells)) for i in range(cells)
    ]
    return np.stack(
        [
            np.stack([values[:, a:b, c:d].mean(axis=(1, 2)) for c, d in bounds], axis=1)
            for a, b in bounds
        ],
        axis=1,
    )
