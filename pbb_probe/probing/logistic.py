"""Multinomial logistic regression of many problems at once, to scikit-learn's optimum.

minimise  C * (sum of the rows' losses) + |coefficients|^2 / 2          (intercepts are not penalised)

Problems on the same features (targets, control tasks, strengths C) share every product with them: the classes of all
problems, a score each, are the rows of one matrix. Residual streams are ill-conditioned, so that plain L-BFGS takes a
hundred steps and more on them. Here it starts from the Hessian

    C G / K + 1         G: the features' Gram matrix, K: the number of a problem's classes

which is exact where all classes are equally likely, so that the first step is Newton's. From the fourth step on, in the
leading directions of G, which hold nearly all of the curvature, it uses each class's own, whose rows count p (1 - p).
Neither approximation knows that the classes of a problem compete, so the mean over classes is taken from each step,
which changes no prediction. It ends with a certificate: the objective is strongly convex in the coefficients, so half
the squared gradient bounds how far it is above the optimum.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pbb_probe.probing.softmax import Curvature, Problems

if TYPE_CHECKING:
    import torch

Part = TypeVar("Part")
Result = TypeVar("Result")
History = list[tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]]
"""Changes of points and of gradients [batch, score, feature + 1], and one over their products [batch, score]."""

TOLERANCE = 5e-7
"""How far above its optimum an objective may end, as a share of itself."""
STEPS = {"float32": 100, "float64": 3000}
"""How many at most, in each precision."""
MEMORY = 4
"""Pairs of steps and gradient changes that L-BFGS keeps."""
MEASURED_AT = (3, 12, 24, 48)
"""The steps before which the curvature in the leading directions is measured."""
KEPT = 0.75
"""Problems that are done stay in the matrices until no more than this share of them is left."""
VALUES_AT_ONCE = 100_000
"""Scores (rows x classes) that a CPU core computes together: its cache holds no more."""


class Fitted(NamedTuple):
    """A fitted problem: the logit of a class is coefficients . features + intercept."""

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

    First in float32, and in float64 where that is not precise enough.

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
    parts = [part for k in alike.unique() for part in torch.split(torch.nonzero(alike == k)[:, 0], at_once)]
    fits = _side_by_side(fit, parts) if on_cpu else [fit(part) for part in parts]
    points, values = (torch.cat(pieces) for pieces in zip(*fits, strict=True))
    back = torch.cat(parts).argsort().to(device)
    points, values = points[back], values[back]
    fitted = {}
    by_problem = zip(order, torch.split(points, ordered, 1), torch.split(values, ordered, 1), halved, strict=True)
    for i, rows, value, factor in by_problem:
        if sizes[i] == 2:
            rows = torch.stack([torch.zeros_like(rows[:, 0]), rows[:, 1] - rows[:, 0]], dim=1)
        fitted[i] = Fitted(rows[..., :-1].contiguous(), rows[..., -1], value[:, 0] / factor)
    return [fitted[i] for i in range(len(sizes))]


def _side_by_side(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results of all parts, each on one core: cores that share the small products here would mostly wait."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    cores = torch.get_num_threads()
    if min(cores, len(parts)) == 1:
        return [function(part) for part in parts]
    try:
        with ThreadPoolExecutor(min(cores, len(parts)), initializer=lambda: torch.set_num_threads(1)) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(cores)  # part of that setting is global


def _fit(
    features: "torch.Tensor",
    classes: "torch.Tensor",
    sizes: list[int],
    strengths: "torch.Tensor",
    weights: "torch.Tensor | None",
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Points [batch, score, feature + 1] and objectives [batch, score] in float64."""
    import torch

    problems = Problems.of(features, classes, sizes, strengths, weights)
    batch, scores = (torch.arange(n, device=features.device) for n in (len(features), sum(sizes)))
    optima = features.new_zeros(len(batch), len(scores), features.shape[2] + 1, dtype=torch.float64)
    objectives = optima.new_zeros(optima.shape[:2])
    for precision, steps in STEPS.items():
        where = batch[:, None], scores
        dtype = getattr(torch, precision)
        points, objectives[where], converged = _minimise(problems.to(dtype), optima[where].to(dtype), steps)
        optima[where] = points.double()
        if converged.all():
            break
        rest, wanted = (torch.nonzero(~converged.all(axis))[:, 0] for axis in (1, 0))
        problems, batch, scores = problems.take(rest, wanted), batch[rest], scores[wanted]
    return optima, objectives


def _minimise(
    problems: Problems, points: "torch.Tensor", steps: int
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Points [batch, score, feature + 1], objectives [batch, score], and which have converged."""
    import torch

    shape = points.shape[:2]
    batch, scores = (torch.arange(n, device=points.device) for n in shape)
    optima, objectives = points.clone(), points.new_zeros(shape, dtype=torch.float64)
    ended = torch.zeros(shape, dtype=torch.bool, device=points.device)
    converged, stalled, sizes = ended, ended, torch.ones(shape).to(points)
    curvature = Curvature.of(problems)
    values, gradients, predicted = problems.evaluate(points)
    history: History = []
    for step in range(steps):
        if step in MEASURED_AT:
            curvature.measure(problems, predicted)
        direction = _direction(gradients, history, curvature, problems).neg_()
        slopes = problems.dot(direction, gradients)
        converged = converged | (problems.gap_bound(gradients, predicted) <= TOLERANCE * values)
        done = converged | stalled
        going, wanted = (torch.nonzero(~done.all(axis))[:, 0] for axis in (1, 0))
        if len(going) * len(wanted) <= KEPT * done.numel() or step == steps - 1:
            where = batch[:, None], scores
            optima[where], objectives[where], ended[where] = points, values, converged
            if not len(going) or step == steps - 1:
                break
            problems, curvature = problems.take(going, wanted), curvature.take(going, wanted)
            batch, scores = batch[going], scores[wanted]
            history = [(a[going][:, wanted], b[going][:, wanted], c[going][:, wanted]) for a, b, c in history]
            points, values, gradients, predicted, direction, slopes, sizes, converged, stalled, done = (
                x[going][:, wanted]
                for x in (points, values, gradients, predicted, direction, slopes, sizes, converged, stalled, done)
            )
        tried = torch.addcmul(points, sizes.masked_fill(done, 0)[..., None], direction)
        new_values, new_gradients, new_predicted = problems.evaluate(tried)
        expected, rounding = -sizes * slopes, torch.finfo(sizes.dtype).eps * values
        enough = done | (new_values <= values - 1e-4 * expected + rounding)
        stalled = stalled | (~done & (values - new_values < rounding / 4) & (expected < 8 * rounding))
        sizes = torch.where(enough, 1.0, sizes / 2)
        if not enough.all():  # the others stay where they are, and try half the step next time
            tried, new_gradients, new_predicted = (
                torch.where(enough[..., None], new, old)
                for new, old in ((tried, points), (new_gradients, gradients), (new_predicted, predicted))
            )
            new_values = torch.where(enough, new_values, values)
        change, bend = tried - points, new_gradients - gradients
        product = problems.dot(change, bend)
        inverse = torch.where(product > 0, product.clamp(min=torch.finfo(product.dtype).tiny).reciprocal(), 0.0)
        history = [*history[1 - MEMORY :], (change, bend, inverse)]
        points, values, gradients, predicted = tried, new_values, new_gradients, new_predicted
    return optima, objectives, ended


def _direction(gradients: "torch.Tensor", history: History, curvature: Curvature, problems: Problems) -> "torch.Tensor":
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
