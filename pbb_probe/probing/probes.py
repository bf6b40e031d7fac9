"""The probes that were fitted: they read new prompts, have directions and subspaces, go to files and to scikit-learn.

Where `fit_probes` scores every place, its probes show single prompts: what is read of each variable at each layer, and
with what probability? The clusters (programs) that are fitted on are dealt into folds. A prompt of one of them is read
by the probe of the fold that held it out. Any other prompt is read by the probes of all folds, and their probabilities
are averaged. With a single fold nothing is held out.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.probing.arguments import check_acts, values_of
from pbb_probe.probing.directions import subspace, unit_directions
from pbb_probe.probing.readers import Kind
from pbb_probe.probing.reading import averaged, features_at

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Probes:
    """Linear probes of each target at each site, layer and role, one a fold: what `fit_probes(keep=True)` returns.

    The score of a class is coefficients . activation + intercept, in the units of the activations. A ridge probe has
    one score, the number that it reads.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=20, without_io=0), pbb.load_model("nano")
        >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=60), layers=[3], roles=["name"])
        >>> probes = pbb.fit_probes(acts, ["steps"], folds=2, keep=True)
        >>> list(probes.read(acts)), probes.to_sklearn(fold=0).classes_.tolist()
        (['target', 'site', 'role', 'layer', 'prompt', 'value', 'probability'], [1, 2])
    """

    scores: "xr.Dataset"
    """What `fit_probes` returns without `keep`: how well each place is read. Loaded probes have its coordinates."""
    kinds: dict[str, Kind]
    """Of each target's probes."""
    classes: dict[str, tuple[Any, ...]]
    """The values of each target that its probes tell apart; none of ridge."""
    coefficients: "dict[tuple[str, str], np.ndarray]"
    """By target and site [fold, layer, role, class, feature]; heads are flattened."""
    intercepts: "dict[tuple[str, str], np.ndarray]"
    """By target and site [fold, layer, role, class]; minus infinity for a class that a fold lacks."""
    dims: dict[str, tuple[str, ...]]
    """The dimensions that the features of each site are made of, such as (head, d_head)."""
    fold: dict[Hashable, int]
    """The fold that holds each cluster out."""

    @property
    def folds(self) -> int:
        """How many."""
        return len(next(iter(self.intercepts.values())))

    def predict(
        self,
        acts: "xr.Dataset",
        target: str | None = None,
        site: str | None = None,
        clusters: str | Sequence[Hashable] | None = None,
    ) -> "xr.DataArray":
        """The likeliest value of a target, or the number that is read.

        Args:
            acts: activations at the layers and roles that were fitted.
            target: may be left out where there is one.
            site: likewise.
            clusters: the label that says what each prompt belongs to, or its values [prompt]: prompts of clusters that
                were fitted on are read by the probes that have not seen them. All folds' probes read when None.

        Returns:
            Values (layer, role, prompt).

        Raises:
            PbbError: an unknown target or site, activations of other places or width, or of `values_of`.
        """
        import xarray as xr

        target, site = self._target(target), self._site(site)
        said = self._said(check_acts(acts), target, site, clusters)  # [layer, role, prompt, class]
        values = said[..., 0]
        if self.kinds[target] != "ridge":
            values = self._values(target)[said.argmax(-1)]
        coords = {"layer": self.scores["layer"].values, "role": self.scores["role"].values}
        return xr.DataArray(values, coords, ("layer", "role", "prompt"), name=target)

    def read(self, acts: "xr.Dataset", clusters: str | Sequence[Hashable] = "program") -> "pd.DataFrame":
        """What is read of every target at every place.

        Args:
            acts: from `capture`, at the sites, layers and roles that were fitted.
            clusters: the label that says what each prompt belongs to, or its values [prompt].

        Returns:
            A row for each target, site, role, layer and prompt: the likeliest `value` or the number that is read, and
            the `probability` of the value, which only logistic probes have.

        Raises:
            PbbError: activations of other places or width, or of `values_of`.
        """
        import numpy as np
        import pandas as pd

        acts, tables = check_acts(acts), []
        layers, roles = self.scores["layer"].values, self.scores["role"].values.tolist()
        for target, site in self.coefficients:
            said = self._said(acts, target, site, clusters)
            for j, role in enumerate(roles):
                of_role = said[:, j]  # [layer, prompt, class]
                is_number = self.kinds[target] == "ridge"
                values = of_role[..., 0] if is_number else self._values(target)[of_role.argmax(-1)]
                sure = of_role.max(-1) if self.kinds[target] == "logistic" else np.full(values.shape, np.nan)
                table = pd.MultiIndex.from_product(
                    [[target], [site], [role], layers, range(acts.sizes["prompt"])],
                    names=["target", "site", "role", "layer", "prompt"],
                ).to_frame(index=False)
                tables.append(table.assign(value=values.ravel().tolist(), probability=sure.ravel()))
        return pd.concat(tables, ignore_index=True)

    def directions(self, target: str | None = None, site: str | None = None) -> "xr.DataArray":
        """Unit vectors along which each class's score grows most against the mean of the others.

        Of two classes there is one, towards the second; of a ridge probe one, towards larger numbers.

        Args:
            target: may be left out where there is one.
            site: likewise.

        Returns:
            (fold, layer, role, value, feature), NaN of classes that a fold lacks; the values as texts.

        Raises:
            PbbError: an unknown target or site.
        """
        import numpy as np
        import xarray as xr

        target, site = self._target(target), self._site(site)
        coefficients, learned = self.coefficients[target, site], np.isfinite(self.intercepts[target, site])
        names = [str(value) for value in self.classes[target]]
        names = names[1:] if len(names) == 2 else names or ["number"]
        vectors = np.full((*coefficients.shape[:3], len(names), coefficients.shape[-1]), np.nan)
        for k, has in enumerate(learned[:, 0, 0]):  # the classes that a fold has are the same at all places
            unit = unit_directions(coefficients[k][..., has, :])
            vectors[k][..., has if len(has) > 2 else slice(None), :] = unit
        coords = {"layer": self.scores["layer"].values, "role": self.scores["role"].values, "value": names}
        return xr.DataArray(vectors, coords, ("fold", "layer", "role", "value", "feature"), name=target)

    def subspaces(self, target: str | None = None, fold: int | None = None) -> "dict[str, torch.Tensor]":
        """What the probes of a target read, as orthonormal bases: from reading to use.

        A direction that decodes a state need not be one that carries it. `patch_sweep` and `transfer_map` take these
        subspaces and interchange only what the probe sees (TransformerLens's interchange). Their control `random` is a
        subspace of the same rank, moved as far. If the answer follows the donor's state no more often than with a
        random subspace, the probe reads what the model does not use, or what it uses elsewhere too.

        Args:
            target: may be left out where there is one.
            fold: whose probes; may be left out where there is one fold, which is fitted on all rows.

        Returns:
            By site [layer, role, d_model, rank], the span of the classes' directions, whose rank is one less than there
            are classes: what `patch_sweep(subspaces=)` and `transfer_map(subspaces=)` take, for the same layers and
            roles.

        Raises:
            PbbError: an unknown target or fold, numbers, more classes than features, sites that are split into heads,
                or a place where activations differ in fewer directions than a probe needs, such as the embedding of one
                token.

        Example:
            >>> import pbb_probe as pbb
            >>> corpus, model = pbb.make_corpus(with_io=20, without_io=0), pbb.load_model("nano")
            >>> acts = pbb.capture(model, pbb.make_prompts(corpus, model, n=60), layers=[3], roles=["name"])
            >>> pbb.fit_probes(acts, ["steps"], folds=1, keep=True).subspaces()["resid_post"].shape
            torch.Size([1, 1, 128, 1])
        """
        import torch
        from einops import rearrange

        target, k = self._target(target), self._only("fold", fold, list(range(self.folds)))
        if split := [site for site, dims in self.dims.items() if len(dims) > 1]:
            raise PbbError(f"Subspaces are of sites of width d_model, and {split[0]} is not: leave it out.")
        if self.kinds[target] == "ridge":
            raise PbbError(f"The target {target!r} is read by ridge: subspaces are those of classes.")
        bases = {}
        for site in self.dims:
            rows = rearrange(
                self.coefficients[target, site][k], "layer role value d_model -> (layer role) value d_model"
            )
            stacked = torch.stack([subspace(place, target) for place in rows])
            bases[site] = rearrange(
                stacked, "(layer role) d_model rank -> layer role d_model rank", role=self.scores.sizes["role"]
            )
        return bases

    def to_sklearn(
        self,
        target: str | None = None,
        site: str | None = None,
        layer: int | None = None,
        role: str | None = None,
        fold: int | None = None,
    ) -> Any:
        """A fitted scikit-learn estimator that predicts as one probe does: LogisticRegression, or Ridge for numbers.

        It has `predict`, `decision_function`, `score`, and for logistic probes `predict_proba`, of [row, feature].

        Args:
            target: this and the others may be left out where there is one.
            site: as in `capture`.
            layer: as in `capture`.
            role: as in `capture`.
            fold: whose probe.

        Raises:
            PbbError: one of these that is unknown, or left out where there are several.
        """
        import numpy as np
        from sklearn.linear_model import LogisticRegression, Ridge

        target, site = self._target(target), self._site(site)
        layers, roles = self.scores["layer"].values.tolist(), self.scores["role"].values.tolist()
        place = (
            self._only("fold", fold, list(range(self.folds))),
            layers.index(self._only("layer", layer, layers)),
            roles.index(self._only("role", role, roles)),
        )
        coefficients, intercepts = self.coefficients[target, site][place], self.intercepts[target, site][place]
        has = np.isfinite(intercepts)
        coefficients, intercepts = coefficients[has], intercepts[has]
        if self.kinds[target] == "ridge":
            estimator: Any = Ridge()
            estimator.coef_, estimator.intercept_ = coefficients[0], float(intercepts[0])
        else:
            estimator = LogisticRegression()
            estimator.classes_ = self._values(target)[has]
            if len(estimator.classes_) == 2:
                coefficients, intercepts = coefficients[1:] - coefficients[:1], intercepts[1:] - intercepts[:1]
            estimator.coef_, estimator.intercept_ = coefficients, intercepts
        estimator.n_features_in_ = coefficients.shape[1]
        return estimator

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, without the scores.

        Raises:
            PbbError: values or clusters that are neither texts nor numbers, or a place that cannot be written.
        """
        from pbb_probe.probing.probe_files import ProbeParts, write_probes

        write_probes(ProbeParts(*(getattr(self, name) for name in ProbeParts._fields)), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "Probes":
        """Read what `save` wrote, or a file of one probe as `LinearProbe.save` of version 0.8 wrote it.

        Raises:
            PbbError: no such file, or one of something else.
        """
        from pbb_probe.probing.probe_files import read_probes

        return cls(**read_probes(Path(path))._asdict())

    def _target(self, given: str | None) -> str:
        return str(self._only("target", given, list(self.kinds)))

    def _site(self, given: str | None) -> str:
        return str(self._only("site", given, list(self.dims)))

    def _only(self, what: str, given: Any, known: Sequence[Any]) -> Any:
        """What is given, or the only one known is."""
        if given is None and len(known) == 1:
            return known[0]
        if given not in known:
            names = ", ".join(map(str, known))
            raise PbbError(f"The probes have the {what}s {names}, and {given!r} is none of them: name one.")
        return given

    def _values(self, target: str) -> "np.ndarray":
        """The values of a target that its probes tell apart, as an array [class]."""
        import numpy as np

        values = self.classes[target]
        return np.array(values, dtype=None if len({type(value) for value in values}) == 1 else object)

    def _said(
        self, acts: "xr.Dataset", target: str, site: str, clusters: str | Sequence[Hashable] | None
    ) -> "np.ndarray":
        """Probabilities, votes of nearest means, or numbers, averaged over folds [layer, role, prompt, class]."""
        import numpy as np

        layers, roles = self.scores["layer"].values.tolist(), self.scores["role"].values.tolist()
        coefficients, intercepts = self.coefficients[target, site], self.intercepts[target, site]
        features = features_at(acts, site, layers, roles, coefficients.shape[-1])
        unseen = np.ones((self.folds, acts.sizes["prompt"]))
        if clusters is not None:
            held_out = [self.fold.get(name) for name in values_of(acts, clusters, "clusters")]
            unseen = np.array([[k is None or j == k for k in held_out] for j in range(self.folds)], dtype=float)
        return averaged(features, coefficients, intercepts, self.kinds[target], unseen)
