"""Two nets that are trained together and predict as one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.unet import Outputs


class Pair(nn.Module):
    """Two nets of one kind; together they give the logits of the mean of their probabilities, and no sides.

    Source: the team.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: Tensor) -> Outputs:
        one: Outputs = self.first(image)
        other: Outputs = self.second(image)
        has_salt = None
        if one.has_salt is not None and other.has_salt is not None:
            has_salt = mean_logits(one.has_salt, other.has_salt)
        return Outputs(mean_logits(one.mask, other.mask), has_salt)


def mean_logits(one: Tensor, other: Tensor) -> Tensor:
    """Logits of the mean of two probabilities that are given as logits, of one shape; float32."""
    salt, none = log_mean_probabilities(one, other)
    return salt - none


def log_mean_probabilities(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the mean of two probabilities, and of one minus it, from logits of one shape; float32.

    In logarithms throughout, so that nothing is rounded to 0 or 1 where both nets are sure.
    """
    one, other = one.float(), other.float()
    salt = torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other)) - math.log(2)
    none = torch.logaddexp(F.logsigmoid(-one), F.logsigmoid(-other)) - math.log(2)
    return salt, none
