"""Multinomial logistic regression of many problems at once, to scikit-learn's optimum.

minimise  C * (sum of the rows' losses) + |coefficients|^2 / 2          (intercepts are free)

Problems that share their features (targets, control tasks, strengths C) share every product with them, and batches of
features (places, folds) go through one call. Residual streams are ill-conditioned, so that L-BFGS takes a hundred steps
and more on them; here it starts from

    2 C h G + 1      G: the features' Gram matrix; h: a problem's mean curvature p (1 - p)

as second derivatives, which are diagonal once the features are rotated to the axes of G. (Twice h, as rows differ: it
saves steps that are too long.) It ends with a certificate: the objective is strongly convex in the coefficients, so
that half the squared gradient bounds what is left to gain.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

TOLERANCE = 5e-7
"""Of the objective: what may be left to gain."""
STEPS = {"float32": 100, "float64": 3000}
"""At most, in each precision."""
MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS keeps."""
MEASURED_AT = 5
"""The step before which h is taken from the predictions once more, after the start."""


class Fitted(NamedTuple):
    """Linear readers of each problem: the logit of a class is coefficient . features + intercept."""

    coefficients: "torch.Tensor"
    """[batch, problem, class, feature]; of two classes the first one's are 0, as in scikit-learn."""
    intercepts: "torch.Tensor"
    """[batch, problem, class]; minus infinity for classes that a problem does not have."""
    objectives: "torch.Tensor"
    """[batch, problem]"""


def fit_logistic(
    features: "torch.Tensor",
    classes: "torch.Tensor",
    n_classes: "torch.Tensor",
    strengths: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
) -> Fitted:
    """Fit every problem to the same optimum as `sklearn.linear_model.LogisticRegression` (its solver lbfgs).

    In float32 as far as that goes, and from there in float64, where the features are.

    Args:
        features: [batch, row, feature], standardised, so that their means are 0.
        classes: class numbers [batch, row, problem], each problem's from 0 on.
        n_classes: how many classes each problem has [batch, problem]; at least 2.
        strengths: scikit-learn's C, the inverse strength of the penalty [batch, problem].
        weights: what each row counts [batch, row, problem], 0 for padding; 1 when None.
    """
    import torch

    n_batch, n_rows, width = features.shape
    n_problems = classes.shape[2]
    weights = torch.ones(n_batch, n_rows, n_problems) if weights is None else weights
    classes, n_classes, strengths, weights = (x.to(features.device) for x in (classes, n_classes, strengths, weights))
    found = torch.zeros(n_batch, n_problems, int(n_classes.max()), width + 1, device=features.device).double()
    objectives = torch.full((n_batch, n_problems), torch.inf, dtype=torch.float64, device=features.device)
    left = torch.arange(n_batch, device=features.device)
    some = features.float()
    gram = (some * weights.float().mean(2, keepdim=True)).transpose(1, 2) @ some
    spectrum, axes = torch.linalg.eigh(gram)
    for precision, steps in STEPS.items():
        dtype = getattr(torch, precision)
        problems = _Problems.of(
            features[left].to(dtype) @ axes[left].to(dtype),  # a rotation changes neither losses nor penalty
            spectrum[left],
            classes[left],
            n_classes[left],
            strengths[left],
            weights[left],
            found.shape[2],
        )
        points, values, converged = _minimise(problems, found[left].to(dtype), steps)
        found[left], objectives[left] = points.double(), values
        left = left[~converged.all(1)]
        if not len(left):
            break
    known = torch.arange(found.shape[2], device=found.device) < n_classes[..., None]
    coefficients = found[..., :-1] @ axes.transpose(1, 2)[:, None].double()
    return Fitted(coefficients, found[..., -1].masked_fill(~known, -torch.inf), objectives)


@dataclass
class _Problems:
    """What is minimised. Rows are the last dimension of most, since it is the longest."""

    features: "torch.Tensor"
    """[batch, row, feature]"""
    features_t: "torch.Tensor"
    """[batch, feature, row]"""
    spectrum: "torch.Tensor"
    """The Gram matrix of the features, which is diagonal [batch, feature]."""
    classes: "torch.Tensor"
    """[batch, problem, 1, row]"""
    weights: "torch.Tensor"
    """[batch, problem, row]"""
    strengths: "torch.Tensor"
    """[batch, problem]"""
    free: "torch.Tensor"
    """1 where a class has coefficients of its own [batch, problem, class, 1]."""
    absent: "torch.Tensor"
    """Very negative where there is no such class, else 0 [batch, problem, class, 1]."""

    @classmethod
    def of(cls, features, spectrum, classes, n_classes, strengths, weights, most_classes: int) -> "_Problems":
        import torch

        n, dtype = n_classes[..., None], features.dtype
        number = torch.arange(most_classes, device=features.device)
        free = (number < n) & ~((n == 2) & (number == 0))
        return cls(
            features,
            features.transpose(1, 2).contiguous(),
            spectrum.to(dtype),
            classes.transpose(1, 2)[:, :, None].contiguous(),
            weights.transpose(1, 2).to(dtype).contiguous(),
            strengths.to(dtype),
            free.to(dtype)[..., None],
            torch.zeros_like(free, dtype=dtype).masked_fill_(number >= n, -1e30)[..., None],
        )

    def take(self, rows: "torch.Tensor") -> "_Problems":
        """Some of the batch."""
        return _Problems(*(x[rows] for x in vars(self).values()))

    def predict(self, points: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Probabilities [batch, problem, class, row] and the rows' losses [batch, problem, row]."""
        logits = (points[..., :-1].flatten(1, 2) @ self.features_t).view(*points.shape[:3], -1)
        logits += points[..., -1:] + self.absent
        logits -= logits.amax(2, keepdim=True)
        of_right = logits.gather(2, self.classes)[:, :, 0]
        total = logits.exp_().sum(2)
        logits /= total[:, :, None]
        return logits, total.log_() - of_right

    def bends(self, points: "torch.Tensor") -> "torch.Tensor":
        """About the second derivatives of the objectives [batch, problem, 1, feature + 1], off whose diagonal is 0."""
        import torch

        probabilities, _ = self.predict(points)
        curvature = (probabilities * (1 - probabilities) * self.free * self.weights[:, :, None]).sum((2, 3))
        total = self.weights.sum(2)
        scale = 2 * self.strengths * (curvature / (total * self.free.sum((2, 3)))).clamp_(min=1e-6)
        of_features = scale[..., None] * self.spectrum[:, None] + 1
        return torch.cat([of_features, (scale * total)[..., None]], dim=2)[:, :, None]

    def evaluate(self, points: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """The objectives [batch, problem], summed in float64, and their gradients."""
        import torch

        errors, losses = self.predict(points)
        coefficients = points[..., :-1]
        data = (losses * self.weights).sum(2, dtype=torch.float64) * self.strengths
        values = data + coefficients.square().sum((2, 3), dtype=torch.float64) / 2
        errors.scatter_add_(2, self.classes, errors.new_full((), -1.0).expand(self.classes.shape))
        errors *= (self.weights * self.strengths[..., None])[:, :, None]
        gradients = torch.empty_like(points)
        gradients[..., :-1] = (errors.flatten(1, 2) @ self.features).view(coefficients.shape)
        gradients[..., :-1] += coefficients
        gradients[..., -1] = errors.sum(3)
        return values, gradients.mul_(self.free)


def _minimise(
    problems: _Problems, points: "torch.Tensor", steps: int
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Points [batch, problem, class, feature + 1], objectives [batch, problem], and which have converged."""
    import torch

    found = points.clone()
    objectives = torch.empty(points.shape[:2], dtype=torch.float64, device=points.device)
    converged = torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    stalled = torch.zeros_like(converged)
    live = torch.arange(len(points), device=points.device)
    bends = problems.bends(points)
    values, gradients = problems.evaluate(points)
    history: list[tuple] = []
    for step in range(steps):
        of_intercepts = (gradients[..., -1].square() / bends[..., -1]).sum(2)
        left_to_gain = gradients[..., :-1].square().sum((2, 3)) + of_intercepts
        converged[live] = left_to_gain <= 2 * TOLERANCE * values
        found[live], objectives[live] = points, values
        done = converged[live] | stalled[live]
        going = torch.nonzero(~done.all(1))[:, 0]
        if not len(going):
            break
        if len(going) <= 0.7 * len(live):  # the rest of the batch is left behind
            problems, live, done = problems.take(going), live[going], done[going]
            points, values, gradients = points[going], values[going], gradients[going]
            bends = bends[going]
            history = [tuple(x[going] for x in entry) for entry in history]
        if step == MEASURED_AT:
            bends = problems.bends(points)
        direction = _direction(gradients, history, bends).masked_fill_(done[..., None, None], 0)
        slope = _dot(direction, gradients)
        size = torch.ones_like(slope)
        while True:
            there = torch.addcmul(points, size[..., None, None], direction)
            values_there, gradients_there = problems.evaluate(there)
            expected = -size * slope
            enough = values_there <= values - 1e-4 * expected
            in_vain = ~enough & ~(expected >= 4 * torch.finfo(size.dtype).eps * values)  # rounding errors are larger
            if bool((enough | in_vain | done).all()):
                break
            size = torch.where(enough | in_vain | done, size, size / 2)
        stalled[live] |= in_vain
        change, bend = there - points, gradients_there - gradients
        product = _dot(change, bend)
        inverse = torch.where(product > 0, product.clamp(min=torch.finfo(product.dtype).tiny).reciprocal(), 0.0)
        history = [*history[1 - MEMORY :], (change, bend, inverse)]
        points, values, gradients = there, values_there, gradients_there
    return found, objectives, converged


def _direction(gradients, history: list[tuple], bends) -> "torch.Tensor":
    """L-BFGS's two loops (Nocedal and Wright, algorithm 7.4), a problem apart from the others."""
    remaining, taken = gradients.clone(), []
    for change, bend, inverse in reversed(history):
        share = inverse * _dot(change, remaining)
        remaining.addcmul_(share[..., None, None], bend, value=-1)
        taken.append(share)
    out = remaining.div_(bends)
    for (change, bend, inverse), share in zip(history, reversed(taken), strict=True):
        out.addcmul_((share - inverse * _dot(bend, out))[..., None, None], change)
    return out.neg_()


def _dot(one: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    """[batch, problem]"""
    return (one * other).sum((2, 3))
