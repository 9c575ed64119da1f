"""What adapted weights carry with them: their validation scores, as a text in the metadata."""

import json

from litemedsam_jax.adaptation.adapt import Adaptation
from litemedsam_jax.adaptation.scoring import mean
from litemedsam_jax.weights.adaptation_note import KEY


def metadata_of(adaptation: Adaptation, strategy: str) -> dict[str, str]:
    """The metadata of the weights file: a sentence for people, and the scores of each case."""
    record = {
        "summary": summary(adaptation, strategy),
        "strategy": strategy,
        "blend": adaptation.blend,
        "before": adaptation.before,
        "after": adaptation.after,
        "anchor_before": adaptation.anchor_before,
        "anchor_after": adaptation.anchor_after,
    }
    return {KEY: json.dumps(record)}


def summary(adaptation: Adaptation, strategy: str) -> str:
    """One sentence: mean DSC before and after, of how many cases."""
    text = (
        f"adapted weights: validation DSC {mean(adaptation.before):.3f} -> "
        f"{mean(adaptation.after):.3f} ({len(adaptation.before)} cases, --strategy {strategy})"
    )
    if adaptation.anchor_before:
        text += (
            f"; other kinds {mean(adaptation.anchor_before):.3f} -> "
            f"{mean(adaptation.anchor_after):.3f} ({len(adaptation.anchor_before)} cases)"
        )
    return text


def table(adaptation: Adaptation) -> str:
    """A line a case: DSC before, after, difference; validation first, then other kinds."""
    rows = [("validation", adaptation.before, adaptation.after)]
    rows.append(("other kinds", adaptation.anchor_before, adaptation.anchor_after))
    width = max(len(name) for _, scores, _ in rows for name in [*scores, "other kinds, mean"])
    lines = [f"{'DSC':<{width}}  before  after  change"]
    for title, before, after in rows:
        if not before:
            continue
        both = {name: (before[name], after[name]) for name in before}
        both[f"{title}, mean"] = (mean(before), mean(after))
        for name, (old, new) in both.items():
            lines.append(f"{name:<{width}}   {old:.3f}  {new:.3f}  {new - old:+.3f}")
    return "\n".join(lines)
