"""Training images/s of the whole step, with data and augmentation: diapir / segmentation-models-pytorch.

    python benchmarks/train_speed.py [--rounds 7] [--steps 8] [--gates none scse] [--losses bce lovasz]

ResNet34 U-Net, 101 x 101 tiles padded to 128, batch 32, flip, shift-scale-rotate, brightness and contrast. Both nets
hold the same weights and give the same logits, losses and gradients, checked first; else the script ends with status
1. The peer: segmentation-models-pytorch, albumentations and a DataLoader over arrays in memory, with the precision
(bfloat16 where the machine has it) and the fused AdamW that diapir uses, and the fastest of 0, 1, 2 workers with and
without channels_last memory, searched here. Each side is a process of its own, in turns: diapir with the settings its
command makes for itself; the peer as it comes, and once more with the same settings as diapir.
"""

import argparse
import sys
from typing import Any

from diapir.processor import tune_process

if __name__ == "__main__" and "peer-as-it-comes" not in sys.argv:
    tune_process()

import albumentations as A
import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors
from diapir.recipe.training import Augment, Loss, Optimiser
from diapir.train.loop import Plan, train_epoch
from diapir.train.optimisers import build_optimiser
from peer_net import GATES, LOSSES, largest_differences, machine_type, our_net, peer_loss, peer_net
from rounds import Spread, Worker, heading, seconds, serve, spread, start_worker, table

BATCH, SIDE, RATE = 32, 128, 1e-4
MEAN, DEVIATION = 0.47, 0.16
AUGMENT = Augment(flip=0.5, geometry=0.5, shift=0.1, scale=0.1, rotation_deg=10, tone=0.3, brightness=0.1, contrast=0.1)
SIDES = ("diapir", "peer-as-it-comes", "peer-same-settings")
CLOSE = 1e-5


def make_tiles(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and masks (n, 101, 101) of about the right texture; time does not depend on what is in them."""
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(rng.standard_normal((101, 101)), 6) for _ in range(count)])
    grey = 120 + 600 * fields + rng.normal(0, 12, fields.shape)
    return grey.clip(0, 255).astype(np.uint8), (fields > 0.02).astype(np.uint8)


class Tiles(Dataset[tuple[Tensor, Tensor]]):
    """The peer's data set: one tile, changed by albumentations."""

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        self.images, self.masks = images, masks
        self.change = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.Affine(
                    translate_percent=(-0.1, 0.1), scale=(0.9, 1.1), rotate=(-10, 10),
                    border_mode=cv2.BORDER_REFLECT_101, p=0.5,
                ),
                A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.3),
                A.PadIfNeeded(SIDE, SIDE, border_mode=cv2.BORDER_REFLECT_101),
                A.Normalize(mean=MEAN, std=DEVIATION),
                A.ToTensorV2(),
            ]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        changed = self.change(image=self.images[index][:, :, None], mask=self.masks[index])
        return changed["image"], changed["mask"]


def serve_ours(gate: str, loss: str, *, steps: int) -> None:
    """A round is an epoch of `steps` steps of the package's own loop."""
    images, masks = make_tiles(BATCH * steps)
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed" if machine_type() is torch.bfloat16 else "32-true")
    fabric.launch()
    net = our_net(gate).to(memory_format=torch.channels_last)
    wrapped = fabric.setup_module(net)
    optimiser: Any = fabric.setup_optimizers(build_optimiser(Optimiser(lr=RATE), net.parameters()))
    chosen = Loss(bce=1.0) if loss == "bce" else Loss(lovasz=1.0, hinge="relu")
    plan = Plan(
        spec=InputSpec(channels=("image",), levels=((MEAN, DEVIATION),), depth_low_m=0, depth_high_m=1),
        frame=Frame("pad", SIDE),
        augment=AUGMENT,
        loss=chosen.model_copy(update={"on_tile": False}),  # as the peer does: the loss sees the border too
        batch=BATCH,
        clip_norm=0,
        autocast=fabric.autocast,
        backward=fabric.backward,
    )
    tiles = TileTensors(torch.from_numpy(images), torch.from_numpy(masks), torch.zeros(len(images)))
    rng = torch.Generator().manual_seed(0)

    def epoch() -> None:
        order = torch.randperm(len(tiles), generator=rng)
        steps_taken = train_epoch(
            wrapped, optimiser, tiles, plan=plan, order=order, first_step=0, learning_rate=lambda _: RATE, rng=rng
        )
        assert len([float(value) for value in steps_taken]) == steps

    serve(lambda _: {"images_per_s": BATCH * steps / seconds(epoch), "threads": torch.get_num_threads()})


def serve_peer(gate: str, loss: str, *, steps: int) -> None:
    """A round is an epoch over a DataLoader, in the setting that the request names."""
    cv2.setNumThreads(0)  # as albumentations advises
    images, masks = make_tiles(BATCH * steps)
    net = peer_net(gate).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2, fused=True)
    objective = peer_loss(loss)
    loaders: dict[int, DataLoader[tuple[Tensor, Tensor]]] = {}
    number_type = machine_type()

    def epoch(workers: int, memory: torch.memory_format) -> None:
        for inputs, truth in loaders[workers]:
            with torch.autocast("cpu", number_type, enabled=number_type is torch.bfloat16):
                logits = net(inputs.to(memory_format=memory))
            target = truth[:, None]
            value = objective(logits.float(), target.float() if loss == "bce" else target.long())
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            value.item()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        workers = request["workers"]
        memory = torch.channels_last if request["channels_last"] else torch.contiguous_format
        if workers not in loaders:
            loaders.clear()  # ends the workers of the setting before
            loaders[workers] = DataLoader(
                Tiles(images, masks), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
            )
        net.to(memory_format=memory)
        return {
            "images_per_s": BATCH * steps / seconds(lambda: epoch(workers, memory)),
            "threads": torch.get_num_threads(),
        }

    serve(answer)


def best_setting(worker: Worker) -> tuple[dict[str, Any], str]:
    """The peer's fastest setting, and the images/s of all of them in words."""
    found = []
    for workers in (0, 1, 2):
        for channels_last in (True, False):
            request = {"workers": workers, "channels_last": channels_last}
            worker.ask(request)
            found.append((max(worker.ask(request)["images_per_s"] for _ in range(2)), request))
    words = ", ".join(f"{one['workers']}{' cl' if one['channels_last'] else ''} {rate:.1f}" for rate, one in found)
    return max(found, key=lambda one: one[0])[1], words


def compare(gate: str, loss: str, *, rounds: int, steps: int) -> list[tuple[str, ...]]:
    """Rows of the table: diapir, and the peer in both ways, measured in turns."""
    start = [start_worker(__file__, "--side", side, gate, loss, "--steps", str(steps)) for side in SIDES]
    workers = dict(zip(SIDES, start, strict=True))
    requests: dict[str, dict[str, Any]] = {"diapir": {}}
    for side in SIDES[1:]:
        requests[side], words = best_setting(workers[side])
        print(f"  {side}, {gate}, {loss}: images/s by workers (cl: channels_last): {words}", flush=True)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side in SIDES:
            answer = workers[side].ask(requests[side])
            if number:  # the first is to warm up
                rates[side].append(answer["images_per_s"])
    for worker in workers.values():
        worker.close()
    return [(gate, loss, side, _setting(requests[side]), *_figures(rates, side)) for side in SIDES]


def _setting(request: dict[str, Any]) -> str:
    if not request:
        return "as it is"
    return f"{request['workers']} workers, {'channels_last' if request['channels_last'] else 'contiguous'}"


def _figures(rates: dict[str, list[float]], side: str) -> tuple[str, str]:
    ratio: Spread = spread([mine / other for mine, other in zip(rates["diapir"], rates[side], strict=True)])
    return spread(rates[side]).text(1), "" if side == "diapir" else ratio.text()


def require_equal(gate: str, loss: str) -> str:
    """Leaves with status 1 where logits, loss or gradients differ."""
    found = largest_differences(gate, loss)
    text = f"{gate}, {loss}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    if max(found.values()) > CLOSE:
        sys.exit(f"error: the nets differ: {text}; expected at most {CLOSE} of the peer's largest value")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--gates", nargs="+", choices=GATES, default=GATES)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--side", nargs=3, help="for the processes that this script starts: side, gate, loss")
    arguments = parser.parse_args()
    if arguments.side:
        side, gate, loss = arguments.side
        (serve_ours if side == "diapir" else serve_peer)(gate, loss, steps=arguments.steps)
        return
    pairs = [(gate, loss) for gate in arguments.gates for loss in arguments.losses]
    equal = [require_equal(gate, loss) for gate, loss in pairs]
    rows: list[tuple[str, ...]] = [("gates", "loss", "side", "setting", "images/s", "diapir / this")]
    for gate, loss in pairs:
        rows += compare(gate, loss, rounds=arguments.rounds, steps=arguments.steps)
    print(heading("segmentation_models_pytorch", "albumentations", threads=torch.get_num_threads()))
    print(f"precision  {machine_type()}, mixed, on both sides")
    print("equal      largest difference / largest value: " + "\n           ".join(equal))
    print(f"median (least to greatest) of {arguments.rounds} rounds of {arguments.steps} steps of {BATCH}; goal: 1.5\n")
    print(table(rows))


if __name__ == "__main__":
    main()
