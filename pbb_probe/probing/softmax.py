"""The objective of many multinomial logistic regressions on the same features, and an approximate Hessian of it.

Products that sum over an axis are `@` and `sum`, not `einsum`: these are the bits that numbers are compared by.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LEADING = 39
"""Directions in which the curvature is measured."""
ROWS_AT_ONCE = 512
"""Whose products of all pairs of these directions are held."""


@dataclass
class Problems:
    """What is minimised: problems on the same features, each with a score for each of its classes.

    What belongs to a problem, such as its C, is repeated for each of its scores.
    """

    features: "torch.Tensor"
    """[batch, row, feature + 1]; the last one is 1, and its coefficients are the intercepts."""
    sizes: list[int]
    """The classes of each problem: equal ones follow each other."""
    strengths: "torch.Tensor"
    """[score]"""
    weights: "torch.Tensor"
    """What a row's loss counts, C times its weight [batch, score, row], or where rows are alike [1, score, 1]."""
    one_hot: "torch.Tensor"
    """The weights where the row is of the score's class, else 0 [batch, score, row]."""
    penalties: "torch.Tensor"
    """1, and 0 of the intercept [feature + 1]."""
    same_problem: "torch.Tensor"
    """1 where two scores are of the same problem, else 0 [score, score]."""

    @classmethod
    def of(
        cls,
        features: "torch.Tensor",
        classes: "torch.Tensor",
        sizes: list[int],
        strengths: "torch.Tensor",
        weights: "torch.Tensor | None",
    ) -> "Problems":
        """Of the arguments of `fit_logistic`, where problems of equally many classes follow each other; C [problem]."""
        import torch
        from einops import rearrange

        owner = torch.repeat_interleave(torch.tensor(sizes)).to(features.device)
        number = torch.cat([torch.arange(size) for size in sizes]).to(features.device)
        strengths = strengths.to(features)[owner]
        counts = strengths[None, :, None]
        if weights is not None:
            of_problems = rearrange(weights.to(features), "batch row problem -> batch problem row")
            counts = counts * of_problems[:, owner]
        penalties = torch.ones_like(features[0, 0]).repeat(2)[: features.shape[2] + 1]
        penalties[-1] = 0
        return cls(
            torch.cat([features, torch.ones_like(features[..., :1])], dim=2),
            sizes,
            strengths,
            counts,
            (rearrange(classes, "batch row problem -> batch problem row")[:, owner] == number[:, None]) * counts,
            penalties,
            (owner[:, None] == owner).to(features),
        )

    def to(self, dtype: "torch.dtype") -> "Problems":
        """In another precision."""
        parts: list[Any] = [x if isinstance(x, list) else x.to(dtype) for x in vars(self).values()]
        return Problems(*parts)

    def take(self, batch: "torch.Tensor", scores: "torch.Tensor") -> "Problems":
        """A part of the batch, and the problems whose scores these are."""
        owner = [i for i, size in enumerate(self.sizes) for _ in range(size)]
        return Problems(
            self.features[batch],
            [self.sizes[i] for i in dict.fromkeys(owner[k] for k in scores.tolist())],
            self.strengths[scores],
            self.weights[:, scores] if len(self.weights) == 1 else self.weights[batch][:, scores],
            self.one_hot[batch][:, scores],
            self.penalties,
            self.same_problem[scores][:, scores],
        )

    def total(self, of_scores: "torch.Tensor") -> "torch.Tensor":
        """Sums over the scores of each problem [batch, score]."""
        return of_scores @ self.same_problem.to(of_scores.dtype)

    def dot(self, left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
        """The inner products of each problem [batch, score], of tensors [batch, score, feature + 1]."""
        return self.total((left * right).sum(2))

    def evaluate(self, points: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """The objectives [batch, score], summed in float64, their gradients, and the predictions' probabilities."""
        import torch
        from einops import rearrange

        widths = {size: size * self.sizes.count(size) for size in self.sizes}
        parts = []
        for size, logits in zip(widths, torch.split(points @ self.features.mT, list(widths.values()), 1), strict=True):
            by_problem = rearrange(logits, "batch (problem value) row -> batch problem value row", value=size)
            parts.append(
                rearrange(torch.log_softmax(by_problem, 2), "batch problem value row -> batch (problem value) row")
            )
        logs = torch.cat(parts, 1)
        penalised = points * self.penalties
        values = (penalised * points).sum(2).double() / 2 - (self.one_hot * logs).sum(2).double()
        predicted = logs.exp_()
        errors = (predicted * self.weights).sub_(self.one_hot)
        return self.total(values), torch.baddbmm(penalised, errors, self.features), predicted

    def gap_bound(self, gradients: "torch.Tensor", predicted: "torch.Tensor") -> "torch.Tensor":
        """How far each objective is above its optimum, at most [batch, score].

        But for the intercepts: they are not penalised, and count by their own curvature here.
        """
        squares = gradients.square()
        squares[..., -1] /= (predicted * (1 - predicted) * self.weights).sum(2).clamp(min=1e-6)
        return self.total(squares.sum(2)) / 2


@dataclass
class Curvature:
    """An approximate inverse of the Hessian, M^-1 + U (B^-1 - (U'M U)^-1) U'.

    M is C G / K + 1, U are leading directions of G, and B is the curvature measured in them.
    """

    kinds: list[int]
    """The M of each score: equal ones follow each other."""
    inverses: "list[torch.Tensor]"
    """M^-1 [batch, feature + 1, feature + 1] of each kind."""
    axes: "torch.Tensor"
    """U, with the intercept as the last one [batch, feature + 1, axis]."""
    replaced: "torch.Tensor"
    """(U'M U)^-1 [batch, kind, axis, axis]"""
    corrections: "torch.Tensor | None" = None
    """B^-1 - (U'M U)^-1 [batch, score, axis, axis]"""

    @classmethod
    def of(cls, problems: Problems) -> "Curvature":
        """Where all classes are equally likely."""
        import torch

        weights = (problems.weights / problems.strengths[:, None]).mean(1)[:, :, None]
        gram = (problems.features * weights).mT @ problems.features
        n = min(LEADING, gram.shape[1] - 1)
        axes = torch.zeros_like(gram[:, :, : n + 1])
        axes[:, :-1, :-1] = torch.linalg.qr(gram[:, :-1, :-1] @ gram[:, :-1, :n])[0]  # one turn of power iteration
        axes[:, -1, -1] = 1
        scales = (problems.strengths / problems.same_problem.sum(1)).tolist()
        each = list(dict.fromkeys(scales))
        bends = [scale * gram + torch.diag(problems.penalties) for scale in each]
        replaced = torch.stack([_inverse(axes.mT @ bend @ axes) for bend in bends], 1)
        return cls([each.index(scale) for scale in scales], [_inverse(bend) for bend in bends], axes, replaced)

    def measure(self, problems: Problems, predicted: "torch.Tensor") -> None:
        """Measure B where the predictions are these [batch, score, row]."""
        import torch
        from einops import rearrange

        along, counts = problems.features @ self.axes, predicted * (1 - predicted) * problems.weights
        bends = torch.zeros_like(self.replaced[:, :1]).repeat(1, counts.shape[1], 1, 1)
        chunks = torch.split(along, ROWS_AT_ONCE, 1), torch.split(counts, ROWS_AT_ONCE, 2)
        for rows, counted in zip(*chunks, strict=True):
            products = rearrange(
                rows[..., None] * rows[:, :, None], "batch row first second -> batch row (first second)"
            )
            bends += rearrange(
                counted @ products, "batch score (first second) -> batch score first second", first=bends.shape[2]
            )
        bends.diagonal(dim1=2, dim2=3)[..., :-1].add_(1)
        bends.diagonal(dim1=2, dim2=3)[..., -1].add_(1e-6)  # where all rows are certain
        self.corrections = _inverse(bends) - self.replaced[:, self.kinds]

    def divide(self, gradients: "torch.Tensor", problems: Problems) -> "torch.Tensor":
        """Gradients [batch, score, feature + 1] times the approximate inverse."""
        import torch

        widths = {kind: self.kinds.count(kind) for kind in self.kinds}
        by_kind = zip(widths, torch.split(gradients, list(widths.values()), 1), strict=True)
        out = torch.cat([of_kind @ self.inverses[kind] for kind, of_kind in by_kind], 1)
        if self.corrections is not None:
            along = gradients @ self.axes
            out.baddbmm_((self.corrections * along[:, :, None]).sum(3), self.axes.mT)
        return out - (problems.same_problem / problems.same_problem.sum(1, keepdim=True)) @ out

    def take(self, batch: "torch.Tensor", scores: "torch.Tensor") -> "Curvature":
        """A part of the batch and of the scores."""
        return Curvature(
            [self.kinds[k] for k in scores.tolist()],
            [inverse[batch] for inverse in self.inverses],
            self.axes[batch],
            self.replaced[batch],
            None if self.corrections is None else self.corrections[batch][:, scores],
        )


def _inverse(matrices: "torch.Tensor") -> "torch.Tensor":
    """Inverses [..., n, n] of matrices that are positive definite but for rounding, and positive definite themselves.

    Where C is large, rounding of a Gram matrix outweighs the penalty. Steps then are Newton's in fewer directions.
    """
    import torch

    factors, failed = torch.linalg.cholesky_ex(matrices)
    indefinite = failed > 0
    factors[indefinite] = torch.eye(matrices.shape[-1]).to(matrices)
    inverses = torch.cholesky_inverse(factors)
    if indefinite.any():
        values, vectors = torch.linalg.eigh(matrices[indefinite].double())
        values = values.clamp(min=torch.finfo(matrices.dtype).eps * values[..., -1:])
        inverses[indefinite] = ((vectors / values[..., None, :]) @ vectors.mT).to(matrices.dtype)
    return inverses
