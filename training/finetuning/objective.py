"""What a head learns, how good its outputs are, and what they predict.

Shapes: B samples, K outputs (classes, labels, or one number), H W pixels of a mask, h w places of dense outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.probing.kinds import Kind, Predicted, check_targets, num_outputs
from training.tasks.base import TaskData

__all__ = ["Judge", "Objective"]

NO_CLASS = -1


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The targets of a task, for one draw.

    Attributes:
        kind: what is predicted.
        outputs: numbers of the head.
        targets: of all samples: 0 or 1 for each class or label (N, K), or scaled numbers (N, 1), float32; without columns of
            a segmentation, whose targets are masks.
        mean: of the training samples' numbers; 0 of other kinds.
        spread: their standard deviation; 1 of other kinds, and where they do not differ.
    """

    kind: Kind
    outputs: int
    targets: Tensor
    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, data: TaskData, train: NDArray[np.int64]) -> Objective:
        """That of a task whose training samples are these.

        Raises:
            TrainingError: the targets are not what the task's kind asks for.
        """
        kind, classes = data.info.kind, data.num_classes
        if kind == "segmentation":
            return cls(kind=kind, outputs=classes, targets=torch.zeros(len(data), 0))
        every: tuple[Kind, ...] = ("classification", "multilabel", "regression")
        found = check_targets("finetune", every, data.targets, kind=kind, num_classes=classes, num_samples=len(data))
        if kind == "classification":
            targets = functional.one_hot(torch.from_numpy(found), classes).float()
            return cls(kind=kind, outputs=classes, targets=targets)
        if kind == "multilabel":
            return cls(kind=kind, outputs=classes, targets=torch.from_numpy(found).float())
        mean, spread = float(found[train].mean()), float(found[train].std()) or 1.0
        scaled = torch.from_numpy((found - mean) / spread).float()[:, None]
        return cls(kind=kind, outputs=num_outputs(kind, classes), targets=scaled, mean=mean, spread=spread)

    @property
    def dense(self) -> bool:
        """Whether outputs are asked for at places within the chips."""
        return self.kind == "segmentation"

    @property
    def mixes(self) -> bool:
        """Whether the targets of two samples can be mixed as their chips are."""
        return self.kind in ("classification", "multilabel")

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Mean cross entropy, binary cross entropy or squared error, a scalar.

        Args:
            outputs: (B, K) float32; (B, K, h, w) of a segmentation, which are brought to the mask's size.
            targets: (B, K), mixed or not; of a segmentation masks (B, H, W), whose pixels without a class count for nothing.
            smoothing: share of a class that is spread over all of them.
        """
        if self.kind == "segmentation":
            lost = functional.cross_entropy(
                _at_mask(outputs, targets),
                targets.long(),
                ignore_index=NO_CLASS,
                label_smoothing=smoothing,
                reduction="sum",
            )
            return lost / (targets != NO_CLASS).sum().clamp(min=1)
        if self.kind == "classification":
            return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
        if self.kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(outputs, targets)
        return functional.mse_loss(outputs, targets)

    def decide(self, outputs: Tensor, masks: Tensor | None) -> Tensor:
        """What outputs say, of a segmentation at each pixel of a mask's size: classes (B, H, W) int16."""
        if masks is None:
            return outputs
        return _at_mask(outputs, masks).argmax(dim=1).to(torch.int16)

    def predicted(self, parts: Sequence[Tensor], chosen: dict[str, Any]) -> Predicted:
        """The prediction of test samples, whose outputs or classes of pixels these are, in the units of the targets."""
        found = torch.cat(list(parts)).cpu()
        if self.kind == "segmentation":
            return Predicted(values=found.numpy(), scores=None, chosen=chosen)
        outputs = found.double().numpy()
        if self.kind == "regression":
            return Predicted(values=outputs[:, 0] * self.spread + self.mean, scores=None, chosen=chosen)
        values = outputs.argmax(axis=1) if self.kind == "classification" else outputs > 0
        return Predicted(values=values, scores=outputs, chosen=chosen)


class Judge:
    """Says how good outputs are on samples that were not learnt from, batch by batch, without waiting for the device.

    By accuracy; micro F1 of labels; the mean over classes of the intersection over the union of their pixels; or minus the
    mean squared error. Equals are told apart by the loss.
    """

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective = objective
        self._lost = torch.zeros((), dtype=torch.float64, device=device)
        self._samples = 0
        size = objective.outputs if objective.kind == "segmentation" else 2
        self._counts = torch.zeros(size, size, dtype=torch.float64, device=device)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Some samples' outputs and targets."""
        self._lost += self._objective.loss(outputs, targets).double() * len(outputs)
        self._samples += len(outputs)
        kind = self._objective.kind
        if kind == "classification":
            hits = (outputs.argmax(dim=1) == targets.argmax(dim=1)).sum()
            self._counts[0, 0] += hits
            self._counts[0, 1] += len(outputs) - hits
        elif kind == "multilabel":
            found, true = outputs > 0, targets > 0.5
            self._counts[0, 0] += 2 * (found & true).sum()
            self._counts[0, 1] += (found ^ true).sum()
        elif kind == "segmentation":
            size = self._objective.outputs
            known = targets != NO_CLASS
            cells = targets[known].long() * size + _at_mask(outputs, targets).argmax(dim=1)[known]
            self._counts += torch.bincount(cells, minlength=size * size).view(size, size)

    def score(self) -> tuple[float, float]:
        """How good, and minus the mean loss: the larger the better; ``-inf`` where the loss is no number."""
        loss = float(self._lost) / max(1, self._samples)
        if not np.isfinite(loss):
            return -np.inf, -np.inf
        kind = self._objective.kind
        if kind == "regression":
            return -loss, -loss
        if kind == "segmentation":
            both = self._counts.diagonal()
            either = self._counts.sum(dim=0) + self._counts.sum(dim=1) - both
            occurs = either > 0
            return (float((both / either)[occurs].mean()) if occurs.any() else 0.0), -loss
        right, wrong = self._counts[0].tolist()
        return right / max(1.0, right + wrong), -loss


def _at_mask(outputs_BKhw: Tensor, masks_BHW: Tensor) -> Tensor:
    """Outputs at the pixels of masks, by bilinear interpolation, (B, K, H, W)."""
    if outputs_BKhw.shape[2:] == masks_BHW.shape[1:]:
        return outputs_BKhw
    return functional.interpolate(outputs_BKhw, size=tuple(masks_BHW.shape[1:]), mode="bilinear", align_corners=False)
