"""Multinomial logistic regression of many problems at once, to scikit-learn's optimum.

minimise  C * (sum of the rows' losses) + |coefficients|^2 / 2          (intercepts are free)

Problems that share their features (targets, control tasks, strengths C) share every product with them: the classes of
all of them, a score each, are the rows of one matrix. Residual streams are ill-conditioned, so that plain L-BFGS takes
a hundred steps and more on them. Here it starts from second derivatives that are

    C G / K + 1         G: the features' Gram matrix, K: a problem's classes

which is exact where all classes are equally likely, so that the first step is Newton's; and from the fourth step on, in
the leading directions of G, where nearly all of the curvature is, those of each class by itself, whose rows count
p (1 - p). Neither knows that the classes of a problem compete, so that each step is taken without its mean over them,
which changes no prediction. It ends with a certificate: the objective is strongly convex in the coefficients, so that
half the squared gradient bounds what is left to gain.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pbb_probe.probing.softmax import Curvature, Problems

if TYPE_CHECKING:
    import torch

TOLERANCE = 5e-7
"""Of the objective: what may be left to gain."""
STEPS = {"float32": 100, "float64": 3000}
"""At most, in each precision."""
MEMORY = 4
"""Pairs of steps and gradient changes that L-BFGS keeps."""
MEASURED_AT = (3, 12, 24, 48)
"""The steps before which the curvature in the leading directions is measured."""
KEPT = 0.75
"""Problems that are done are carried along until no more than this share is left."""
VALUES_AT_ONCE = 100_000
"""Scores of rows that a CPU's core computes together: its cache holds no more."""


class Fitted(NamedTuple):
    """A problem's linear readers: the logit of a class is coefficient . features + intercept."""

    coefficients: "torch.Tensor"
    """[batch, class, feature]; of two classes the first one's are 0, as in scikit-learn."""
    intercepts: "torch.Tensor"
    """[batch, class]"""
    objectives: "torch.Tensor"
    """[batch]"""


def fit_logistic(
    features: "torch.Tensor",
    classes: "torch.Tensor",
    sizes: Sequence[int],
    strengths: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
) -> list[Fitted]:
    """Fit every problem to the same optimum as `sklearn.linear_model.LogisticRegression` (its solver lbfgs).

    In float32 as far as that goes, and from there in float64.

    Args:
        features: [batch, row, feature], standardised, so that their means are 0.
        classes: class numbers [batch, row, problem], each problem's from 0 on.
        sizes: how many classes each problem has; at least 2.
        strengths: scikit-learn's C, the inverse strength of the penalty [batch, problem].
        weights: what each row counts [batch, row, problem], 0 for padding; 1 when None.
    """
    import torch

    device = features.device
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], float(strengths[0, i])))
    ordered = [sizes[i] for i in order]
    # scikit-learn's penalty of two classes is that of their difference: twice that of coefficients w / 2 and -w / 2
    halved = torch.tensor([0.5 if size == 2 else 1.0 for size in ordered], dtype=torch.float64)
    strengths = strengths[:, order].cpu().double() * halved
    classes = classes.to(device)[:, :, order]
    weights = None if weights is None else weights.to(device)[:, :, order]

    def fit(part: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return _fit(
            features[part], classes[part], ordered, strengths[part[0]], None if weights is None else weights[part]
        )

    on_cpu = device.type == "cpu"
    at_once = max(1, VALUES_AT_ONCE // (sum(sizes) * features.shape[1])) if on_cpu else len(features)
    alike = torch.unique(strengths, dim=0, return_inverse=True)[1]
    parts = [some for k in alike.unique() for some in torch.nonzero(alike == k)[:, 0].split(at_once)]
    fits = _side_by_side(fit, parts) if on_cpu else [fit(part) for part in parts]
    points, values = (torch.cat(found) for found in zip(*fits, strict=True))
    back = torch.cat(parts).argsort().to(device)
    points, values = points[back], values[back]
    fitted = {}
    for i, some, value, factor in zip(order, points.split(ordered, 1), values.split(ordered, 1), halved, strict=True):
        if sizes[i] == 2:
            some = torch.stack([torch.zeros_like(some[:, 0]), some[:, 1] - some[:, 0]], dim=1)
        fitted[i] = Fitted(some[..., :-1].contiguous(), some[..., -1], value[:, 0] / factor)
    return [fitted[i] for i in range(len(sizes))]


def _side_by_side(function: Callable, parts: Sequence) -> list:
    """On all cores that torch may use, each by itself: shared out, the small products here would mostly wait."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    cores = torch.get_num_threads()
    if min(cores, len(parts)) == 1:
        return [function(part) for part in parts]
    try:
        with ThreadPoolExecutor(min(cores, len(parts)), initializer=lambda: torch.set_num_threads(1)) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(cores)  # a part of it is not a thread's own


def _fit(features, classes, sizes: list[int], strengths, weights) -> "tuple[torch.Tensor, torch.Tensor]":
    """Points [batch, score, feature + 1] and objectives [batch, score] in float64."""
    import torch

    problems = Problems.of(features, classes, sizes, strengths, weights)
    batch, scores = (torch.arange(n, device=features.device) for n in (len(features), sum(sizes)))
    found = features.new_zeros(len(batch), len(scores), features.shape[2] + 1, dtype=torch.float64)
    objectives = found.new_zeros(found.shape[:2])
    for precision, steps in STEPS.items():
        where = batch[:, None], scores
        dtype = getattr(torch, precision)
        points, objectives[where], converged = _minimise(problems.to(dtype), found[where].to(dtype), steps)
        found[where] = points.double()
        if converged.all():
            break
        left = [torch.nonzero(~converged.all(axis))[:, 0] for axis in (1, 0)]
        problems, batch, scores = problems.take(*left), batch[left[0]], scores[left[1]]
    return found, objectives


def _minimise(
    problems: Problems, points: "torch.Tensor", steps: int
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Points [batch, score, feature + 1], objectives [batch, score], and which have converged."""
    import torch

    shape = points.shape[:2]
    batch, scores = (torch.arange(n, device=points.device) for n in shape)
    found, objectives = points.clone(), points.new_zeros(shape, dtype=torch.float64)
    ended = torch.zeros(shape, dtype=torch.bool, device=points.device)
    converged, stalled, sizes = ended, ended, torch.ones(shape).to(points)
    curvature = Curvature.of(problems)
    values, gradients, predicted = problems.evaluate(points)
    history: list[tuple] = []
    for step in range(steps):
        if step in MEASURED_AT:
            curvature.measure(problems, predicted)
        direction = _direction(gradients, history, curvature, problems).neg_()
        slopes = problems.dot(direction, gradients)
        converged = converged | (problems.left_to_gain(gradients, predicted) <= TOLERANCE * values)
        done = converged | stalled
        going, wanted = (torch.nonzero(~done.all(axis))[:, 0] for axis in (1, 0))
        if len(going) * len(wanted) <= KEPT * done.numel() or step == steps - 1:
            where = batch[:, None], scores
            found[where], objectives[where], ended[where] = points, values, converged
            if not len(going) or step == steps - 1:
                break
            problems, curvature = problems.take(going, wanted), curvature.take(going, wanted)
            batch, scores = batch[going], scores[wanted]
            history = [tuple(x[going][:, wanted] for x in entry) for entry in history]
            points, values, gradients, predicted, direction, slopes, sizes, converged, stalled, done = (
                x[going][:, wanted]
                for x in (points, values, gradients, predicted, direction, slopes, sizes, converged, stalled, done)
            )
        there = torch.addcmul(points, sizes.masked_fill(done, 0)[..., None], direction)
        values_there, gradients_there, predicted_there = problems.evaluate(there)
        expected, rounding = -sizes * slopes, torch.finfo(sizes.dtype).eps * values
        enough = done | (values_there <= values - 1e-4 * expected + rounding)
        stalled = stalled | (~done & (values - values_there < rounding / 4) & (expected < 8 * rounding))
        sizes = torch.where(enough, 1.0, sizes / 2)
        if not enough.all():  # some stay, and try half the step next time
            there, gradients_there, predicted_there = (
                torch.where(enough[..., None], new, old)
                for new, old in ((there, points), (gradients_there, gradients), (predicted_there, predicted))
            )
            values_there = torch.where(enough, values_there, values)
        change, bend = there - points, gradients_there - gradients
        product = problems.dot(change, bend)
        inverse = torch.where(product > 0, product.clamp(min=torch.finfo(product.dtype).tiny).reciprocal(), 0.0)
        history = [*history[1 - MEMORY :], (change, bend, inverse)]
        points, values, gradients, predicted = there, values_there, gradients_there, predicted_there
    return found, objectives, ended


def _direction(gradients, history: list[tuple], curvature: Curvature, problems: Problems) -> "torch.Tensor":
    """L-BFGS's two loops (Nocedal and Wright, algorithm 7.4), a problem apart from the others."""
    remaining, taken = gradients.clone(), []
    for change, bend, inverse in reversed(history):
        share = inverse * problems.dot(change, remaining)
        remaining.addcmul_(share[..., None], bend, value=-1)
        taken.append(share)
    out = curvature.divide(remaining, problems)
    for (change, bend, inverse), share in zip(history, reversed(taken), strict=True):
        out.addcmul_((share - inverse * problems.dot(bend, out))[..., None], change)
    return out
