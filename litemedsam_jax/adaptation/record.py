"""What is said of an adaptation: tables for people, and a text in the weights' metadata."""

import json

from litemedsam_jax.adaptation.adapt import Adaptation
from litemedsam_jax.adaptation.scoring import mean
from litemedsam_jax.weights.adaptation_note import KEY


def metadata_of(adaptation: Adaptation, strategy: str) -> dict[str, str]:
    """The metadata of the weights file: a sentence for people, and the scores of each case."""
    record = {
        "summary": summary(adaptation, strategy),
        "strategy": strategy,
        "postprocess": adaptation.estimate.step,
        "blend": adaptation.blend,
        "before": adaptation.estimate.before,
        "after": adaptation.estimate.after,
        "anchor_before": adaptation.anchor_before,
        "anchor_after": adaptation.anchor_after.get(adaptation.blend, {}),
    }
    return {KEY: json.dumps(record)}


def summary(adaptation: Adaptation, strategy: str) -> str:
    """One sentence: mean DSC before and after, of how many cases."""
    before, after = adaptation.estimate.before, adaptation.estimate.after
    step = adaptation.estimate.step
    options = f"--strategy {strategy}" + (f" --postprocess {step}" if step else "")
    what = "adapted weights" if adaptation.blend else "weights as they were"
    text = (
        f"{what}: DSC of held-out cases {mean(before):.3f} -> {mean(after):.3f} "
        f"({len(before)} cases, {options})"
    )
    if kept := adaptation.anchor_after.get(adaptation.blend):
        text += (
            f"; other kinds {mean(adaptation.anchor_before):.3f} -> {mean(kept):.3f} "
            f"({len(kept)} cases)"
        )
    return text


def table(adaptation: Adaptation) -> str:
    """A line a case: DSC before, after, difference; held-out ones first, then other kinds."""
    kept = adaptation.anchor_after.get(adaptation.blend, {})
    rows = [
        ("held out", adaptation.estimate.before, adaptation.estimate.after),
        ("other kinds", adaptation.anchor_before if kept else {}, kept),
    ]
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


def blend_table(adaptation: Adaptation) -> str:
    """A line for each share of what was learned: gain of held-out cases, loss of other kinds."""
    before, start = mean(adaptation.anchor_before), adaptation.blends[0.0]
    lines = []
    if step := adaptation.estimate.step:
        lines.append(
            f"with --postprocess {step}: held-out cases {mean(adaptation.estimate.before):.3f} -> "
            f"{start:.3f} with the weights as they are"
        )
    lines.append("share learned  held out  change  other kinds  change")
    for share, dsc in sorted(adaptation.blends.items()):
        line = f"{share:13.2f}     {dsc:.3f}  {dsc - start:+.3f}"
        kept = adaptation.anchor_after.get(share)
        if kept:
            line += f"        {mean(kept):.3f}  {mean(kept) - before:+.3f}"
        elif share == 0 and adaptation.anchor_before:
            line += f"        {before:.3f}  {0:+.3f}"
        lines.append(line + ("  <- taken" if share == adaptation.blend != 0 else ""))
    return "\n".join(lines)
