"""Write the digest of a model's card into it, after a figure in it was measured afresh; shipped models by default.

    python benchmarks/seal_cards.py [FOLDER ...]

Nothing else of the text changes. The hash of the model itself, ``sha256``, is that of its weights and stays.
"""

import re
import sys
import tomllib
from pathlib import Path

from latticediff.atomic import sealed_text
from latticediff.digests import CARD_KEY, with_digest
from latticediff.model.shipped import model_folder, model_names


def seal(folder):
    """Bring ``card_sha256`` of a model folder up to date; returns whether it changed."""
    path = Path(folder) / "card.toml"
    text = path.read_text(encoding="utf-8")
    digest = with_digest(tomllib.loads(text), CARD_KEY)[CARD_KEY]
    without = re.sub(rf"(?m)^{CARD_KEY} = .*\n", "", text)
    sealed = re.sub(r"(?m)^(sha256 = .*\n)", rf'\g<1>{CARD_KEY} = "{digest}"\n', without, count=1)
    if sealed != text:
        sealed_text(path, sealed)
    return sealed != text


if __name__ == "__main__":
    for name in sys.argv[1:] or model_names():
        print(f"{name}: {'sealed' if seal(model_folder(name)) else 'was sealed'}")
