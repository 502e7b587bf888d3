"""How tiles without masks help a net to learn: a mean teacher, or two nets that teach each other."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from diapir.recipe.sections import Count, Positive, Real, Section

Share = Annotated[Real, Field(gt=0, lt=1)]
Weight = Annotated[Real, Field(ge=0)]


class MeanTeacher(Section):
    """Learn to say of every tile, labelled or not, what a moving average of one's own weights says of it.

    Both see each tile at the same place, in other greys; the teacher may see it mirrored, which is undone in what it
    says. The teacher is scored, kept and predicts, as a moving average does; so `average.decay` must be 0.

    Args:
        weight: of the mask's consistency, a cross-entropy, at full strength; 1 in the code of a participant, Florian,
            and 0.3 in that of the 14th place, which did not use it in the end.
        has_salt: weight of the has-salt head's, where the net has one; as above.
        rampup_epochs: epochs until full strength, counted over all the stages; 10 as they had it.
        unlabelled_share: of unlabelled tiles in all that a step sees. They come beside the batch's labelled ones; 0.25
            in Florian's code, 6 of 16 in the other.
        decay: largest decay of the teacher, per step; 0.99 as they had it. At step s, from 0, it is at most
            1 - 1 / (s + 1).

    Source: Tarvainen and Valpola 2017 (arXiv:1703.01780); the numbers from two teams of the TGS competition.
    """

    kind: Literal["mean-teacher"]
    weight: Weight = 1.0
    has_salt: Weight = 1.0
    rampup_epochs: Count = 10
    unlabelled_share: Share = 0.25
    decay: Annotated[Real, Field(ge=0, lt=1)] = 0.99


class CoTraining(Section):
    """Train two nets that agree on unlabelled tiles, and are each steadfast where the other is fooled.

    They begin with different random weights and see the same tiles. Held-out scores and predictions are those of the
    mean of their probabilities; each file of weights holds both, and `clip_norm` of an optimiser bounds the gradient of
    both together.

    Args:
        agreement: weight of their Jensen-Shannon divergence on unlabelled tiles, at full strength; 10 in the paper.
        difference: weight of each one's cross-entropy on the tiles that fool the other; 0.5 in the paper.
        eps: by how much each pixel, with grey from 0 to 1, is moved to fool a net; 0.02 in the paper.
        rampup_epochs: epochs until full strength, counted over all the stages; 80 in the paper.
        unlabelled_share: of unlabelled tiles in all that a step sees, beside the batch's labelled ones; a
            reconstruction: the share that mean teachers had.

    Source: Qiao et al. 2018, Deep Co-Training for Semi-Supervised Image Recognition (arXiv:1803.05984), taken from
    classes of images to the two classes of each pixel.
    """

    kind: Literal["co-training"]
    agreement: Weight = 10.0
    difference: Weight = 0.5
    eps: Positive = 0.02
    rampup_epochs: Count = 80
    unlabelled_share: Share = 0.25


def kind_of_semi(raw: Any) -> str:
    """What tells the two apart; what is no section at all is left for either to refuse."""
    return str(raw.get("kind") if isinstance(raw, dict) else getattr(raw, "kind", "mean-teacher"))


Semi = Annotated[
    Annotated[MeanTeacher, Tag("mean-teacher")] | Annotated[CoTraining, Tag("co-training")],
    Discriminator(kind_of_semi),
]
