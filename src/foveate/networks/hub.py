"""Networks on the Hugging Face hub: the files of save_checkpoint, with a model card, by the hub's own mixin."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from foveate._version import __version__
from foveate.errors import CheckpointError, MissingExtra
from foveate.layers.catalogue import MECHANISMS
from foveate.layers.catalogue import find as find_mechanism
from foveate.networks.architecture import Architecture
from foveate.networks.catalogue import (
    BAUMGARTNER,
    CARION,
    CARREIRA,
    HE,
    HE_MASKS,
    OKTAY,
    RONNEBERGER,
    SANDLER,
    SCHLEMPER,
    VASWANI,
    WANG_NONLOCAL,
    XIE,
)
from foveate.networks.published import from_checkpoint, header, save_checkpoint
from foveate.networks.published.titles import title

__all__ = ["FILE", "from_hub", "papers", "push_to_hub", "save_pretrained"]

FILE = "model.safetensors"

CARD = """---
{{ card_data }}
---

# {{ title }}

A network of Foveate {{ version }}.

| | |
|---|---|
| mechanism | {{ mechanism }} |
| parameters | {{ parameters }} |
{% for paper in papers %}| paper | {{ paper }} |
{% endfor %}| architecture | `{{ architecture }}` |

```python
import foveate as fv

network = fv.from_hub({{ repo_id }})
```
"""


def push_to_hub(network: nn.Module, repo_id: str, **options: Any) -> str:
    """Upload a network with its model card to the hub; the address of what was uploaded.

    Args:
        network: A network of foveate.networks whose mechanism has a name.
        repo_id: Such as "name/cbam_resnet50"; a repository that does not exist is made.
        options: Those of huggingface_hub's ModelHubMixin.push_to_hub: private, token, branch, create_pr and others.

    Raises:
        CheckpointError: If the hub does not take it.
        MissingExtra: If huggingface-hub is not installed.
        TypeError: If it is no such network.
    """
    shared = _shared()(network)
    try:
        return shared.push_to_hub(repo_id, model_card_kwargs={"repo_id": repo_id}, **options)
    except (CheckpointError, TypeError):
        raise
    except Exception as error:  # no connection, no right to write, no such name: the hub has many kinds
        raise CheckpointError(f"{repo_id} could not be written to the hub: {_reason(error)}") from None


def save_pretrained(network: nn.Module, folder: str | Path) -> None:
    """Write the files that push_to_hub uploads: the weights, config.json and a model card. A card that is there stays.

    Raises:
        CheckpointError: If the folder cannot be written.
        MissingExtra: If huggingface-hub is not installed.
        TypeError: If it is no network of foveate.networks whose mechanism has a name.
    """
    shared = _shared()(network)
    try:
        shared.save_pretrained(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error.strerror or error}") from None


def from_hub(source: str | Path, *, revision: str | None = None, **options: Any) -> nn.Module:
    """The network of a repository on the hub, or of a folder that save_pretrained wrote, in evaluation mode.

    Args:
        source: Such as "name/cbam_resnet50", or a folder.
        revision: A branch, tag or commit of the repository.
        options: Those of huggingface_hub's ModelHubMixin.from_pretrained: token, cache_dir, force_download and
            local_files_only; and those of from_checkpoint.

    Raises:
        CheckpointError: If there is no such file, or it does not hold a network.
        MissingExtra: If huggingface-hub is not installed.
    """
    folder = Path(source)
    if folder.is_dir() and not (folder / FILE).is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CheckpointError(f"{folder} must hold {FILE}, as save_pretrained writes it; it holds {held}")
    try:
        return _shared().from_pretrained(source, revision=revision, **options).network
    except (CheckpointError, TypeError):
        raise
    except Exception as error:  # no connection, no such repository, a damaged config.json: the hub has many kinds
        raise CheckpointError(f"{source} could not be read from the hub: {_reason(error)}") from None


def papers(architecture: Architecture) -> list[str]:
    """The papers behind a network: that of its mechanism, then that of its host."""
    options = architecture.options
    hosts = {
        "resnet": XIE if options.get("groups", 1) > 1 else HE,
        "video_resnet": WANG_NONLOCAL if options.get("inflation", "none") == "none" else CARREIRA,
        "mobilenet_v2": SANDLER,
        "unet": OKTAY if options.get("gates") else RONNEBERGER,
        "sononet": BAUMGARTNER,
        "ag_sononet": SCHLEMPER,
        "detr": CARION,
        "mask_rcnn": HE_MASKS,
        "transformer": VASWANI,
        "encoder_decoder": VASWANI,
        "attention_gate": OKTAY,
        "monai_attention_unet": OKTAY,
    }
    mechanism = _mechanism(architecture)
    found = [find_mechanism(mechanism).paper] if mechanism else []
    return [*found, hosts[architecture.kind]] if architecture.kind in hosts else found


def _mechanism(architecture: Architecture) -> str | None:
    return architecture.kind if architecture.kind in MECHANISMS else architecture.options.get("mechanism")


@cache
def _shared() -> Any:
    """The class that joins ours and the mixin; made on use, for the mixin is an extra."""
    if find_spec("huggingface_hub") is None:
        raise MissingExtra("huggingface-hub", "hub")
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download

    class Shared(ModelHubMixin, library_name="foveate", tags=["attention"], model_card_template=CARD):
        """A network, as the hub has it."""

        def __init__(self, network: nn.Module) -> None:
            if not header(network):
                kind = type(network).__name__
                raise TypeError(f"the hub gets a network of foveate.networks whose mechanism has a name; got {kind}")
            self.network = network
            self.architecture: Architecture = network.architecture  # pyright: ignore[reportAttributeAccessIssue]
            self._hub_mixin_config = json.loads(self.architecture.write())  # config.json, by which the hub counts

        def _save_pretrained(self, save_directory: Path) -> None:
            save_checkpoint(self.network, save_directory / FILE)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **options: Any) -> "Shared":
            asked = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            fetching = {name: options.pop(name) for name in asked}
            path = (
                Path(model_id, FILE) if Path(model_id).is_dir() else Path(hf_hub_download(model_id, FILE, **fetching))
            )
            return cls(from_checkpoint(path, **options))

        def generate_model_card(self, repo_id: str = "NAME", **_: Any) -> ModelCard:
            mechanism = _mechanism(self.architecture)
            count = sum(parameter.numel() for parameter in self.network.parameters())
            return ModelCard.from_template(
                card_data=self._hub_mixin_info.model_card_data,
                template_str=CARD,
                title=title(self.architecture),
                version=__version__,
                mechanism=f"`{mechanism}`: {find_mechanism(mechanism).summary}" if mechanism else "none",
                parameters=f"{count:,}",
                papers=papers(self.architecture),
                architecture=self.architecture.write(),
                repo_id=json.dumps(repo_id),
            )

    return Shared


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
